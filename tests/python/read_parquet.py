"""Reads an export in Parquet with pandas and with DuckDB and prints, as JSON, what each of them makes of it.

Called by tests/tests/end_to_end/export.rs with the folder of the export; the test compares both with what the API says.
"""

import json
import sys
from pathlib import Path

import duckdb
import pandas
import pyarrow.parquet

folder = Path(sys.argv[1])


def by_pandas():
    telemetry = pandas.read_parquet(folder / "telemetry.parquet")
    events = pandas.read_parquet(folder / "events.parquet")
    devices = pandas.read_parquet(folder / "devices.parquet")
    signals = telemetry.columns[2:]
    return {
        "rows": len(telemetry),
        "time_type": str(telemetry["ts"].dtype),
        "signal_types": sorted({str(telemetry[signal].dtype) for signal in signals}),
        "first": telemetry["ts"].min().isoformat(),
        "last": telemetry["ts"].max().isoformat(),
        "in_order": bool(telemetry[["device", "ts"]].apply(tuple, axis=1).is_monotonic_increasing),
        "rows_of_devices": telemetry.groupby("device").size().to_dict(),
        "counts": {signal: int(telemetry[signal].count()) for signal in signals},
        "sums": {signal: float(telemetry[signal].sum()) for signal in signals},
        "events": len(events),
        "critical": int((events["severity"] == "critical").sum()),
        "joined": len(telemetry.merge(devices, on="device")),
    }


def by_duckdb():
    query = duckdb.connect()
    query.execute("set timezone = 'UTC'")
    file = lambda table: f"read_parquet('{folder / table}.parquet')"
    one = lambda sql: query.execute(sql).fetchone()
    quoted = lambda name: '"' + name.replace('"', '""') + '"'
    columns = query.execute(f"describe select * from {file('telemetry')}").fetchall()
    types = {column[0]: column[1] for column in columns}
    signals = list(types)[2:]
    rows, first, last = one(f"select count(*), min(ts), max(ts) from {file('telemetry')}")
    count = lambda signal: one(f"select count({quoted(signal)}) from {file('telemetry')}")[0]
    total = lambda signal: one(f"select coalesce(sum({quoted(signal)}), 0) from {file('telemetry')}")[0]
    in_order = f"select device, ts, lag((device, ts)) over () as before from {file('telemetry')}"
    return {
        "rows": rows,
        "time_type": types["ts"],
        "signal_types": sorted({types[signal] for signal in signals}),
        "first": first.isoformat(),
        "last": last.isoformat(),
        "in_order": one(f"select count(*) from ({in_order}) where before > (device, ts)")[0] == 0,
        "rows_of_devices": dict(query.execute(f"select device, count(*) from {file('telemetry')} group by 1").fetchall()),
        "counts": {signal: count(signal) for signal in signals},
        "sums": {signal: total(signal) for signal in signals},
        "events": one(f"select count(*) from {file('events')}")[0],
        "critical": one(f"select count(*) from {file('events')} where severity = 'critical'")[0],
        "joined": one(f"select count(*) from {file('telemetry')} join {file('devices')} using (device)")[0],
    }


parquet = pyarrow.parquet.ParquetFile(folder / "telemetry.parquet")
metadata = {key.decode(): value.decode() for key, value in parquet.metadata.metadata.items()}
groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
print(json.dumps({"pandas": by_pandas(), "duckdb": by_duckdb(), "metadata": metadata, "groups": groups}))
