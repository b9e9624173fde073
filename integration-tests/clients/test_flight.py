"""The same door by hand, with pyarrow.flight."""

import pyarrow
import pyarrow.flight
import pytest


def field(number, payload):
    """A length-delimited protobuf field."""
    length, out = len(payload), bytearray()
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(out) + bytes([length]) + payload


def command(name, *fields):
    """A Flight SQL command in its google.protobuf.Any."""
    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()
    return field(1, url) + field(2, b"".join(fields))


def statement(sql):
    return pyarrow.flight.FlightDescriptor.for_command(command("CommandStatementQuery", field(1, sql.encode())))


@pytest.fixture()
def client(ready, ca):
    with pyarrow.flight.FlightClient(ready["uri"], tls_root_certs=ca) as client:
        yield client


@pytest.fixture()
def call(client, ready):
    pair = client.authenticate_basic_token("ana", ready["accounts"]["ana"]["password"])
    return pyarrow.flight.FlightCallOptions(headers=[pair, (b"x-guildhall-purpose", b"transport_planning")])


def test_a_statement_is_one_endpoint_without_location_or_totals(client, call, ready):
    info = client.get_flight_info(statement(f"SELECT * FROM {ready['open_product']}"), call)
    assert len(info.endpoints) == 1 and not info.endpoints[0].locations
    assert info.total_records == -1 and info.total_bytes == -1
    table = client.do_get(info.endpoints[0].ticket, call).read_all()
    assert table.num_rows >= 1000 and table.schema.equals(info.schema)


def test_get_schema_says_the_same(client, call):
    descriptor = statement("SELECT council, count(*) FROM city.parking.occupancy GROUP BY council")
    info = client.get_flight_info(descriptor, call)
    assert client.get_schema(descriptor, call).schema.equals(info.schema)


def test_nothing_is_told_to_who_did_not_sign_in(client):
    for sql in ["SELECT 1", "SELECT * FROM northmoor.parking.car_parks"]:
        with pytest.raises(pyarrow.flight.FlightUnauthenticatedError):
            client.get_flight_info(statement(sql))
    for name in ["CommandGetTables", "CommandGetCatalogs", "CommandGetSqlInfo"]:
        with pytest.raises(pyarrow.flight.FlightUnauthenticatedError):
            client.get_flight_info(pyarrow.flight.FlightDescriptor.for_command(command(name)))


def test_a_ticket_is_its_owners_alone(client, call, ready):
    info = client.get_flight_info(statement("SELECT * FROM northmoor.parking.car_parks"), call)
    ticket = info.endpoints[0].ticket
    pair = client.authenticate_basic_token("cara", ready["accounts"]["cara"]["password"])
    cara = pyarrow.flight.FlightCallOptions(headers=[pair, (b"x-guildhall-purpose", b"care_planning")])
    with pytest.raises((pyarrow.flight.FlightError, pyarrow.ArrowException)):
        client.do_get(ticket, cara).read_all()
    with pytest.raises((pyarrow.flight.FlightError, pyarrow.ArrowException)):
        client.do_get(pyarrow.flight.Ticket(ticket.ticket[:-1] + bytes([ticket.ticket[-1] ^ 1])), call).read_all()
    with pytest.raises((pyarrow.flight.FlightError, pyarrow.ArrowException)):
        client.do_get(pyarrow.flight.Ticket(b"SELECT 1"), call).read_all()
    assert client.do_get(ticket, call).read_all().num_rows > 0


def test_what_the_door_does_not_do_it_says(client, call):
    update = command("CommandStatementUpdate", field(1, b"DELETE FROM northmoor.parking.car_parks"))
    with pytest.raises((pyarrow.flight.FlightError, NotImplementedError, pyarrow.ArrowException)):
        writer, _ = client.do_put(
            pyarrow.flight.FlightDescriptor.for_command(update), pyarrow.schema([]), call
        )
        writer.done_writing()
        writer.close()
