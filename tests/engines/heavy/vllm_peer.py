"""The same prompts through vLLM in two ways, each in a process of its own: by hand, and by this project's engine.

    python vllm_peer.py direct|engine MODEL MANIFEST ROUNDS

Prints one JSON line: seconds of each round, loading apart, and each record's tokens. The first round is not
timed: both ways compile and fill caches in it. The prefix cache is off, or later rounds would be of other work.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ARGUMENTS = {
    "max_model_len": 1024,
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "mm_processor_cache_gb": 0,
}


COPIES = 8
"""How often a round asks each record: the embedded model answers a hundred in under a second."""


def records(manifest: str) -> list[dict[str, Any]]:
    lines = Path(manifest).read_text(encoding="utf-8").splitlines()
    folder = Path(manifest).parent
    return [
        {
            **record,
            "id": f"{copy}/{record['id']}",
            "images": [str(folder / image) for image in record["images"]],
        }
        for copy in range(COPIES)
        for record in map(json.loads, lines)
    ]


def direct(model: str, manifest: str, rounds: int) -> tuple[list[float], dict[str, list[int]]]:
    """What a user of vLLM writes: everything opened, everything handed over, wait."""
    from PIL import Image
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams

    processor = AutoProcessor.from_pretrained(model)
    llm = LLM(model=model, dtype="float32", max_num_seqs=16, disable_log_stats=True, **ARGUMENTS)
    asked = records(manifest)
    seconds, tokens = [], {}
    for _ in range(rounds + 1):
        began = time.perf_counter()
        prompts, settings = [], []
        for record in asked:
            content = [{"type": "image"} for _ in record["images"]]
            content.append({"type": "text", "text": record["prompt"]})
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            images = [Image.open(path).convert("RGB") for path in record["images"]]
            prompts.append({"prompt": text, "multi_modal_data": {"image": images}})
            settings.append(SamplingParams(temperature=0, max_tokens=record["max_new_tokens"]))
        outputs = llm.generate(prompts, settings, use_tqdm=False)
        seconds.append(time.perf_counter() - began)
        tokens = {
            record["id"]: list(output.outputs[0].token_ids)
            for record, output in zip(asked, outputs, strict=True)
        }
    return seconds[1:], tokens


def engine(model: str, manifest: str, rounds: int) -> tuple[list[float], dict[str, list[int]]]:
    """The same through `VLLMVLMModel.stream`, its tokens noted as they pass."""
    from pixano_vlm.engines.vllm import VLLMVLMModel
    from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput

    noted: list[list[int]] = []

    class Noting(VLLMVLMModel):
        def _answer_of(self, output: Any, input: VLMInput) -> Any:
            noted.append(list(output.outputs[0].token_ids))
            return super()._answer_of(output, input)

    params = {"path": model, "dtype": "float32", "max_batch_size": 16, "engine_args": ARGUMENTS}
    ours = Noting(ModelDeploymentConfig(name="m", model_class="VLLMVLMModel", model_params=params))
    ours.load_model()
    asked = [
        (
            record["id"],
            VLMInput(
                **{name: record[name] for name in ("prompt", "images", "max_new_tokens", "temperature")}
            ),
        )
        for record in records(manifest)
    ]
    seconds, tokens = [], {}
    for _ in range(rounds + 1):
        noted.clear()
        began = time.perf_counter()
        answers = list(ours.stream(asked))
        seconds.append(time.perf_counter() - began)
        assert all(isinstance(answer, VLMOutput) for _, answer in answers), answers
        tokens = {key: ids for (key, _), ids in zip(answers, noted, strict=True)}
    ours.unload()
    return seconds[1:], tokens


if __name__ == "__main__":
    way, model, manifest, rounds = sys.argv[1:]
    seconds, tokens = (direct if way == "direct" else engine)(model, manifest, int(rounds))
    print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)
    os._exit(0)  # vLLM's processes take their time to say goodbye
