"""The probabilities of a record's labels from vLLM: of the tree's next tokens after each of its nodes, exactly.

vLLM gives the logarithms of named tokens' probabilities after a prompt (`logprob_token_ids`). Each node of the tree
is a request of one token, whose prompt is the record's and the node's tokens; vLLM's prefix cache has most of it.
Knows no engine: it makes requests and takes what came of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixano_vlm.engines.vllm.request import VLLMRequest
from pixano_vlm.errors import PromptError
from pixano_vlm.models.vlm import VLMInput, VLMOutput
from pixano_vlm.prompts.choices import NOT_SCORED
from pixano_vlm.prompts.labels import LabelScores, label_answer, log_sum

__all__ = ["LabelPart", "LabelRun"]

MOST_TOKENS = 100
"""Tokens whose probabilities one request asks for; vLLM takes 128."""


@dataclass(frozen=True, slots=True)
class LabelPart:
    """What one request asks: some tokens after one node."""

    place: int
    """The node; -1: the prompt."""
    tokens: tuple[int, ...]


class LabelRun:
    """One record whose labels are being scored, wave by wave.

    Args:
        ready: Its request, with the labels.
        ends: The model's end tokens.
    """

    def __init__(self, ready: VLLMRequest, ends: frozenset[int]) -> None:
        assert ready.labels is not None
        self._ready, self._tree = ready, ready.labels
        self._scores = LabelScores(self._tree, ends)
        self._wave: list[int] = []
        self._found: dict[int, dict[int, float]] = {}
        self._left = 0
        self._prompt_tokens = 0
        self._has_begun = False

    def next_parts(self) -> list[LabelPart]:
        """What to ask next, all of it independent; nothing once the probabilities are known."""
        while True:
            self._wave = self._scores.next_nodes() if self._has_begun else [-1]
            self._has_begun = True
            self._found = {place: {} for place in self._wave}
            parts = [part for place in self._wave for part in self._parts_of(place)]
            self._left = len(parts)
            if parts or not self._wave:
                return parts
            self._take_wave()  # a model without end tokens: nothing is to be known after a last token

    def _parts_of(self, place: int) -> list[LabelPart]:
        wanted = [*self._scores.ends, *self._scores.tokens_after(place)]
        distinct = list(dict.fromkeys(wanted))
        return [
            LabelPart(place, tuple(distinct[first : first + MOST_TOKENS]))
            for first in range(0, len(distinct), MOST_TOKENS)
        ]

    def request(self, part: LabelPart) -> VLLMRequest:
        """A part as vLLM takes it.

        Raises:
            PromptError: When this vLLM does not give the probabilities of named tokens.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        tokens = [self._tree.tokens[node] for node in self._tree.path(part.place)]
        ids = [*self._ready.prompt["prompt_token_ids"], *tokens]
        try:
            params = SamplingParams(
                max_tokens=1,
                temperature=0.0,
                logprob_token_ids=list(part.tokens),
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        except TypeError as error:
            raise PromptError(
                "choices: this version of vLLM does not give the probabilities of named tokens.",
                hint=f"Install a later one. {NOT_SCORED}",
            ) from error
        return VLLMRequest({**self._ready.prompt, "prompt_token_ids": ids}, params, self._ready.tokenization)

    def take(self, part: LabelPart, output: Any) -> bool:
        """Takes what vLLM answered to a part; returns whether its wave is complete.

        Args:
            part: What was asked.
            output: vLLM's `RequestOutput`, finished.
        """
        logprobs = output.outputs[0].logprobs[0]
        self._found[part.place].update({token: float(logprobs[token].logprob) for token in part.tokens})
        if part.place == -1:
            self._prompt_tokens = len(output.prompt_token_ids or ())
        self._left -= 1
        if not self._left:
            self._take_wave()
        return not self._left

    def _take_wave(self) -> None:
        for place in self._wave:  # parents before children
            found, ends = self._found[place], self._scores.ends
            ended = log_sum([found[end] for end in ends]) if ends else 0.0
            self._scores.take(place, ended, [found[token] for token in self._scores.tokens_after(place)])

    def answer(self, input: VLMInput) -> VLMOutput:
        """The record's answer, once there are no further parts.

        Raises:
            GenerationError: When what vLLM gave is not finite.
        """
        return label_answer(input, self._tree, self._scores.probabilities(), self._prompt_tokens)
