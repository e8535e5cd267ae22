"""The suite's two commands; see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from tests.conformance.findings import Finding, read_findings, write_findings
from tests.conformance.table import Table, write_table
from tests.tiny import ARCHITECTURES
from transformers.utils import logging


def run(names: list[str], output: Path) -> int:
    """Runs checkpoints and writes what was found; 1 where one is not exact."""
    from tests.conformance.running import examine

    torch.set_num_threads(1)  # matrices this small are slower on several
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    found: list[Finding] = []
    for name in names:
        missing = ARCHITECTURES[name].missing
        if missing:
            print(f"{name:28} left out: needs {', '.join(missing)}", file=sys.stderr)
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            finding = examine(name, Path(folder))
        found.append(finding)
        write_findings(found, output)
        way = "in flight" if finding.in_flight else "static"
        result = "exact" if finding.exact else f"NOT EXACT {finding.failure or finding.wrong}"
        seconds = time.perf_counter() - began
        print(f"{name:28} {way:10} {result}  ({finding.tokens} tokens, {seconds:.0f} s)", file=sys.stderr)
    return 0 if all(finding.exact for finding in found) else 1


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the tiny checkpoints that this environment can build")
    running.add_argument("--types", help="only these, comma between; default: all")
    running.add_argument("-o", "--output", type=Path, required=True, help="where the findings go")
    writing = commands.add_parser("write", help="make docs/models.json and docs/models.md of findings")
    writing.add_argument("findings", type=Path, nargs="+", help="files that `run` wrote")
    arguments = parser.parse_args()
    if arguments.command == "write":
        table = Table.of([finding for file in arguments.findings for finding in read_findings(file)])
        write_table(table)
        print(table.totals)
        return 0
    names = arguments.types.split(",") if arguments.types else list(ARCHITECTURES)
    unknown = [name for name in names if name not in ARCHITECTURES]
    if unknown:
        parser.error(f"no tiny checkpoint {', '.join(unknown)}; there are {', '.join(ARCHITECTURES)}")
    return run(names, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
