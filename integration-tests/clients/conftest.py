"""A running city, described by the ready file that GUILDHALL_READY_FILE names."""

import json
import os
import pathlib

import adbc_driver_flightsql.dbapi
import pytest
from adbc_driver_flightsql import DatabaseOptions

HEADER = "adbc.flight.sql.rpc.call_header."


@pytest.fixture(scope="session")
def ready():
    return json.loads(pathlib.Path(os.environ["GUILDHALL_READY_FILE"]).read_text())


@pytest.fixture(scope="session")
def ca(ready):
    return pathlib.Path(ready["ca"]).read_text()


def options(ready, ca, account="ana", purpose="transport_planning", **more):
    known = {
        DatabaseOptions.TLS_ROOT_CERTS.value: ca,
        "username": account,
        "password": ready["accounts"][account]["password"],
    }
    if purpose:
        known[HEADER + "x-guildhall-purpose"] = purpose
    return known | more


@pytest.fixture()
def connect(ready, ca):
    """Opens connections; closes them at the end of the test."""
    opened = []

    def open_one(**how):
        connection = adbc_driver_flightsql.dbapi.connect(ready["uri"], db_kwargs=options(ready, ca, **how), autocommit=True)
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture()
def ana(connect):
    return connect()
