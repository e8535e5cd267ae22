"""What a model allows, found out from its structure and from a trial run. Holds no model names.

The trial is the proof: a few prompts through the model's own `generate`, each alone, and through the engine
together; where the logits agree, the engine may be used. Everything that a left-padded, shared or split prefill
could break (bidirectional prompts, states that are not keys and values, positions that cannot be given) shows
there as a difference.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin, DynamicCache, LinearAttentionCacheLayerMixin

from pixano_vlm.batching.cache_argument import CACHE_NAMES, cache_argument
from pixano_vlm.batching.engine import Engine
from pixano_vlm.batching.kv_cache import LayerKind
from pixano_vlm.batching.plan import Plan
from pixano_vlm.batching.prepare import PromptMaker
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.models.vlm import VLMInput

TRIAL_STEPS = 4
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest difference of logits, relative to their norm, that is rounding. Other dtypes: `ROUGH`."""
PLAIN_TYPES = frozenset(
    {
        "full_attention",
        "sliding_attention",
        "linear_attention",
        "conv",
        "hybrid",
        "hybrid_sliding",
        "moe",
        "mlp",
    }
)
"""Types of layer that see a token's distance alone, or what came before it in its row. What others choose (chunks,
the keys that score best) can hang on where a row begins, and a trial need not meet the one choice in thirty that
differs."""
CACHED = frozenset(
    {
        "DynamicLayer",
        "DynamicSlidingWindowLayer",
        "LinearAttentionLayer",
        "LinearAttentionAndFullAttentionLayer",
        "LinearAttentionAndSlidingWindowAttentionLayer",
        "DummyLayer",
    }
)
"""Layers of transformers' cache that a `SlotCache` replaces. The last keeps nothing: it uses another's."""
WAYS = ((True, True), (False, True), (False, False))
"""What is tried, the best first: whether prompts are prefilled together and from shared prefixes, and whether
images are encoded apart from them."""
ROUGH = 0.08
"""In bfloat16, rounding alone moves logits by one to four percent; a wrong mask moves them by tens."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a model may be run."""

    in_flight: bool
    shared_prefill: bool
    image_features: bool
    reason: str
    """Why not more, or what was checked."""
    kinds: tuple[LayerKind, ...] = ()
    token_bytes: int = 0
    """Memory that one token's keys and values take."""
    row_bytes: int = 0
    """Memory that the states of one record in flight take, however long it is."""
    kernels: bool = False
    """Whether the faster kernels are in."""


def obstacle(model: Any) -> str | None:
    """What in a model's structure rules out continuous batching, or None."""
    if getattr(model.config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    arguments = inspect.signature(model.forward).parameters
    missing = [name for name in ("input_ids", "attention_mask", "position_ids") if name not in arguments]
    if cache_argument(model.forward) is None:
        missing.append(" or ".join(CACHE_NAMES))
    if missing:
        return f"its forward takes no {', '.join(missing)}"
    try:
        layers = DynamicCache(config=model.config).layers
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        return f"its cache cannot be built from its config ({error})"
    odd = sorted({type(layer).__name__ for layer in layers} - CACHED)
    if odd:
        return f"its cache has layers of another kind: {', '.join(odd)}"
    if not any(isinstance(layer, CacheLayerMixin) for layer in layers):
        return "no layer of its cache keeps keys and values"
    text = model.config.get_text_config(decoder=True)
    types = getattr(text, "layer_types", None)
    if types is None and getattr(text, "attention_chunk_size", None):
        types = ["chunked_attention"]
    other = sorted(set(types or ()) - PLAIN_TYPES)
    if other:
        return f"it has layers of a type that may see where a row begins: {', '.join(other)}"
    if "longrope" in _rope_types(getattr(text, "rope_parameters", None)):
        return "its position embeddings (longrope) are chosen by the longest record in the batch"
    return None


def _rope_types(parameters: Any) -> set[str]:
    """Types of rotary embedding in a config's `rope_parameters`, which may be nested by type of layer."""
    if not isinstance(parameters, dict):
        return set()
    found = {str(parameters.get("rope_type"))}
    return found.union(*map(_rope_types, parameters.values()))


def layer_kinds(model: Any) -> tuple[LayerKind, ...]:
    """For each layer of the decoder, what it keeps: of a model without an `obstacle`."""
    return tuple(
        LayerKind(
            attends=isinstance(layer, CacheLayerMixin),
            slides=getattr(layer, "is_sliding", False),
            states=layer.number_of_states if isinstance(layer, LinearAttentionCacheLayerMixin) else 0,
        )
        for layer in DynamicCache(config=model.config).layers
    )


def examine(trial: Trial, plan: Plan) -> Capabilities:
    """Finds the best of the `WAYS` to run a model, or that it cannot be run in flight."""
    if not any(input.images for input in trial.inputs):
        # Words alone prove nothing of how a model attends to images.
        return Capabilities(
            False, False, False, f"no trial prompt with an image could be run ({trial.refusal})"
        )
    reason = ""
    for shared, features in WAYS:
        engine = trial.engine(replace(plan, shared_prefill=shared, image_features=features))
        if features and not engine.runner.encodes:
            reason = "the model takes no encoded images"
            continue
        if shared and trial.has_states:
            reason = "a state is kept of a whole prompt, not of its beginning"
            continue
        difference = trial.difference(engine)
        if isinstance(difference, float) and difference <= trial.tolerance:
            why = f"trial against generate: logits within {difference:.1e}"
            if reason:
                why = f"{why}; {reason}"
            cache = engine.runner.cache
            return Capabilities(
                in_flight=True,
                shared_prefill=shared,
                image_features=features,
                reason=why,
                kinds=trial.kinds,
                token_bytes=cache.token_bytes,
                row_bytes=cache.row_bytes,
            )
        what = f"differs from generate by {difference:.2g}" if isinstance(difference, float) else difference
        reason = f"{'shared' if shared else 'whole'} prefill{'' if features else ' with its images'}: {what}"
    return Capabilities(False, False, False, reason)


class Trial:
    """A few prompts, what `generate` says to each alone, and what an engine says to them together."""

    def __init__(self, model: Any, maker: PromptMaker, stop: StopCriteria) -> None:
        self._model = model
        self._maker = maker
        self._stop = stop.endless()  # records continue past end tokens
        self.kinds = layer_kinds(model)
        self.has_states = any(kind.states for kind in self.kinds)
        self.tolerance = TOLERANCE.get(model.dtype, ROUGH)
        self.refusal = ""
        self.inputs: list[VLMInput] = []
        self._expected: list[tuple[list[Tensor], list[int]]] = []
        for input in trial_inputs():
            try:
                expected = self._reference(input)
            except (
                Exception
            ) as error:  # a model that takes no text alone, or no second image, still has others
                self.refusal = str(error)
            else:
                self.inputs.append(input)
                self._expected.append(expected)

    def engine(self, plan: Plan) -> RecordingEngine:
        """An engine that keeps its logits."""
        return RecordingEngine(self._model, self._maker, self._stop, self.kinds, plan)

    def difference(self, engine: RecordingEngine) -> float | str:
        """The largest relative difference of logits before the tokens part; or what went wrong."""
        worst = 0.0
        # Two rounds: in the second, prefixes and images of the first are reused, and rows are of mixed ages.
        for order in (list(range(len(self.inputs))), list(reversed(range(len(self.inputs))))):
            sequences = {}
            engine.logits.clear()
            for index in order:
                prompt = self._maker.make(self.inputs[index])
                sequence = Sequence(index, self.inputs[index], prompt, TRIAL_STEPS, arrival=index)
                sequence.shared_ids = self._maker.shared_ids(prompt)
                sequences[index] = sequence
                engine.scheduler.add(sequence)
            failure = engine.finish()
            if failure is not None:
                return failure
            for index, sequence in sequences.items():
                worst = max(
                    worst, self._compare(self._expected[index], engine.logits[id(sequence)], sequence.tokens)
                )
        return worst

    @torch.inference_mode()
    def _reference(self, input: VLMInput) -> tuple[list[Tensor], list[int]]:
        tensors = {
            name: value.to(self._model.device, self._model.dtype if value.is_floating_point() else None)
            if isinstance(value, Tensor)
            else value
            for name, value in self._maker.make(input).tensors.items()
            if name != "labels"
        }
        length = tensors["input_ids"].shape[1]
        output = self._model.generate(
            **tensors,
            max_new_tokens=TRIAL_STEPS,
            min_new_tokens=TRIAL_STEPS,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return [step[0].float() for step in output.logits], output.sequences[0, length:].tolist()

    @staticmethod
    def _compare(expected: tuple[list[Tensor], list[int]], logits: list[Tensor], tokens: list[int]) -> float:
        worst = 0.0
        for step, (wanted, got) in enumerate(zip(expected[0], logits, strict=True)):
            finite = torch.isfinite(wanted) & torch.isfinite(got)
            scale = float(wanted[finite].norm()) or 1.0
            worst = max(worst, float((wanted[finite] - got[finite]).norm()) / scale)
            if not bool(torch.isfinite(got).any()):
                return float("inf")
            if expected[1][step] != tokens[step]:
                break  # from here on the two continue from different tokens
        return worst


class RecordingEngine(Engine):
    """An engine that keeps the logits of every step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logits: dict[int, list[Tensor]] = {}

    def finish(self) -> str | None:
        """Runs all that waits to its end; returns the first failure."""
        while self.scheduler.waiting or self.scheduler.active:
            for _, answer in self.round():
                if isinstance(answer, Exception):
                    return str(answer)
        return None

    def _choose(self, logits: Tensor, sequences: list[Sequence]) -> None:
        for row, sequence in zip(logits, sequences, strict=True):
            self.logits.setdefault(id(sequence), []).append(row.float())
        super()._choose(logits, sequences)


def trial_inputs(max_new_tokens: int = TRIAL_STEPS) -> list[VLMInput]:
    """Prompts of different lengths, with one image, the same again, another one, two, and none."""
    first, second = (_picture(size, shade) for size, shade in (((96, 64), 40), ((64, 80), 200)))
    long = (
        "Describe this picture in one sentence. Then say what its main colour is, and where it is brightest."
    )
    asked = [
        ("Describe this picture in one sentence. Then say how many things it shows.", [first]),
        (long, [first]),
        ("What is this?", [second]),
        ("Compare the two.", [first, second]),
        ("Name a colour.", None),
    ]
    return [
        VLMInput(prompt=prompt, images=images, max_new_tokens=max_new_tokens, temperature=0)
        for prompt, images in asked
    ]


def trial_picture() -> str:
    """An image to ask about, as a data URL."""
    return _picture((96, 64), 40)


def _picture(size: tuple[int, int], shade: int) -> str:
    """A small image with something to see in it, as a data URL."""
    import base64
    import io

    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    picture.paste((shade, 255 - shade, 90), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
