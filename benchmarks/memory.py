"""Resident memory over a run of records that all have a picture of their own: it must not grow with their number.

    python benchmarks/memory.py [--records 10000] [--every 1000]

Runs the embedded model with small budgets, so that every cache overflows early: keys and values of 64 records,
2 MiB of image features, 4 MiB of shared prefixes. Prints resident memory as the run goes on, what the caches hold,
and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pixano_vlm.catalog import create_model, load_catalog, resolve_model
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput

PICTURE = 64
"""Pixels a side."""
IMAGE_BUDGET, PREFIX_BUDGET = 2 * 2**20, 4 * 2**20


def requests(folder: Path, count: int) -> Iterator[tuple[int, VLMInput]]:
    """Requests with pictures that are drawn when they are read; they stay in the folder."""
    noise = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(noise.integers(0, 256, (PICTURE, PICTURE, 3), dtype=np.uint8)).save(path)
        yield number, VLMInput(prompt="Describe the image.", images=[path], max_new_tokens=8, temperature=0)


def resident() -> float:
    """This process's resident memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Runs the records and prints what was held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1_000)
    options = parser.parse_args()
    config = resolve_model("shapes", load_catalog())
    config.model_params |= {
        "image_cache_bytes": IMAGE_BUDGET,
        "prefix_cache_bytes": PREFIX_BUDGET,
        "max_batch_size": 64,
    }
    model = create_model(config)
    assert isinstance(model, TransformersVLMModel)
    model.load_model()
    engine = model._require().engine
    assert engine is not None, "the embedded model runs in flight"
    figures: dict[int, float] = {}
    print(f"{'records':>8} {'resident MiB':>13} {'features KiB':>13} {'prefixes KiB':>13}")
    with tempfile.TemporaryDirectory() as folder:
        for answered, (_, answer) in enumerate(
            model.stream(requests(Path(folder), options.records)), start=1
        ):
            assert not isinstance(answer, Exception), answer
            if answered % options.every == 0:
                runner = engine.runner
                assert runner.encoder.nbytes <= IMAGE_BUDGET
                assert runner.prefixes.nbytes <= PREFIX_BUDGET
                figures[answered] = resident()
                print(
                    f"{answered:>8} {figures[answered]:>13.1f} {runner.encoder.nbytes / 2**10:>13.0f} "
                    f"{runner.prefixes.nbytes / 2**10:>13.0f}",
                    flush=True,
                )
    assert engine.runner.encoder.encoded >= options.records
    print(json.dumps({"records": options.records, "resident_mib": figures}))


if __name__ == "__main__":
    main()
