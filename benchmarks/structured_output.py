"""What answers in JSON cost: tokens a second beside free ones in the same batch, and the masks by themselves.

    python -m benchmarks.structured_output [--records 64] [--new-tokens 128] [--folder DIR] [--masks-only]

The model has SmolVLM-256M's shape and random weights, which never say what a schema wants: every token takes a
mask. The same prompts run under a schema, half of them, and free, in one in-flight batch each; a free answer is cut
off where the same record's answer in JSON ends, so that all three have the same steps with the same rows. `mask_us`
is the time of one mask by each library that is installed (llguidance; xgrammar and outlines_core beside it), over
random walks through the same schemas with the same vocabulary. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import SMOLVLM_256M, write_model
from pixano_vlm.batching import constraint
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput

CAPTION = {
    "type": "object",
    "properties": {
        "caption": {"type": "string", "maxLength": 400},
        "colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 3},
        "people": {"type": "integer", "minimum": 0, "maximum": 50},
        "place": {
            "type": "object",
            "properties": {"indoors": {"type": "boolean"}, "kind": {"enum": ["street", "garden", "room"]}},
            "required": ["indoors", "kind"],
            "additionalProperties": False,
        },
    },
    "required": ["caption", "colours", "people", "place"],
    "additionalProperties": False,
}  # fmt: skip
NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 40}, "minItems": 4}
SCHEMAS = {"caption": CAPTION, "array of numbers": NUMBERS, "any object": {"type": "object"}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--masks-only", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / "model"
        if not folder.exists():
            write_model(folder, SMOLVLM_256M)
        if not args.masks_only:
            measure_batches(folder, args.records, args.new_tokens, args.rounds)
        measure_masks(folder)


# --- in the batch ---


def measure_batches(folder: Path, records: int, new_tokens: int, rounds: int) -> None:
    params = {"path": str(folder), "max_batch_size": records}
    model = TransformersVLMModel(ModelDeploymentConfig(name="m", model_params=params))
    model.load_model()
    ways = {"free": 0, "half in JSON": records // 2, "all in JSON": records}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    _, lengths = run(model, records, [new_tokens] * records, new_tokens)  # warms up, too
    for round_ in range(rounds):
        for way, constrained in ways.items():
            with clocked() as spent:
                took, answered = run(model, constrained, lengths, new_tokens)
            tokens = sum(answered)
            seconds[way].append(took / tokens)
            figures = {"way": way, "round": round_, "tokens": tokens}
            figures["tokens_per_second"] = round(tokens / took, 1)
            print(json.dumps(figures | {"in_masks": f"{spent[0] / took:.1%}"}), flush=True)
    free, everyone = statistics.median(seconds["free"]), statistics.median(seconds["all in JSON"])
    print(json.dumps({
        "ms_per_token_free": round(1000 * free, 3), "ms_per_token_json": round(1000 * everyone, 3),
        "ratio": round(everyone / free, 3),
    }))  # fmt: skip


def run(
    model: TransformersVLMModel, constrained: int, lengths: list[int], new_tokens: int
) -> tuple[float, list[int]]:
    """Seconds, and the tokens of each answer.

    Args:
        constrained: How many of the records, the first ones, are under a schema.
        lengths: Most new tokens of each record that is free.
        new_tokens: Most new tokens of those under a schema.
    """
    inputs = []
    for number, length in enumerate(lengths):
        asked = {
            "type": "json_schema",
            "json_schema": {"schema": list(SCHEMAS.values())[number % len(SCHEMAS)]},
        }
        inputs.append(
            VLMInput(
                prompt=f"How many people are in picture {number}?",
                max_new_tokens=new_tokens if number < constrained else length,
                temperature=0,
                response_format=asked if number < constrained else None,
            )
        )
    began, tokens = time.perf_counter(), [0] * len(inputs)
    for number, answer in model.stream(enumerate(inputs)):
        assert isinstance(answer, VLMOutput), answer
        tokens[number] = answer.usage.completion_tokens
    return time.perf_counter() - began, tokens


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Adds up the time inside `Constraint.restrict` and `.accept`."""
    spent, methods = [0.0], {name: getattr(constraint.Constraint, name) for name in ("restrict", "accept")}

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args)
            finally:
                spent[0] += time.perf_counter() - began

        return call

    for name, method in methods.items():
        setattr(constraint.Constraint, name, timed(method))
    try:
        yield spent
    finally:
        for name, method in methods.items():
            setattr(constraint.Constraint, name, method)


# --- the masks by themselves ---

Walk = tuple[Callable[[], Any], Callable[[int], bool]]
"""Computes the mask of allowed tokens `[vocabulary]`; takes a token, and says whether that was the last."""


def measure_masks(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = SMOLVLM_256M.vocabulary
    peers = {"llguidance": llguidance, "xgrammar": xgrammar, "outlines_core": outlines_core}
    for library, make in peers.items():
        if find_spec(library) is None:
            print(json.dumps({"library": library, "mask_us": "not installed"}))
            continue
        for name, schema in SCHEMAS.items():
            figures = {"library": library, "schema": name}
            print(json.dumps(figures | measured(make, tokenizer, vocabulary, schema)), flush=True)


def measured(make: Any, tokenizer: Any, vocabulary: int, schema: dict[str, Any]) -> dict[str, Any]:
    choose, times = random.Random(0), []
    began = time.perf_counter()
    try:
        fresh = make(tokenizer, vocabulary, json.dumps(schema))
        fresh()[0]()
        compiled = time.perf_counter() - began
        while len(times) < 2_000:
            mask, take = fresh()
            for _ in range(200):
                began = time.perf_counter()
                allowed = mask()
                times.append(time.perf_counter() - began)
                # Among all allowed, evenly: as uneven a walk through the vocabulary as there is.
                if take(int(choose.choice(np.flatnonzero(bits(allowed, vocabulary))))):
                    break
    except Exception as error:  # a library may not know the schema
        return {"error": f"{type(error).__name__}: {error}"[:120]}
    cut = statistics.quantiles(times, n=100)
    return {
        "compile_ms": round(1000 * compiled, 1),
        "mask_us_median": round(1e6 * cut[49], 1),
        "mask_us_p99": round(1e6 * cut[98], 1),
    }


def bits(mask: Any, vocabulary: int) -> Any:
    packed = np.frombuffer(mask, dtype=np.uint8) if isinstance(mask, bytes) else mask
    return np.unpackbits(packed.view(np.uint8).reshape(-1), bitorder="little")[:vocabulary]


def llguidance(tokenizer: Any, vocabulary: int, schema: str) -> Callable[[], Walk]:
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    known = from_tokenizer(tokenizer, n_vocab=vocabulary)
    matcher = LLMatcher(
        known, LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False})
    )

    def fresh() -> Walk:
        state = matcher.deep_copy()

        def take(token: int) -> bool:
            state.consume_token(token)
            return bool(state.is_stopped())

        return state.compute_bitmask, take

    return fresh


def xgrammar(tokenizer: Any, vocabulary: int, schema: str) -> Callable[[], Walk]:
    import xgrammar as xgr

    info = xgr.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
    compiled = xgr.GrammarCompiler(info, max_threads=1).compile_json_schema(schema, any_whitespace=False)
    mask = xgr.allocate_token_bitmask(1, vocabulary)

    def fresh() -> Walk:
        state = xgr.GrammarMatcher(compiled)

        def fill() -> Any:
            state.fill_next_token_bitmask(mask)
            return mask.numpy()

        def take(token: int) -> bool:
            state.accept_token(token)
            return bool(state.is_terminated())

        return fill, take

    return fresh


def outlines_core(tokenizer: Any, vocabulary: int, schema: str) -> Callable[[], Walk]:
    from outlines_core import Guide, Index, Vocabulary
    from outlines_core.json_schema import build_regex_from_schema

    end = tokenizer.eos_token_id
    decoded: dict[bytes, list[int]] = {}
    for token in range(min(vocabulary, len(tokenizer))):
        text = tokenizer.decode([token])
        if token not in tokenizer.all_special_ids and text:
            decoded.setdefault(text.encode(), []).append(token)
    index = Index(build_regex_from_schema(schema, r"[ ]?"), Vocabulary(end, decoded))
    mask = np.zeros((vocabulary + 31) // 32, dtype=np.int32)

    def fresh() -> Walk:
        guide = Guide(index)

        def fill() -> Any:
            guide.write_mask_into(mask.ctypes.data, mask.size, mask.itemsize)
            return mask

        def take(token: int) -> bool:
            if token == end:
                return True
            guide.advance(token, return_tokens=False)
            return bool(guide.is_finished())

        return fill, take

    return fresh


if __name__ == "__main__":
    main()
