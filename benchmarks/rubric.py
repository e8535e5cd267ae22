"""What it saves to compute a long text before the first image once: a rubric, or examples, and then an image.

    python -m benchmarks.rubric [--images 96] [--tokens 1500] [--rounds 1] [--folder DIR]

The model has SmolVLM-256M's shape and random weights. Every record has the same rubric of about so many tokens and an
image of its own. Runs with the prefix cache and without it alternate, each in a model of its own; `ratio` is the
median of the rounds' ratios of wall time. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import QUESTIONS, SMOLVLM_256M, write_manifest, write_model
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=1500, help="tokens of the rubric, about")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the model is, or is written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / "model"
        if not folder.exists():
            write_model(folder, SMOLVLM_256M)
        manifest = write_manifest(Path(temporary), args.images, 1)
        ratios = []
        for _ in range(args.rounds):
            shared, alone = (
                measure(folder, manifest, args.tokens, shares=shares) for shares in (True, False)
            )
            ratios.append(alone["wall_s"] / shared["wall_s"])
    print(json.dumps({"rubric_tokens": args.tokens, "ratio": round(statistics.median(ratios), 3)}))


def measure(folder: Path, manifest: Path, tokens: int, *, shares: bool) -> dict[str, Any]:
    """A run in a model of its own, with the prefix cache or without."""
    params: dict[str, Any] = {"path": str(folder)} | ({} if shares else {"prefix_cache_bytes": 0})
    model = TransformersVLMModel(ModelDeploymentConfig(name="m", model_params=params))
    model.load_model()
    rubric = rubric_of(model, tokens)
    inputs = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        image = {"type": "image", "image": str(manifest.parent / record["images"][0])}
        content = [{"type": "text", "text": rubric}, image, {"type": "text", "text": record["prompt"]}]
        inputs.append(
            VLMInput(
                prompt=[{"role": "user", "content": content}],
                max_new_tokens=record["max_new_tokens"],
                temperature=0,
            )
        )
    began, first, prompts = time.perf_counter(), 0.0, 0
    for _, answer in model.stream(enumerate(inputs)):
        assert isinstance(answer, VLMOutput), answer
        first = first or time.perf_counter() - began
        prompts += answer.usage.prompt_tokens
    wall = time.perf_counter() - began
    stats = model.stats
    assert stats is not None
    figures = {
        "prefix_cache": shares, "records": len(inputs), "wall_s": round(wall, 2), "first_answer_s": round(first, 2),
        "vision_s": round(stats.vision_seconds, 2), "prefill_s": round(stats.prefill_seconds, 2),
        "decode_s": round(stats.decode_seconds, 2), "prompt_tokens": prompts, "prefill_tokens": stats.prefill_tokens,
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    return figures


def rubric_of(model: TransformersVLMModel, tokens: int) -> str:
    """The benchmark's questions again and again, to about so many tokens."""
    sentences: list[str] = []
    while model.count_tokens(VLMInput(prompt=" ".join(sentences), max_new_tokens=1, temperature=0)) < tokens:
        sentences += QUESTIONS
    return " ".join(sentences)


if __name__ == "__main__":
    main()
