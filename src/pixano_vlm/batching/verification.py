"""Whether what records get in a batch is what each gets alone: the check behind `load --verify`.

Alone means transformers' own `generate` on one record, with no code of this package between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.prepare import PromptMaker
from pixano_vlm.batching.sampling import generation_config
from pixano_vlm.batching.sequence import Ending, Sequence
from pixano_vlm.batching.static import Start
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
    model: Any, maker: PromptMaker, ending: Ending, stream: Stream, inputs: list[VLMInput]
) -> Verification:
    """Compares the tokens of inputs run together with those of each run alone.

    Args:
        model: The transformers model.
        maker: Prepares prompts, for both sides alike.
        ending: The stream's; its records' tokens are read there.
        stream: Runs inputs together.
        inputs: Greedy requests that the model takes.
    """
    alone = [generate_alone(model, maker, ending, input) for input in inputs]
    together = stream_tokens(ending, stream, inputs)
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
def generate_alone(model: Any, maker: PromptMaker, ending: Ending, input: VLMInput) -> list[int]:
    """The new tokens that transformers' `generate` gives to one record."""
    tensors = {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        if isinstance(value, Tensor)
        else value
        for name, value in maker.make(input).tensors.items()
    }
    start = Start()
    config = generation_config(model, input, input.max_new_tokens)
    row = model.generate(**tensors, generation_config=config, logits_processor=[start])[
        0, start.length :
    ].tolist()
    ends = [place for place, token in enumerate(row) if token in ending.end_ids]
    tokens: list[int] = row[: ends[0] + 1] if ends else row
    return tokens


def stream_tokens(ending: Ending, stream: Stream, inputs: list[VLMInput]) -> dict[int, list[int]]:
    """The new tokens of each input of a stream, which its outputs hold only as text; none for a failed one."""
    tokens: dict[int, list[int]] = {index: [] for index in range(len(inputs))}
    text = ending.text

    def read(sequence: Sequence) -> str:
        assert isinstance(sequence.key, int)
        tokens[sequence.key] = list(sequence.tokens)
        return text(sequence)

    ending.text = read  # type: ignore[method-assign]  # taken off again below
    try:
        for _ in stream(enumerate(inputs)):
            pass
    finally:
        del ending.text
    return tokens


def _first_difference(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
