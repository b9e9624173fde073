#!/bin/sh
# Builds and runs this folder's `protoc` in a target folder of its own, so that it can be
# called from a build script while cargo holds the lock on the usual one.
here=$(dirname "$0")
unset RUSTC_WORKSPACE_WRAPPER RUSTC_WRAPPER CARGO_ENCODED_RUSTFLAGS RUSTFLAGS CARGO_BUILD_TARGET
exec "${CARGO:-cargo}" run --quiet --locked --manifest-path "$here/Cargo.toml" \
    --target-dir "${CARGO_TARGET_DIR:-$here/../../target}/protoc" --bin protoc -- "$@"
