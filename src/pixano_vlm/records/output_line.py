"""The output line: the one definition of what a run writes for each record, and reads back. Knows no file.

The fields of `OutputLine`, in their order, are the keys of a line. Tables take their columns from them, the OpenAI
Batch output and the report read them, and `output_line.schema.json` beside this file is their JSON Schema.

Compatibility: `VERSION` is in every run file. Within one major version no key is removed, renamed or given another
type; a new key raises the minor version, and is written only where it is set. A reader ignores keys that it does not
know.
"""

from __future__ import annotations

import json
from typing import Any, Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.models.region import ImageSize, Region
from pixano_vlm.models.vlm import Sample, VLMOutput
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result

__all__ = ["VERSION", "LineError", "LineUsage", "OutputLine", "error_message", "relabelled", "render", "says"]

VERSION = "1.6"
"""1.0: the first version. 1.1: `images` also lists the images in chat messages. 1.2: `pages_not_read`.
1.3: `prompt` and `reasoning`. 1.4: `regions` and `image_sizes`; `confidence`, `raw_confidence`, `field_confidence`,
`logprobs` and `probabilities`. 1.5: `samples` and `agreement`. 1.6: `reasoning_tokens`."""


class LineUsage(BaseModel):
    """Token counts of one record; see `UsageInfo`."""

    model_config = ConfigDict(extra="allow")

    prompt_tokens: int = Field(description="Tokens in the prompt, image tokens included.")
    completion_tokens: int = Field(description="Tokens generated.")
    total_tokens: int = Field(description="Both together.")


class LineError(BaseModel):
    """Why a record failed."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The error's class: `RecordError`, `ImageError`, `PromptError`, ...")
    message: str = Field(description="What is wrong, beginning with where the record is.")


class OutputLine(BaseModel):
    """One line of an output."""

    model_config = ConfigDict(extra="allow", title="Output line")

    id: str = Field(description="The record's id; its line number where it has none of its own.")
    status: Literal["ok", "error"] = Field(description="Whether the model answered.")
    generated_text: str | None = Field(default=None, description="The answer; null where the record failed.")
    usage: LineUsage | None = Field(default=None, description="Token counts; null where the record failed.")
    generation_config: dict[str, Any] | None = Field(
        default=None, description="The settings that took part in the answer."
    )
    finish_reason: Literal["stop", "length"] | None = Field(
        default=None,
        description="`stop`: the model ended by itself; `length`: max_new_tokens was reached; null: unknown.",
    )
    parsed: Any = Field(default=None, description="The JSON value that was asked for by `response_format`.")
    error: LineError | None = Field(default=None, description="Why the record failed; null where it did not.")
    flags: list[str] = Field(default_factory=list, description="Quality flags of the answer.")
    attempts: int = Field(default=1, description="How often the record was asked.")
    model: str | None = Field(default=None, description="The model's registered name, or its id or path.")
    images: list[str] = Field(
        default_factory=list,
        description="The images as the record names them, those of its messages last; long sources shortened.",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description="The record's own metadata and unknown keys."
    )
    prompt: str | list[dict[str, Any]] | None = Field(
        default=None,
        description="What was asked, without the run's system turn; only in runs that ask for it (`--with-prompt`).",
    )
    reasoning: str | None = Field(
        default=None, description="What a model that thinks wrote before its answer, apart from it."
    )
    reasoning_tokens: int | None = Field(
        default=None,
        description="How many of `usage.completion_tokens` are thoughts and the marks around them; the others are "
        "the answer's.",
    )
    confidence: float | None = Field(
        default=None,
        description="0 to 1: the geometric mean of the probabilities that the model gave the answer's tokens, its "
        "end included and its thoughts left out; under a JSON schema among the tokens that it allows.",
    )
    field_confidence: Any = Field(
        default=None,
        description="How sure the model is of each value of `parsed`, 0 to 1, in the same shape.",
    )
    logprobs: dict[str, Any] | None = Field(
        default=None,
        description="The tokens of `confidence` with log-probabilities, in OpenAI's form, where asked for.",
    )
    probabilities: dict[str, float] | None = Field(
        default=None, description="The probability of each of `choices`, where there were any; they sum to 1."
    )
    samples: list[Sample] | None = Field(
        default=None,
        description="All samples of the answer, where `n` asked for several; `generated_text` is what most say.",
    )
    agreement: float | None = Field(
        default=None, description="The share of `samples` that say what the answer says, above 0 to 1."
    )
    pages_not_read: int | None = Field(
        default=None,
        description="Pages of the record's image files that nobody asked for and the model did not see.",
    )
    raw_confidence: float | None = Field(
        default=None, description="The confidence before `--calibration` was applied to it."
    )
    regions: list[Region] | None = Field(
        default=None,
        description="Boxes, points and polygons in pixels of the upright image; only where they were asked for.",
    )
    image_sizes: list[ImageSize] | None = Field(
        default=None,
        description="The size of each image, and of what the model looked at; only where regions, `min_pixels` or "
        "`max_pixels` were asked for.",
    )


FIRST = (
    "id", "status", "generated_text", "usage", "generation_config", "finish_reason", "parsed", "error", "flags",
    "attempts", "model", "images", "metadata",
)  # fmt: skip
"""The keys of the first version, which every line has. A later one is written only where it is set."""

_LATER_OF_ANSWERS = tuple(
    name for name in OutputLine.model_fields if name in VLMOutput.model_fields and name not in FIRST
)
"""Later fields that are the answer's own, under the same name."""

_LISTS = frozenset({"regions", "image_sizes", "samples"})
"""Fields that are lists of objects, whose keys are written only where they are set."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode
_ENCODE_ASCII = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False).encode


def render(result: Result, model: str) -> tuple[bytes, Result]:
    """The result's line with its line end, and the result that it states.

    That is `result`, or an error instead where a model's answer cannot be written as JSON.
    """
    try:
        return _encode(_values(result, model)), result
    except (TypeError, ValueError, RecursionError) as error:
        failed = Result(
            result.request,
            error=GenerationError(
                f"the model's answer cannot be written as JSON: {type(error).__name__}: {error}."
            ),
        )
        return _encode(_values(failed, model)), failed


def says(request: Request, model: str, length: int, crc: int) -> bool:
    """Whether the request is an error whose line has the given length in bytes and CRC-32."""
    if request.error is None:
        return False
    data, _ = render(Result(request, error=request.error), model)
    return len(data) == length and crc32(data) == crc


def read_line(data: bytes) -> OutputLine:
    """A line that a run wrote.

    Raises:
        ValueError: When it is not one.
    """
    try:
        return OutputLine.model_validate_json(data)
    except ValidationError:  # half a surrogate pair, which pydantic's own reader of JSON refuses
        return OutputLine.model_validate(json.loads(data))


def as_line(line: OutputLine) -> bytes:
    """A line that was read, as it is written."""
    return _encode(line.model_dump(exclude_unset=True))


def _encode(values: dict[str, Any]) -> bytes:
    try:
        return (_ENCODE(values) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
        return (_ENCODE_ASCII(values) + "\n").encode()


def _values(result: Result, model: str) -> dict[str, Any]:
    """A line's keys and values, in their order: plain JSON values, since a million of them are made."""
    request, output, error = result.request, result.output, result.error
    values: dict[str, Any] = {
        "id": request.id,
        "status": "error" if output is None else "ok",
        "generated_text": None,
        "usage": None,
        "generation_config": None,
        "finish_reason": None,
        "parsed": None,
        "error": None,
        "flags": [*result.flags, *result.image_flags],
        "attempts": result.attempts,
        "model": model,
        "images": request.images,
        "metadata": request.metadata or {},
    }
    if request.prompt is not None:
        values["prompt"] = request.prompt
    if output is None:
        values["error"] = {"type": type(error).__name__, "message": error_message(request, error)}
        return values
    if result.pages_not_read:
        values["pages_not_read"] = result.pages_not_read
    if result.raw_confidence is not None:
        values["raw_confidence"] = result.raw_confidence
    usage = output.usage
    values["generated_text"] = output.generated_text
    values["usage"] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    values["generation_config"] = output.generation_config
    values["finish_reason"] = output.finish_reason
    values["parsed"] = output.parsed
    for name in _LATER_OF_ANSWERS:
        if (value := getattr(output, name)) is not None:
            is_list = name in _LISTS
            values[name] = (
                [item.model_dump(mode="json", exclude_none=True) for item in value] if is_list else value
            )
    return values


def error_message(request: Request, error: VLMError | None) -> str:
    """An error's text, beginning with where its record is."""
    message = str(error)
    return message if message.startswith(request.where) else f"{request.where}: {message}"


def relabelled(line: bytes, request: Request, model: str, old: str) -> bytes:
    """The line of an answer that still holds, with the id, images and metadata its record has now.

    Args:
        line: As it is in the output.
        request: What it answers now.
        model: The model's name now.
        old: How an error's message names the record; it now names `request`.

    Raises:
        ValueError: When `line` is not a line of an output.
    """
    values = json.loads(line)
    values.update(id=request.id, model=model, images=request.images, metadata=request.metadata or {})
    if values["error"] is not None:
        message = values["error"]["message"].removeprefix(old)
        if message != values["error"]["message"]:
            values["error"]["message"] = request.where + message
    return _encode(values)
