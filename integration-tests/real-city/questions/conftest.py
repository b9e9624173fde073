"""A running city of real data, and the raw files it was made from."""

import json
import os
import pathlib
import sys

import adbc_driver_flightsql.dbapi
import pytest
from adbc_driver_flightsql import DatabaseOptions

sys.dont_write_bytecode = True


@pytest.fixture(scope="session")
def connect():
    """Opens a connection of an account for a purpose; closes all of them at the end."""
    ready = json.loads(pathlib.Path(os.environ["GUILDHALL_READY_FILE"]).read_text())
    opened = []

    def open_one(account, purpose):
        how = {
            DatabaseOptions.TLS_ROOT_CERTS.value: pathlib.Path(ready["ca"]).read_text(),
            "username": account,
            "password": ready["accounts"][account]["password"],
            "adbc.flight.sql.rpc.call_header.x-guildhall-purpose": purpose,
        }
        opened.append(adbc_driver_flightsql.dbapi.connect(ready["uri"], db_kwargs=how, autocommit=True))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def asker(connection):
    def ask(statement, parameters=None):
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetch_arrow_table()

    return ask


@pytest.fixture(scope="session")
def ana(connect):
    """Asks as an analyst."""
    return asker(connect("ana", "service_review"))


@pytest.fixture(scope="session")
def ida(connect):
    """Asks as an internal auditor."""
    return asker(connect("ida", "fraud_prevention"))
