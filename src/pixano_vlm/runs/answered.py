"""What a model's answer to a request comes to: its JSON, its flags. Knows no output."""

from __future__ import annotations

from dataclasses import dataclass

from pixano_vlm.errors import VLMError
from pixano_vlm.models.vlm import DECIMALS, VLMOutput, checked_answer
from pixano_vlm.prompts.response_format import parse_json
from pixano_vlm.records.calibration import Calibration
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result
from pixano_vlm.runs.flags import flags_of
from pixano_vlm.runs.image_flags import image_flags
from pixano_vlm.runs.regions import RegionReader

__all__ = ["AnswerRules", "result_of"]


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """What holds for every answer of a run."""

    regions: RegionReader | None = None
    """Reads the regions of answers that were asked for them."""
    least_confidence: float | None = None
    """Flag answers of less; see `flags_of`."""
    calibration: Calibration | None = None
    """Applied to each confidence, before the flags are made."""


def result_of(
    request: Request,
    answer: VLMOutput | VLMError,
    who: str,
    rules: AnswerRules | None = None,
) -> Result:
    """The result of a request.

    Args:
        request: What was asked.
        answer: What the model's `stream` gave for it.
        who: How a message begins about an answer that is none: `Model.stream answered with`.
        rules: What holds for every answer of the run.
    """
    rules, answer = rules or AnswerRules(), checked_answer(answer, who)
    region_flags: tuple[str, ...] = ()
    if isinstance(answer, VLMOutput) and rules.regions is not None and request.input is not None:
        try:
            answer, region_flags = rules.regions.read(request.input, answer)
        except VLMError as error:
            answer = error
    if isinstance(answer, Exception):
        return Result(request, error=answer)
    asked = None if request.input is None else request.input.response_format
    if asked is not None and answer.parsed is None:  # a model class need not look at what it wrote
        answer = answer.model_copy(update={"parsed": parse_json(answer.generated_text)})
    raw = None if rules.calibration is None else answer.confidence
    if rules.calibration is not None and raw is not None:
        answer = answer.model_copy(update={"confidence": round(rules.calibration.apply(raw), DECIMALS)})
    noted, pages_not_read = image_flags(request.input)
    return Result(
        request,
        output=answer,
        flags=(*flags_of(answer, asked, rules.least_confidence), *region_flags),
        image_flags=noted,
        pages_not_read=pages_not_read,
        raw_confidence=raw,
    )
