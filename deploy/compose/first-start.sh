#!/bin/sh
# Founds the authority, enrols the three nodes, the clean room and the gateway, and adds one account.
# Run once, from anywhere; asks for the account's password.
set -eu
cd "$(dirname "$0")"
role() { docker compose run --rm --no-TTY "$@"; }

role authority authority init --config /etc/guildhall/authority.toml \
    --purpose transport_planning --purpose care_planning --purpose development
docker compose up --detach authority

invite() { docker compose exec --no-TTY authority /usr/bin/guildhall authority invite --config /etc/guildhall/authority.toml "$@"; }
for department in parking highways social_care; do
    invite --role node --department "$department" --name "$department-1" |
        role "node-$department" node enrol --config /etc/guildhall/node.toml
done
invite --role clean-room --name main | role clean-room clean-room enrol --config /etc/guildhall/clean-room.toml
invite --role gateway --name main | role gateway gateway enrol --config /etc/guildhall/gateway.toml

printf 'Password for account ana (12 characters or more): ' >&2
docker compose exec --no-TTY authority /usr/bin/guildhall authority add-account \
    --config /etc/guildhall/authority.toml ana --purpose transport_planning --purpose development
