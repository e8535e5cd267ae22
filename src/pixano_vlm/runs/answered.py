"""What a model's answer to a request comes to: its JSON, its flags. Knows no output."""

from __future__ import annotations

from pixano_vlm.errors import VLMError
from pixano_vlm.models.vlm import VLMOutput, checked_answer
from pixano_vlm.prompts.response_format import parse_json
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result
from pixano_vlm.runs.flags import flags_of
from pixano_vlm.runs.image_flags import image_flags

__all__ = ["result_of"]


def result_of(request: Request, answer: VLMOutput | VLMError, who: str) -> Result:
    """The result of a request.

    Args:
        request: What was asked.
        answer: What the model's `stream` gave for it.
        who: How a message begins about an answer that is none: `Model.stream answered with`.
    """
    answer = checked_answer(answer, who)
    if isinstance(answer, Exception):
        return Result(request, error=answer)
    asked = None if request.input is None else request.input.response_format
    if asked is not None and answer.parsed is None:  # a model class need not look at what it wrote
        answer = answer.model_copy(update={"parsed": parse_json(answer.generated_text)})
    noted, pages_not_read = image_flags(request.input)
    return Result(
        request,
        output=answer,
        flags=flags_of(answer, asked),
        image_flags=noted,
        pages_not_read=pages_not_read,
    )
