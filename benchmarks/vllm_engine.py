"""`python -m benchmarks.vllm_engine`: `pixano-vlm generate` on vLLM against a script that calls vLLM itself.

Both take the same manifest, the examples' a number of times over, the same model and the same engine arguments.
They run alternately, each in a process of its own. Seconds are those from the moment that the model is loaded to the
last answer: on the one side with the manifest read and the output written, on the other without.

    python benchmarks/vllm_engine.py MODEL MANIFEST

is that script alone. It prints one JSON line: seconds, and each record's tokens and text.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples" / "shapes"
SHAPES = REPOSITORY / "src" / "pixano_vlm" / "shapes" / "model"

ARGUMENTS = {"max_model_len": 256, "enforce_eager": True}
SEQUENCES = 16
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "PYTHONPATH": str(REPOSITORY / "src"),
}


def direct(model: str, manifest: Path) -> dict[str, Any]:
    """What a user of vLLM writes: everything opened, everything handed over, wait."""
    from PIL import Image
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams

    processor = AutoProcessor.from_pretrained(model)
    llm = LLM(model=model, dtype="float32", max_num_seqs=SEQUENCES, disable_log_stats=True, **ARGUMENTS)
    began = time.perf_counter()
    records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    prompts, settings = [], []
    for record in records:
        content = [{"type": "image"} for _ in record["images"]]
        content.append({"type": "text", "text": record["prompt"]})
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        images = [Image.open(manifest.parent / path).convert("RGB") for path in record["images"]]
        prompts.append({"prompt": text, "multi_modal_data": {"image": images}})
        settings.append(SamplingParams(temperature=0, max_tokens=record["max_new_tokens"]))
    outputs = llm.generate(prompts, settings, use_tqdm=False)
    seconds = time.perf_counter() - began
    llm.llm_engine.engine_core.shutdown()
    answers = [output.outputs[0] for output in outputs]
    ids = [record["id"] for record in records]
    return {
        "seconds": seconds,
        "tokens": {id: list(answer.token_ids) for id, answer in zip(ids, answers, strict=True)},
        "texts": {id: answer.text for id, answer in zip(ids, answers, strict=True)},
    }


def run_direct(python: str, model: Path, manifest: Path) -> dict[str, Any]:
    """`direct` in a process of its own."""
    command = [python, __file__, str(model), str(manifest)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"vLLM by hand failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def write_config(folder: Path, model: Path, model_class: str = "VLLMVLMModel") -> Path:
    """A config of this package with the same arguments."""
    params = {"path": str(model), "dtype": "float32", "max_batch_size": SEQUENCES, "engine_args": ARGUMENTS}
    entry = {"name": "on-vllm", "model_class": model_class, "model_params": params}
    config = folder / "models.yaml"
    config.write_text(json.dumps({"models": [entry]}), encoding="utf-8")  # JSON is YAML
    return config


def run_generate(python: str, folder: Path, config: Path, manifest: Path) -> dict[str, Any]:
    """`pixano-vlm generate`, its seconds of generating and its texts."""
    output, summary = folder / "outputs.jsonl", folder / "summary.json"
    command = [
        python,
        "-m",
        "pixano_vlm",
        "generate",
        str(manifest),
        "--config",
        str(config),
        "-m",
        "on-vllm",
    ]
    command += ["-o", str(output), "--overwrite", "--summary-json", str(summary), "--quiet"]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pixano-vlm generate failed:\n{done.stderr[-3000:]}")
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return {
        "seconds": json.loads(summary.read_text(encoding="utf-8"))["generating_seconds"],
        "texts": {line["id"]: line["generated_text"] for line in lines},
    }


def write_manifest(folder: Path, copies: int) -> Path:
    """The examples' manifest so many times over."""
    manifest = folder / "manifest.jsonl"
    records = [json.loads(line) for line in (EXAMPLES / "manifest.jsonl").read_text().splitlines()]
    with manifest.open("w", encoding="utf-8") as lines:
        for copy in range(copies):
            for record in records:
                images = [str(EXAMPLES / image) for image in record["images"]]
                lines.write(json.dumps(record | {"id": f"{copy}/{record['id']}", "images": images}) + "\n")
    return manifest


def main() -> None:
    """Runs both in turn, prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm_engine", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="a Python that has vLLM")
    parser.add_argument("--model", type=Path, default=SHAPES)
    parser.add_argument("--copies", type=int, default=20, help="times that the 96 examples are asked")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), options.copies)
        config = write_config(Path(folder), options.model)
        for _ in range(options.rounds):
            theirs = run_direct(options.python, options.model, manifest)
            ours = run_generate(options.python, Path(folder), config, manifest)
            ratios.append(ours["seconds"] / theirs["seconds"])
            equal = sum(ours["texts"][id] == text for id, text in theirs["texts"].items())
            print(
                f"vLLM by hand {theirs['seconds']:.2f} s, pixano-vlm generate {ours['seconds']:.2f} s, "
                f"{ratios[-1]:.3f} of it; {equal} of {len(theirs['texts'])} texts equal",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):
        print(json.dumps(direct(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
