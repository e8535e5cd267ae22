"""Several samples of one record from a server: together where it takes `n`, each by itself where it does not.

A server that gives fewer choices than it was asked for is asked for the missing ones, one by one. Those have the
seeds of `models.samples`; how a server draws the choices of one request from one seed is its own affair.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from pixano_vlm.engines.openai.answer import read_answer
from pixano_vlm.engines.openai.failure import is_filtered, message_of
from pixano_vlm.engines.openai.request import SEEDS, ChatRequest
from pixano_vlm.engines.openai.server import ChatServer
from pixano_vlm.models.samples import sample_seed, vote
from pixano_vlm.models.vlm import UsageInfo, VLMInput, VLMOutput

__all__ = ["ask_for_samples"]


async def ask_for_samples(server: ChatServer, request: ChatRequest, input: VLMInput) -> VLMOutput:
    """The answer that most samples give.

    Args:
        server: It is asked until it has given as many choices as the record wants.
        request: With `n`.
        input: What it was made of.

    Raises:
        GenerationError: When one of the samples cannot be had; as of `ChatServer.ask` and `read_answer`.
        RunError: When the server can answer no request any more.
    """
    wanted = input.n or 1
    first, used = await server.ask(request)
    choices = [choice for choice in first["choices"] if _is_whole(choice)][:wanted]
    others = await asyncio.gather(
        *(server.ask(_alone(request, input, place)) for place in range(len(choices), wanted)),
        return_exceptions=True,
    )
    outputs = [read_answer({**first, "choices": [choice]}, request, used) for choice in choices]
    for other in others:
        if isinstance(other, BaseException):
            raise other
        outputs.append(read_answer(other[0], request, other[1]))
    answer = vote(input, outputs)
    if len(choices) < 2:
        return answer
    # Their tokens are counted together, so that of one sample nobody knows how many it has.
    samples = [
        sample.model_copy(update={"usage": None, "reasoning_tokens": None})
        if place < len(choices)
        else sample
        for place, sample in enumerate(answer.samples or [])
    ]
    completion = [outputs[0], *outputs[len(choices) :]]
    counted = UsageInfo.of(
        outputs[0].usage.prompt_tokens, sum(output.usage.completion_tokens for output in completion)
    )
    thoughts = [one.reasoning_tokens for one in completion if one.reasoning_tokens is not None]
    update = {"samples": samples, "usage": counted, "reasoning_tokens": sum(thoughts) if thoughts else None}
    return answer.model_copy(update=update)


def _is_whole(choice: Any) -> bool:
    return isinstance(choice, dict) and (is_filtered(choice) or message_of(choice) is not None)


def _alone(request: ChatRequest, input: VLMInput, place: int) -> ChatRequest:
    """The request for one sample, with its own seed where the record's was sent."""
    own: dict[str, Any] = {}
    if "seed" in request.settings:
        own["seed"] = (sample_seed(input.seed, place) or 0) % SEEDS
    settings = {name: value for name, value in (request.settings | own).items() if name != "n"}
    used = {name: value for name, value in (request.used | own).items() if name != "n"}
    return replace(request, settings=settings, used=used, asked=request.asked - {"n"})
