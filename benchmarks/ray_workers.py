"""Two workers of one thread each on Ray against one: how much faster the benchmark's workload is done.

    python -m benchmarks.ray_workers [--images 36] [--questions 4] [--rounds 1]

Loading stands apart: time begins when every worker has its model. Prints one line of JSON. Needs `ray` and two
free cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

# Before anything starts a process: a worker is to have one thread.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

from benchmarks.workload import write_manifest, write_model
from pixano_vlm.catalog import create_model
from pixano_vlm.engines.ray.model import with_ray
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput

ROWS = 16
"""Records in a worker's model at a time. More would be fewer, fuller batches for one worker than for two."""


def read_inputs(manifest: Path) -> list[tuple[str, VLMInput]]:
    records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [
        (
            record["id"],
            VLMInput(
                prompt=record["prompt"],
                images=[manifest.parent / image for image in record["images"]],
                max_new_tokens=record["max_new_tokens"],
                temperature=0,
            ),
        )
        for record in records
    ]


def seconds(
    config: ModelDeploymentConfig, workers: int, inputs: list[tuple[str, VLMInput]]
) -> tuple[float, float]:
    """Seconds of loading, and of answering everything."""
    import ray

    start = time.perf_counter()
    model = with_ray(config, create_model, workers=workers)
    model.load_model()
    ray.wait(
        [seat.call for seat in model._seats], num_returns=workers
    )  # the run itself would begin with the first
    loaded = time.perf_counter()
    answers = dict(model.stream(inputs))
    done = time.perf_counter()
    model.unload()
    bad = [answer for answer in answers.values() if not isinstance(answer, VLMOutput)]
    if bad or len(answers) != len(inputs):
        sys.exit(f"{len(answers)} of {len(inputs)} answered, {len(bad)} of them with errors: {bad[:1]}")
    return loaded - start, done - loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=36)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model")
        inputs = read_inputs(write_manifest(Path(folder), arguments.images, arguments.questions))
        config = ModelDeploymentConfig(
            name="workload", model_params={"path": str(model), "max_batch_size": ROWS}
        )
        rounds = [[seconds(config, workers, inputs) for workers in (1, 2)] for _ in range(arguments.rounds)]
    one, two = ([pair[which][1] for pair in rounds] for which in (0, 1))
    figures = {
        "records": len(inputs),
        "one_worker_seconds": [round(value, 1) for value in one],
        "two_workers_seconds": [round(value, 1) for value in two],
        "ratio": round(statistics.median(a / b for a, b in zip(one, two, strict=True)), 2),
        "loading_seconds": [[round(loading, 1) for loading, _ in pair] for pair in rounds],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
