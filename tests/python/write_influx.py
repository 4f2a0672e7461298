"""Writes to our intake with InfluxDB's own clients, for either version of its protocol.

Called by tests/tests/end_to_end/influx_clients.rs with the address and a key; the test asks the API for what arrived.
"""

import sys

import influxdb
import influxdb_client
from influxdb_client.client.write_api import SYNCHRONOUS

host, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
MILLIS = 1_767_225_600_000


def version_1(device, gzip, millis):
    """Name and password, a database, points as dictionaries; the second of them holds what must be escaped."""
    client = influxdb.InfluxDBClient(host, port, "anybody", key, "plant", gzip=gzip)
    tags = {"host": device, "cpu": "cpu 0,x=y"}
    points = [
        {"measurement": "cpu", "tags": tags, "time": millis, "fields": {"idle": 1.5, "on": True, "count": 7, "note": 'a "b"\nc'}},
        {"measurement": "room temp", "tags": {"host": device}, "time": millis + 1, "fields": {"in side": 21.0}},
    ]
    assert client.write_points(points, time_precision="ms")


def version_2(device, gzip, millis):
    """A token, an organization, a bucket, points that are built; times in nanoseconds unless told."""
    with influxdb_client.InfluxDBClient(f"http://{host}:{port}", token=key, org="acme", enable_gzip=gzip) as client:
        write = client.write_api(write_options=SYNCHRONOUS)
        point = influxdb_client.Point("cpu").tag("host", device).tag("cpu", "cpu 0,x=y")
        point = point.field("idle", 1.5).field("on", True).field("count", 7).field("note", 'a "b"\nc')
        other = influxdb_client.Point("room temp").tag("host", device).field("in side", 21.0)
        write.write("bucket", record=[point.time(millis * 1_000_000), other.time((millis + 1) * 1_000_000)])
        write.write("bucket", record=f"cpu,host={device} idle=2 {millis // 1000 + 5}", write_precision="s")


def partial(device):
    """What both clients make of a batch of which one line is bad."""
    lines = f"cpu,host={device} idle=1 {MILLIS}\ncpu,host={device} idle=x {MILLIS}"
    try:
        influxdb.InfluxDBClient(host, port, "anybody", key, "plant").write_points(lines.split("\n"), time_precision="ms", protocol="line")
        raise SystemExit("version 1 was not told of the bad line")
    except influxdb.exceptions.InfluxDBClientError as error:
        assert error.code == 400 and "partial write" in str(error), error
    with influxdb_client.InfluxDBClient(f"http://{host}:{port}", token=key, org="acme") as client:
        try:
            client.write_api(write_options=SYNCHRONOUS).write("bucket", record=lines, write_precision="ms")
            raise SystemExit("version 2 was not told of the bad line")
        except influxdb_client.rest.ApiException as error:
            assert error.status == 400 and "partial write" in error.message, error


def strangers():
    """A wrong key is no key."""
    try:
        influxdb.InfluxDBClient(host, port, "anybody", "hbr_wrong", "plant").write_points(["cpu,host=a b=1 1"], protocol="line")
        raise SystemExit("a wrong password was let in")
    except influxdb.exceptions.InfluxDBClientError as error:
        assert error.code == 401, error


for gzip in (False, True):
    version_1(f"one-{gzip}", gzip, MILLIS)
    version_2(f"two-{gzip}", gzip, MILLIS)
partial("three")
strangers()
