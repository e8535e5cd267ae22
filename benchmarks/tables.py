"""Whether memory grows with a table: peak resident memory of writing CSV and Parquet, and of reading Parquet.

    python -m benchmarks.tables [--rows 20000,200000]

Each measurement is a process of its own and prints one JSON line. The rows written are outputs with answers of 600
characters and their values in JSON; those read hold a picture of 60 kB each, in row groups of 1,000, a tenth as many.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixano_vlm.inputs.parquet_rows import ParquetRows
from pixano_vlm.outputs.tables import write_csv, write_parquet

PICTURE = 60_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="20000,200000")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "ROWS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one[0], int(args.one[1]))
        return
    for what in ("write csv", "write parquet", "read parquet"):
        for rows in args.rows.split(","):
            subprocess.run([sys.executable, "-m", "benchmarks.tables", "--one", what, rows], check=True)


def one(what: str, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        if what == "read parquet":
            rows //= 10
            if os.fork() == 0:  # so that writing it is none of the memory that is measured
                write_pictures(path, rows)
                os._exit(0)
            os.wait()
        began = time.perf_counter()
        if what == "read parquet":
            assert sum(1 for _ in ParquetRows(path).rows()) == rows
        else:
            {"write csv": write_csv, "write parquet": write_parquet}[what](lines(rows), path)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = path.stat().st_size / 2**20
    print(json.dumps({
        "what": what, "rows": rows, "megabytes": round(size, 1), "peak_mib": round(peak, 1),
        "rows_per_second": round(rows / seconds),
    }), flush=True)  # fmt: skip


def lines(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        text = f"answer {number} of a model that says a lot " * 15
        yield {
            "id": f"record-{number}", "status": "ok", "generated_text": text,
            "usage": {"prompt_tokens": 90, "completion_tokens": 120, "total_tokens": 210},
            "generation_config": {"max_new_tokens": 128}, "finish_reason": "stop", "parsed": {"text": text},
            "error": None, "flags": [], "attempts": 1, "model": "m", "images": [f"images/{number}.jpg"],
            "metadata": {"number": number},
        }  # fmt: skip


def write_pictures(path: Path, rows: int) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    schema = arrow.schema(
        [
            ("prompt", arrow.string()),
            ("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1000):
            count = min(1000, rows - start)
            pictures = [{"bytes": os.urandom(PICTURE), "path": None} for _ in range(count)]
            writer.write_table(
                arrow.Table.from_pydict({"prompt": ["What?"] * count, "image": pictures}, schema), 1000
            )


if __name__ == "__main__":
    main()
