"""What records/ and job.py cost beside a model that answers at once: time, memory, and how soon a resume starts.

    python benchmarks/records.py [--records 10000,100000,1000000] [--folder DIR]

Each measurement is a process of its own. Prints one JSON line for each: records a second end to end (reading,
answering, writing, ordering) by the clock and by this process's processor time, peak resident memory, and for the
largest manifest the seconds from the start of a resumed process to its first new result, after 90 % of the records
were done.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

from pixano_vlm.inputs.manifest import Manifest  # noqa: E402
from pixano_vlm.inputs.open import open_source  # noqa: E402
from pixano_vlm.inputs.preflight import check_manifest_keys  # noqa: E402
from pixano_vlm.models import (  # noqa: E402
    GenerationSettings,
    ModelDeploymentConfig,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
)
from pixano_vlm.records.result import Result  # noqa: E402
from pixano_vlm.runs.open import OpenOptions  # noqa: E402
from pixano_vlm.runs.options import RunOptions  # noqa: E402
from pixano_vlm.runs.run import Run  # noqa: E402 - the start is measured before the imports


class Instant(VLMModel):
    """Answers at once, eight at a time and the last of them first, as a model that batches does."""

    def load_model(self) -> None: ...

    def predict(self, input: VLMInput) -> VLMOutput:
        return VLMOutput(
            generated_text=f"An answer to: {input.prompt}",
            usage=UsageInfo(prompt_tokens=12, completion_tokens=8, total_tokens=20),
            generation_config={"max_new_tokens": input.max_new_tokens, "do_sample": False},
            finish_reason="stop",
        )

    def stream(self, inputs: Iterable[tuple[Any, VLMInput]]) -> Iterator[tuple[Any, VLMOutput]]:
        batch = []
        for key, input in inputs:
            batch.append((key, input))
            if len(batch) == 8:
                for later, question in reversed(batch):
                    yield later, self.predict(question)
                batch.clear()
        for key, input in batch:
            yield key, self.predict(input)


def write_manifest(path: Path, records: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i in range(records):
            line = {"id": f"record-{i}", "prompt": f"What is on picture {i}?", "metadata": {"answer": str(i)}}
            file.write(json.dumps(line) + "\n")


def measure(folder: Path, records: int, *, stop_after: int | None, resume: bool) -> dict[str, Any]:
    manifest_path = folder / f"{records}.jsonl"
    first, first_cpu = 0.0, 0.0

    def on_result(result: Result) -> None:
        nonlocal first, first_cpu
        if not first:
            first, first_cpu = time.monotonic() - STARTED, time.process_time()
        if stop_after is not None and result.request.index >= stop_after:
            run.stop()

    run = Run(
        RunOptions(
            source=open_source([str(manifest_path)]),
            model=Instant(ModelDeploymentConfig(name="instant")),
            output=folder / f"{records}.outputs.jsonl",
            opening=OpenOptions(resume=resume, overwrite=not resume),
            settings=GenerationSettings(temperature=0, max_new_tokens=16),
        )
    )
    checked = run.count
    started, cpu = time.monotonic(), time.process_time()
    summary = run.finish(on_result)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    return {
        "records": checked,
        "answered": summary.ok,
        "reused": summary.reused,
        "records_per_second": round(summary.ok / seconds),
        "records_per_cpu_second": round(summary.ok / cpu),
        "first_result_after_s": round(first, 2),
        "first_result_after_cpu_s": round(first_cpu, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "resume": resume,
    }


def parse_rate(folder: Path, records: int) -> dict[str, Any]:
    """Lines parsed a second, by themselves."""
    started = time.process_time()
    for _ in Manifest(folder / f"{records}.jsonl"):
        pass
    lines = records / (time.process_time() - started)
    started = time.process_time()
    check_manifest_keys(folder / f"{records}.jsonl")
    return {
        "records": records,
        "lines_parsed_per_cpu_second": round(lines),
        "preflight_us_per_line": round(1e6 * (time.process_time() - started) / records, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", default="10000,100000,1000000", help="Sizes of manifest, by comma.")
    parser.add_argument("--folder", type=Path, help="Where the files go. Default: a temporary folder.")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, records, stop_after, how = arguments.one
        if how == "parse":
            found = parse_rate(Path(folder), int(records))
        else:
            found = measure(
                Path(folder), int(records), stop_after=int(stop_after) or None, resume=how == "resume"
            )
        print(json.dumps(found), flush=True)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = [int(size) for size in arguments.records.split(",")]
        for size in sizes:
            write_manifest(folder / f"{size}.jsonl", size)
            run_one(folder, size, 0, "fresh")
        largest = sizes[-1]
        run_one(folder, largest, 0, "parse")
        run_one(folder, largest, largest * 9 // 10, "fresh")
        run_one(folder, largest, 0, "resume")


def run_one(folder: Path, *rest: object) -> None:
    command = [sys.executable, __file__, "--one", str(folder), *map(str, rest)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
