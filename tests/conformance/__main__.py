"""The suite's two commands; see the package."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.conformance.findings import Finding, read_findings, write_findings
from tests.conformance.running import examine_timed, quieten
from tests.conformance.table import Table, write_table
from tests.tiny import ARCHITECTURES


def run(names: list[str], output: Path, workers: int) -> int:
    """Runs checkpoints and writes what was found; 1 where one is not exact."""
    found: list[Finding] = []
    able = []
    for name in names:
        missing = ARCHITECTURES[name].missing
        if missing:
            print(f"{name:28} left out: needs {', '.join(missing)}", file=sys.stderr)
        else:
            able.append(name)
    # Processes of their own, each begun anew: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=quieten) as pool:
        for finding, seconds in pool.map(examine_timed, able):
            found.append(finding)
            write_findings(found, output)
            way = "in flight" if finding.in_flight else "static"
            result = "exact" if finding.exact else f"NOT EXACT {finding.failure or finding.wrong}"
            print(
                f"{finding.checkpoint:28} {way:10} {result}  ({finding.tokens} tokens, {seconds:.0f} s)",
                file=sys.stderr,
            )
    return 0 if all(finding.exact for finding in found) else 1


def write(files: list[Path]) -> int:
    """Writes the table anew; 1 where the one that stood there said something else."""
    table = Table.of([finding for file in files for finding in read_findings(file)])
    stale = table.differences(Table.read())
    write_table(table)
    print(table.totals)
    for difference in stale:
        print(f"docs/reference/models.json said otherwise: {difference}", file=sys.stderr)
    return 1 if stale else 0


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the tiny checkpoints that this environment can build")
    running.add_argument("--types", help="only these, comma between; default: all")
    running.add_argument("-o", "--output", type=Path, required=True, help="where the findings go")
    running.add_argument("-j", "--workers", type=int, default=1, help="checkpoints at a time; default: 1")
    writing = commands.add_parser(
        "write", help="make docs/reference/models.json and models.md of findings; 1 where they said otherwise"
    )
    writing.add_argument("findings", type=Path, nargs="+", help="files that `run` wrote")
    arguments = parser.parse_args()
    if arguments.command == "write":
        return write(arguments.findings)
    names = arguments.types.split(",") if arguments.types else list(ARCHITECTURES)
    unknown = [name for name in names if name not in ARCHITECTURES]
    if unknown:
        parser.error(f"no tiny checkpoint {', '.join(unknown)}; there are {', '.join(ARCHITECTURES)}")
    return run(names, arguments.output, arguments.workers)


if __name__ == "__main__":
    sys.exit(main())
