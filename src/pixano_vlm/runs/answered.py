"""What a model's answer to a request comes to: its JSON, its flags. Knows no output."""

from __future__ import annotations

from pixano_vlm.errors import VLMError
from pixano_vlm.models.vlm import VLMOutput, checked_answer
from pixano_vlm.prompts.response_format import parse_json
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result
from pixano_vlm.runs.flags import flags_of
from pixano_vlm.runs.image_flags import image_flags
from pixano_vlm.runs.regions import RegionReader

__all__ = ["result_of"]


def result_of(
    request: Request,
    answer: VLMOutput | VLMError,
    who: str,
    regions: RegionReader | None = None,
    least_confidence: float | None = None,
) -> Result:
    """The result of a request.

    Args:
        request: What was asked.
        answer: What the model's `stream` gave for it.
        who: How a message begins about an answer that is none: `Model.stream answered with`.
        regions: Reads the regions of answers that were asked for them.
        least_confidence: Flag answers of less; see `flags_of`.
    """
    answer = checked_answer(answer, who)
    region_flags: tuple[str, ...] = ()
    if isinstance(answer, VLMOutput) and regions is not None and request.input is not None:
        try:
            answer, region_flags = regions.read(request.input, answer)
        except VLMError as error:
            answer = error
    if isinstance(answer, Exception):
        return Result(request, error=answer)
    asked = None if request.input is None else request.input.response_format
    if asked is not None and answer.parsed is None:  # a model class need not look at what it wrote
        answer = answer.model_copy(update={"parsed": parse_json(answer.generated_text)})
    noted, pages_not_read = image_flags(request.input)
    return Result(
        request,
        output=answer,
        flags=(*flags_of(answer, asked, least_confidence), *region_flags),
        image_flags=noted,
        pages_not_read=pages_not_read,
    )
