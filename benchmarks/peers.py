"""One way to run the workload, in a process of its own: `python peers.py PEER MODEL MANIFEST`.

Prints one JSON line: records, generated tokens, seconds (loading apart), and what the peer tells of itself.
Runs under any Python that has the peer: vLLM has an environment to itself, so only the peer chosen is imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = int(os.environ.get("BENCH_THREADS", os.cpu_count() or 1))
STATIC_BATCH = 8

Report = dict[str, Any]


def read(manifest: Path) -> list[dict[str, Any]]:
    """The manifest's records, with their image's whole path."""
    with manifest.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    for record in records:
        record["image"] = str(manifest.parent / record["images"][0])
    return records


def chat(prompt: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def load(folder: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
    return processor, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def generate(processor: Any, model: Any, batch: list[dict[str, Any]]) -> None:
    """One call of `generate` on a batch, as transformers' documentation does it."""
    import torch
    from PIL import Image

    texts = [
        processor.apply_chat_template(chat(r["prompt"]), add_generation_prompt=True, tokenize=False)
        for r in batch
    ]
    images = [[Image.open(r["image"]).convert("RGB")] for r in batch]
    inputs = processor(text=texts, images=images, padding=True, return_tensors="pt", add_special_tokens=False)
    inputs = inputs.to(model.device, model.dtype)
    with torch.inference_mode():
        model.generate(**inputs, max_new_tokens=max(r["max_new_tokens"] for r in batch), do_sample=False)


def alone(folder: str, records: list[dict[str, Any]]) -> Report:
    """One record at a time through `generate`."""
    processor, model = load(folder)
    generate(processor, model, [dict(records[0], max_new_tokens=4)])
    began = time.perf_counter()
    for record in records:
        generate(processor, model, [record])
    return {"seconds": time.perf_counter() - began}


def static(folder: str, records: list[dict[str, Any]]) -> Report:
    """Static batches through `generate`, left-padded, each as long as its longest answer."""
    processor, model = load(folder)
    generate(processor, model, [dict(records[0], max_new_tokens=4)])
    began = time.perf_counter()
    for first in range(0, len(records), STATIC_BATCH):
        generate(processor, model, records[first : first + STATIC_BATCH])
    return {"seconds": time.perf_counter() - began}


def pipeline(folder: str, records: list[dict[str, Any]]) -> Report:
    """The pipeline of transformers, whose one `max_new_tokens` must be each batch's longest."""
    from PIL import Image
    from transformers import pipeline as build

    processor, model = load(folder)
    run = build("image-text-to-text", model=model, processor=processor)
    began = time.perf_counter()
    for first in range(0, len(records), STATIC_BATCH):
        batch = records[first : first + STATIC_BATCH]
        run(
            text=[
                processor.apply_chat_template(chat(r["prompt"]), add_generation_prompt=True, tokenize=False)
                for r in batch
            ],
            images=[[Image.open(r["image"]).convert("RGB")] for r in batch],
            batch_size=STATIC_BATCH,
            generate_kwargs={"max_new_tokens": max(r["max_new_tokens"] for r in batch), "do_sample": False},
        )
    return {"seconds": time.perf_counter() - began}


def vllm(folder: str, records: list[dict[str, Any]]) -> Report:
    """vLLM in process, prefix cache on, every record handed over at once."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from PIL import Image
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]  # in an environment of its own

    processor = AutoProcessor.from_pretrained(folder)
    engine = LLM(
        model=folder,
        dtype=os.environ.get("BENCH_DTYPE", "bfloat16"),
        max_num_seqs=int(os.environ.get("BENCH_VLLM_SEQUENCES", "16")),
        max_model_len=1024,
        limit_mm_per_prompt={"image": 1},
        enable_prefix_caching=True,
        enforce_eager=os.environ.get("BENCH_VLLM_EAGER", "1") == "1",
        gpu_memory_utilization=0.8,
    )

    def requests(some: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
        prompts = [
            {
                "prompt": processor.apply_chat_template(
                    chat(r["prompt"]), add_generation_prompt=True, tokenize=False
                ),
                "multi_modal_data": {"image": Image.open(r["image"]).convert("RGB")},
            }
            for r in some
        ]
        return prompts, [
            SamplingParams(temperature=0, max_tokens=r["max_new_tokens"], ignore_eos=True) for r in some
        ]

    from PIL import Image as Pictures

    blank = Path(folder) / "warm-up.png"
    Pictures.new("RGB", (64, 64)).save(blank)
    engine.generate(*requests([dict(records[0], image=str(blank), max_new_tokens=4)]), use_tqdm=False)
    began = time.perf_counter()
    outputs = engine.generate(*requests(records), use_tqdm=False)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": sum(len(o.outputs[0].token_ids) for o in outputs)}


def pixano_vlm(folder: str, records: list[dict[str, Any]]) -> Report:
    """This package's engine through `VLMModel.stream`."""
    import torch
    from transformers import logging

    from pixano_vlm.engines.transformers.model import TransformersVLMModel
    from pixano_vlm.models import ModelDeploymentConfig, VLMInput

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    params: dict[str, Any] = {"path": folder} | json.loads(os.environ.get("BENCH_PARAMS", "{}"))
    model = TransformersVLMModel(ModelDeploymentConfig(name="bench", model_params=params))
    model.load_model()
    inputs = [
        (
            number,
            VLMInput(
                prompt=r["prompt"], images=[r["image"]], max_new_tokens=r["max_new_tokens"], temperature=0
            ),
        )
        for number, r in enumerate(records)
    ]
    began = time.perf_counter()
    tokens = 0
    for _, output in model.stream(inputs):
        tokens += output.usage.completion_tokens  # type: ignore[union-attr]  # the workload has no bad record
    seconds = time.perf_counter() - began
    stats = model.stats
    assert stats is not None, "the benchmark's model runs in flight"
    return {
        "seconds": seconds,
        "tokens": tokens,
        "vision": stats.vision_seconds,
        "prefill": stats.prefill_seconds,
        "decode": stats.decode_seconds,
        "in_model": stats.model_seconds / seconds,
        "steps": stats.decode_steps,
        "prefill_tokens": stats.prefill_tokens,
    }


PEERS: dict[str, Callable[[str, list[dict[str, Any]]], Report]] = {
    "alone": alone,
    "static": static,
    "pipeline": pipeline,
    "vllm": vllm,
    "pixano-vlm": pixano_vlm,
}


def main() -> None:
    """Runs one peer."""
    peer, folder, manifest = sys.argv[1:4]
    records = read(Path(manifest))
    report = PEERS[peer](folder, records)
    report.setdefault("tokens", sum(r["max_new_tokens"] for r in records))
    print(json.dumps({"peer": peer, "records": len(records), **report}))


if __name__ == "__main__":
    main()
