"""A long manifest in many Parquet shards: read through, killed over and over, resumed from the middle.

    python -m benchmarks.shards [--records 1000000] [--shards 200] [--kills 50] [--folder DIR]

A model that answers at once, so that all that is measured is reading, answering, writing and finding out what is
done. One run goes through by itself. Another is killed at random moments, some while it looks for what is done, and
resumed, and begun again where it came to its end: both outputs must be the same, and each resumed run must have
found every line that the killed one had written. Every run is a process of its own. The last line printed is JSON:
whether all that held, records per second, the seconds from the start of a process to its first new answer when half
is done, and peak resident memory, also of a run over a hundredth of the shards.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

RANDOM_STARTS = 0.2
"""Share of the kills that come while a run has answered nothing yet."""


def write_shards(folder: Path, records: int, shards: int) -> None:
    """Writes `records` rows with an id, a prompt and an answer to `shards` files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        numbers = range(shard * records // shards, (shard + 1) * records // shards)
        table = pa.table(
            {
                "id": [f"record-{n}" for n in numbers],
                "prompt": [f"What is on image {n}?" for n in numbers],
                "answer": [str(n) for n in numbers],
            }
        )
        pq.write_table(table, folder / f"part-{shard:05d}.parquet")


def run(source: str, output: Path) -> None:
    """One process: resumes or begins the run; says when its first answer came, and at its end what it did."""
    from benchmarks.records import Instant
    from pixano_vlm.inputs.open import open_source
    from pixano_vlm.models import GenerationSettings, ModelDeploymentConfig
    from pixano_vlm.records.result import Result
    from pixano_vlm.runs.open import OpenOptions
    from pixano_vlm.runs.options import RunOptions
    from pixano_vlm.runs.run import Run

    first = 0.0

    def on_result(result: Result) -> None:
        nonlocal first
        if not first:
            first = time.monotonic() - STARTED
            print(json.dumps({"first": round(first, 2), "reused": going.summary.reused}), flush=True)

    going = Run(
        RunOptions(
            source=open_source([source]),
            model=Instant(ModelDeploymentConfig(name="instant")),
            output=output,
            opening=OpenOptions(resume=True),
            settings=GenerationSettings(temperature=0, max_new_tokens=16),
        )
    )
    began = time.monotonic()
    summary = going.finish(on_result)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    done = {"ok": summary.ok, "reused": summary.reused, "seconds": seconds, "peak_mib": round(peak, 1)}
    print(json.dumps({"first": round(first, 2), **done}), flush=True)


class Child:
    """A run in a process of its own."""

    def __init__(self, source: str, output: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.shards", "--run", source, str(output)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._last: dict[str, Any] = {}

    def first_answer(self) -> dict[str, Any] | None:
        """Waits for it; None where there is nothing left to answer."""
        line: dict[str, Any] = json.loads(self._lines.readline())
        self._last = line
        return None if "ok" in line else line

    def end(self) -> dict[str, Any]:
        """Waits for its end; what it did."""
        for line in self._lines:
            self._last = json.loads(line)
        if self._process.wait():
            sys.exit(f"a run ended with exit code {self._process.returncode}")
        return self._last

    def kill_after(self, seconds: float) -> bool:
        """Kills it; False where it had come to its end by itself."""
        try:
            return self._process.wait(seconds) != 0
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            return self._process.wait() == -signal.SIGKILL


def lines_in(output: Path) -> int:
    """Whole lines."""
    if not output.exists():
        return 0
    with output.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 24), b""))


def kill_over_and_over(source: str, whole: Path, kills: int, seconds: float, seed: int) -> dict[str, Any]:
    """Kills a run `kills` times, and as often as it comes to its end compares what it wrote and begins again.

    Args:
        source: What is read.
        whole: What an undisturbed run wrote.
        kills: How often.
        seconds: What the undisturbed run took; the kills are spread over it.
        seed: Of the random moments.
    """
    choose = random.Random(seed)
    output = whole.with_name("killed.jsonl")
    lost, done, until_first, ended, equal = 0, 0, 3.0, 0, True
    while done < kills or output.exists():
        child = Child(source, output)
        if done < kills and choose.random() < RANDOM_STARTS:
            done += child.kill_after(choose.uniform(0, until_first))
            continue
        written = lines_in(output)
        first = child.first_answer()
        if first is not None:
            lost += max(0, written - int(first["reused"]))
            until_first = float(first["first"])
            if done < kills:
                done += child.kill_after(choose.uniform(0, 2 * seconds / kills))
                print(
                    f"{done} kills, {lines_in(output):,} lines, {until_first} s to the first", file=sys.stderr
                )
                continue
        child.end()
        ended += 1
        equal = equal and filecmp.cmp(whole, output, shallow=False)
        for file in output.parent.glob("killed.jsonl*"):
            file.unlink()
    return {"kills": done, "lost_answers": lost, "came_to_its_end": ended, "equal": equal}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Writes the shards and runs everything."""
    shards = folder / "shards"
    write_shards(shards, options.records, options.shards)
    few = folder / "few"
    write_shards(few, max(1, options.records // 100), max(2, options.shards // 100))
    small = Child(str(few), folder / "few.jsonl")
    small.first_answer()
    small_peak = small.end()["peak_mib"]
    whole = Child(str(shards), folder / "whole.jsonl")
    whole.first_answer()
    undisturbed = whole.end()
    halved = half_done(str(shards), folder)
    killed = kill_over_and_over(
        str(shards), folder / "whole.jsonl", options.kills, undisturbed["seconds"], options.seed
    )
    return {
        "records": options.records,
        "shards": options.shards,
        **killed,
        "all_answered": undisturbed["ok"] == lines_in(folder / "whole.jsonl") == options.records,
        "records_per_second": round(options.records / undisturbed["seconds"]),
        "first_answer_when_half_is_done_s": halved,
        "peak_mib": undisturbed["peak_mib"],
        "peak_mib_of_a_hundredth": small_peak,
    }


def half_done(source: str, folder: Path) -> float:
    """Seconds from the start of a process to its first new answer, of a run that was killed in its middle."""
    output = folder / "half.jsonl"
    child = Child(source, output)
    child.first_answer()
    half = lines_in(folder / "whole.jsonl") // 2
    while lines_in(output) < half:
        time.sleep(0.2)
    child.kill_after(0)
    child = Child(source, output)
    first = child.first_answer()
    assert first is not None
    child.kill_after(0)
    return float(first["first"])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="Where the files go. Default: a temporary folder.")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run[0], Path(options.run[1]))
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (".", os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(options, options.folder or Path(temporary))), flush=True)


if __name__ == "__main__":
    main()
