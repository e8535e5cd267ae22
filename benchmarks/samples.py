"""What several samples of each record cost against one, on the benchmark's workload.

    python -m benchmarks.samples [--images 8] [--questions 4] [--samples 5] [--rounds 1] [--folder DIR]

The model has SmolVLM-256M's shape and random weights, the records those of `python -m benchmarks`, drawn at
temperature 1. A run with `n` and one without alternate; `ratio` is the median of the rounds' ratios, in seconds of
the processor, so that other work on the machine counts little. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import SMOLVLM_256M, write_manifest, write_model
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--questions", type=int, default=4, choices=(1, 2, 3, 4))
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the model is, or is written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / "model"
        if not folder.exists():
            write_model(folder, SMOLVLM_256M)
        manifest = write_manifest(Path(temporary), args.images, args.questions)
        ratios = []
        for _ in range(args.rounds):
            one, several = (measure(folder, manifest, n) for n in (None, args.samples))
            ratios.append(several["cpu_s"] / one["cpu_s"])
    print(json.dumps({"samples": args.samples, "ratio": round(statistics.median(ratios), 3)}))


def measure(folder: Path, manifest: Path, n: int | None) -> dict[str, Any]:
    """A run of the manifest in a model of its own, so that nothing is kept from an earlier one."""
    model = TransformersVLMModel(ModelDeploymentConfig(name="m", model_params={"path": str(folder)}))
    model.load_model()
    inputs = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines()):
        record = json.loads(line)
        images = [manifest.parent / name for name in record["images"]]
        asked = {"max_new_tokens": record["max_new_tokens"], "temperature": 1.0, "seed": number, "n": n}
        inputs.append(VLMInput(prompt=record["prompt"], images=images, **asked))
    began = time.process_time()
    tokens = 0
    for _, answer in model.stream(enumerate(inputs)):
        assert isinstance(answer, VLMOutput), answer
        tokens += answer.usage.completion_tokens
    seconds = time.process_time() - began
    stats = model.stats
    assert stats is not None
    figures = {
        "n": n, "records": len(inputs), "tokens": tokens, "cpu_s": round(seconds, 2),
        "vision_s": round(stats.vision_seconds, 2), "prefill_s": round(stats.prefill_seconds, 2),
        "decode_s": round(stats.decode_seconds, 2), "prefill_tokens": stats.prefill_tokens,
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    return figures


if __name__ == "__main__":
    main()
