"""Whether what records get in a batch is what each gets alone: the check behind `load --verify`.

Alone means transformers' own `generate` on one record, prepared by a processor of its own as transformers'
documentation shows it. The two sides share the model and nothing else, so that a mistake in how this package
prepares a prompt shows too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from pixano_vlm.batching.sampling import generation_config
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.media.images import load_image
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput

Stream = Callable[[Iterable[tuple[int, VLMInput]]], Iterator[tuple[int, Any]]]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found."""

    records: int
    agree: int
    tokens: int
    """Tokens compared."""
    first_difference: str | None
    """The first record that differs, and from which token on."""

    @property
    def ok(self) -> bool:
        """Whether every record has the same tokens batched and alone."""
        return self.agree == self.records

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self) | {"ok": self.ok}


def verify(
    model: Any,
    processor: Any,
    stop: StopCriteria,
    stream: Stream,
    inputs: list[VLMInput],
    options: dict[str, Any],
) -> Verification:
    """Compares the tokens of inputs run together with those of each run alone.

    Args:
        model: The transformers model.
        processor: A processor that the stream does not use.
        stop: The stream's; its records' tokens are read there.
        stream: Runs inputs together.
        inputs: Greedy requests that the model takes, their prompts strings.
        options: Further options of the processor's call.
    """
    alone = [generate_alone(model, processor, stop, input, options) for input in inputs]
    together = stream_tokens(stop, stream, inputs)
    differing = [
        f"record {index} of {len(inputs)}, from token {_first_difference(alone[index], together[index])} on"
        for index in range(len(inputs))
        if alone[index] != together[index]
    ]
    return Verification(
        records=len(inputs),
        agree=len(inputs) - len(differing),
        tokens=sum(map(len, alone)),
        first_difference=differing[0] if differing else None,
    )


@torch.inference_mode()
def generate_alone(
    model: Any, processor: Any, stop: StopCriteria, input: VLMInput, options: dict[str, Any]
) -> list[int]:
    """The new tokens that transformers' `generate` gives to one record."""
    tensors = {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        if isinstance(value, Tensor)
        else value
        for name, value in prepare_alone(model, processor, input, options).items()
    }
    recorder = _NewTokens()
    config = generation_config(model, input, input.max_new_tokens)
    model.generate(**tensors, generation_config=config, streamer=recorder)
    ends = [place for place, token in enumerate(recorder.tokens) if token in stop.end_ids]
    return recorder.tokens[: ends[0] + 1] if ends else recorder.tokens


class _NewTokens(BaseStreamer):
    """What `generate` adds to the prompt, which some models cut or lengthen in what they return."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._in_prompt = True

    def put(self, value: Tensor) -> None:
        """Takes the prompt, which comes first, and then each token."""
        if not self._in_prompt:
            self.tokens += map(int, value.flatten())
        self._in_prompt = False

    def end(self) -> None:
        """Nothing was held back."""


def prepare_alone(model: Any, processor: Any, input: VLMInput, options: dict[str, Any]) -> dict[str, Any]:
    """One record's inputs by the processor's own calls: its chat path where it has a template."""
    assert isinstance(input.prompt, str)
    pictures = [load_image(source, Limits()).image for source in input.images or ()]
    if getattr(processor, "chat_template", None):
        content = [
            *({"type": "image", "image": picture} for picture in pictures),
            {"type": "text", "text": input.prompt},
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            processor_kwargs=dict(options),
        )
    else:
        inputs = _process(model, processor, input.prompt, pictures, options)
    tensors = {name: value for name, value in inputs.items() if name != "labels"}
    taken = signature(model.forward).parameters
    if model.config.is_encoder_decoder and "input_ids" not in taken:
        # The encoder takes the image alone: what it has no argument for is the prompt, for the decoder.
        tensors = {name: value for name, value in tensors.items() if name in taken}
        if input.prompt and "decoder_input_ids" not in tensors:
            words = processor.tokenizer(input.prompt, add_special_tokens=False, return_tensors="pt")
            tensors["decoder_input_ids"] = words["input_ids"]
    return tensors


def _process(model: Any, processor: Any, prompt: str, pictures: list[Any], options: dict[str, Any]) -> Any:
    """The processor's call on a plain prompt, behind placeholders where the processor puts none in itself."""
    token, place = getattr(processor, "image_token", None), getattr(model.config, "image_token_id", None)
    texts = [prompt]
    if pictures and token is not None:
        texts.append(str(token) * len(pictures) + prompt)
    failure: Exception | None = None
    for text in texts:
        for images in ([pictures], pictures) if pictures else (None,):
            try:
                inputs = processor(text=[text], images=images, return_tensors="pt", **options)
            except Exception as error:  # the model's own code: what it refuses, it may take in the next form
                failure = failure or error
                continue
            named = text is not prompt or not pictures or place is None
            if named or "input_ids" not in inputs or bool((inputs["input_ids"] == place).any()):
                return inputs
    raise failure or AssertionError("no form of the prompt has a place for its images")


def stream_tokens(stop: StopCriteria, stream: Stream, inputs: list[VLMInput]) -> dict[int, list[int]]:
    """The new tokens of each input of a stream, which its outputs hold only as text; none for a failed one."""
    with stop.recording() as recorded:
        for _ in stream(enumerate(inputs)):
            pass
    return {index: recorded.get(index, []) for index in range(len(inputs))}


def _first_difference(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
