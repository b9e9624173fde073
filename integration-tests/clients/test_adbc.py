"""What an analyst does from Python with the ADBC driver."""

import os
import threading
import time

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from adbc_driver_flightsql import DatabaseOptions

from conftest import options

UNION = "SELECT council, count(*) AS n FROM city.parking.occupancy GROUP BY council ORDER BY council"
CELLS = "SELECT ward, count(*) AS n, sum(paid) AS paid FROM northmoor.parking.sessions GROUP BY ward ORDER BY ward"


def fetch(connection, statement, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetch_arrow_table()


COUNCILS = ["eastfold", "northmoor", "southmere", "westhaven"]


def test_a_union_over_four_nodes_has_the_numbers_of_the_raw_files(ana):
    table = fetch(
        ana,
        "SELECT council, count(*) AS n, sum(occupied) AS taken, max(ts) AS last "
        "FROM city.parking.occupancy GROUP BY council ORDER BY council",
    )
    raw = [
        pyarrow.parquet.read_table(f"{os.environ['GUILDHALL_RAW_CITY']}/{council}/parking/imports/occupancy.parquet")
        for council in COUNCILS
    ]
    assert table["council"].to_pylist() == COUNCILS
    assert table["n"].to_pylist() == [r.num_rows for r in raw]
    assert table["taken"].to_pylist() == [sum(r["occupied"].to_pylist()) for r in raw]
    assert table["last"].to_pylist() == [max(r["ts"].to_pylist()) for r in raw]


def test_the_schema_that_was_declared_is_the_schema_that_comes(ana):
    for statement in [UNION, CELLS, "SELECT min(occupied), max(ts), 1 AS one, NULL AS nothing FROM northmoor.parking.occupancy"]:
        with ana.cursor() as cursor:
            declared = cursor.adbc_execute_schema(statement)
            cursor.execute(statement)
            assert cursor.fetch_arrow_table().schema.equals(declared), statement


def test_rows_stream_in_batches(ana, ready):
    with ana.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {ready['open_product']}")
        reader = cursor.fetch_record_batch()
        assert sum(batch.num_rows for batch in reader) >= 1000


def test_a_parameter_is_bound_by_its_type(ana):
    some = "SELECT count(*) FROM northmoor.parking.occupancy WHERE car_park = ? AND occupied >= ?"
    with_literals = "SELECT count(*) FROM northmoor.parking.occupancy WHERE car_park = 'P01' AND occupied >= 10"
    assert fetch(ana, some, ("P01", 10))[0].to_pylist() == fetch(ana, with_literals)[0].to_pylist()


def test_a_null_parameter_matches_nothing(ana):
    statement = "SELECT count(*) AS n FROM northmoor.parking.occupancy WHERE car_park = $1"
    parameters = pyarrow.record_batch({"1": pyarrow.array([None], pyarrow.string())})
    assert fetch(ana, statement, parameters)["n"].to_pylist() == [0]


def test_each_row_of_parameters_is_answered(ana):
    statement = "SELECT car_park, spaces FROM northmoor.parking.car_parks WHERE car_park = $1"
    parameters = pyarrow.record_batch({"1": pyarrow.array(["P02", "nowhere", "P01"])})
    assert fetch(ana, statement, parameters)["car_park"].to_pylist() == ["P02", "P01"]


def test_a_prepared_statement_can_be_asked_again(ana):
    with ana.cursor() as cursor:
        statement = "SELECT spaces FROM northmoor.parking.car_parks WHERE car_park = $1"
        cursor.execute(statement, ("P01",))
        first = cursor.fetchone()
        cursor.execute(statement, ("P02",))
        second = cursor.fetchone()
        cursor.execute(statement, ("P01",))
        assert cursor.fetchone() == first != second


def test_what_may_be_seen_is_browsed(ana):
    catalogues = ana.adbc_get_objects(depth="all").read_all().to_pylist()
    seen = {
        (c["catalog_name"], s["db_schema_name"], t["table_name"]): [k["column_name"] for k in t["table_columns"]]
        for c in catalogues
        for s in c["catalog_db_schemas"]
        for t in s["db_schema_tables"]
    }
    assert "spaces" in seen["northmoor", "parking", "car_parks"]
    assert seen["city", "parking", "occupancy"][0] == "council"
    assert not any("social_care" in name for name in seen), "no account here may see that department"
    assert ana.adbc_get_table_types()
    schema = ana.adbc_get_table_schema("car_parks", catalog_filter="northmoor", db_schema_filter="parking")
    assert schema.field("spaces").type == pyarrow.int64()
    assert ana.adbc_get_info()["vendor_name"]


def test_information_schema_shows_the_same(ana):
    table = fetch(ana, "SELECT table_catalog, table_schema, table_name FROM information_schema.tables WHERE table_schema = 'parking'")
    assert ("northmoor", "parking", "occupancy") in [tuple(row.values()) for row in table.to_pylist()]
    assert "social_care" not in str(fetch(ana, "SELECT * FROM information_schema.columns").to_pylist())


def test_explain_says_where_and_what_leaves(ana):
    text = str(fetch(ana, f"EXPLAIN {UNION}").to_pylist())
    assert "spiffe://northmoor/parking/node" in text and "spiffe://southmere/parking/node" in text


def test_pandas_and_polars_read_it(ana):
    frame = pandas.read_sql(CELLS, ana)
    assert len(frame) > 3 and frame["n"].sum() > 0
    frame = polars.read_database(CELLS, ana)
    assert frame["n"].sum() > 0


def test_a_refusal_says_what_to_ask_instead(ana):
    with ana.cursor() as cursor, pytest.raises(adbc_driver_manager.Error) as refused:
        cursor.execute("SELECT vehicle FROM northmoor.parking.sessions")
    assert refused.value.status_code == adbc_driver_manager.AdbcStatusCode.UNAUTHORIZED
    assert "help" in str(refused.value)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE northmoor.parking.occupancy",
        "INSERT INTO northmoor.parking.occupancy VALUES (1)",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM generate_series(1, 10)",
        "SET datafusion.execution.batch_size = 1",
        "SELEC 1",
        "SELECT " + " + ".join(["1"] * 20_000),
    ],
    ids=lambda s: s[:24],
)
def test_a_statement_that_is_no_question_is_refused_and_nothing_breaks(ana, statement):
    with ana.cursor() as cursor, pytest.raises(adbc_driver_manager.Error):
        cursor.execute(statement)
        cursor.fetchall()
    assert fetch(ana, "SELECT 1 AS one")["one"].to_pylist() == [1]


def test_a_wrong_password_is_refused(ready, ca):
    how = options(ready, ca) | {"password": "not the password"}
    with pytest.raises(adbc_driver_manager.Error) as refused:
        with adbc_driver_flightsql.dbapi.connect(ready["uri"], db_kwargs=how, autocommit=True) as connection:
            connection.cursor().execute("SELECT 1")
    assert refused.value.status_code == adbc_driver_manager.AdbcStatusCode.UNAUTHENTICATED


def test_an_unknown_purpose_is_refused_with_those_one_holds(connect):
    connection = connect(purpose="curiosity")
    with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error) as refused:
        cursor.execute(UNION)
    assert "transport_planning" in str(refused.value)


@pytest.fixture()
def by_certificate(ready, ca):
    how = {
        DatabaseOptions.TLS_ROOT_CERTS.value: ca,
        DatabaseOptions.MTLS_CERT_CHAIN.value: open(ready["client"]["cert"]).read(),
        DatabaseOptions.MTLS_PRIVATE_KEY.value: open(ready["client"]["key"]).read(),
        "adbc.flight.sql.rpc.call_header.x-guildhall-purpose": "transport_planning",
    }
    with adbc_driver_flightsql.dbapi.connect(ready["uri"], db_kwargs=how, autocommit=True) as connection:
        yield connection


def test_a_client_certificate_speaks_in_every_council(by_certificate, ana):
    table = fetch(by_certificate, UNION)
    assert table["council"].to_pylist() == COUNCILS
    assert table.equals(fetch(ana, UNION))
    assert fetch(by_certificate, CELLS).equals(fetch(ana, CELLS))


def test_a_client_certificate_has_the_standing_of_its_account_and_no_more(by_certificate, ana):
    tables = "SELECT table_catalog, table_schema, table_name FROM information_schema.tables ORDER BY 1, 2, 3"
    assert fetch(by_certificate, tables).equals(fetch(ana, tables))
    # Private products are for a council's own analysts: another council's are not told of them.
    elsewhere = CELLS.replace("northmoor", "westhaven")
    told = []
    for connection in [by_certificate, ana]:
        with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error) as refused:
            cursor.execute(elsewhere)
        told.append((refused.value.status_code, str(refused.value).split("query:")[0]))
    assert told[0] == told[1]


def test_a_running_query_is_cancelled(ana):
    # A product of a product with itself: far more rows than anybody waits for.
    long = (
        "SELECT a.occupied FROM northmoor.parking.occupancy a CROSS JOIN northmoor.parking.occupancy b "
        "CROSS JOIN northmoor.parking.occupancy c"
    )
    with ana.cursor() as cursor:
        cursor.execute(long)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        stop = threading.Timer(0.2, cursor.adbc_cancel)
        stop.start()
        began = time.monotonic()
        with pytest.raises((adbc_driver_manager.Error, OSError, pyarrow.ArrowException)):
            while True:
                reader.read_next_batch()
        assert time.monotonic() - began < 20
        stop.join()
    assert fetch(ana, "SELECT 1 AS one")["one"].to_pylist() == [1]
