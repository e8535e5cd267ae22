"""One result as one line of the output, and back. Knows the line's keys and their order, and no file."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode
_ENCODE_ASCII = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False).encode


def render(result: Result, model: str) -> tuple[bytes, Result]:
    """The result's line with its line end, and the result that it states.

    That is `result`, or an error in its place where a model's answer cannot be written as JSON.
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


def _encode(values: dict[str, Any]) -> bytes:
    try:
        return (_ENCODE(values) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
        return (_ENCODE_ASCII(values) + "\n").encode()


def _values(result: Result, model: str) -> dict[str, Any]:
    request, output, error = result.request, result.output, result.error
    if output is not None:
        usage = output.usage
        return {
            "id": request.id,
            "status": "ok",
            "generated_text": output.generated_text,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
            },
            "generation_config": output.generation_config,
            "finish_reason": output.finish_reason,
            "parsed": output.parsed,
            "error": None,
            "flags": result.flags,
            "attempts": result.attempts,
            "model": model,
            "images": request.images,
            "metadata": request.metadata or {},
        }
    return {
        "id": request.id,
        "status": "error",
        "generated_text": None,
        "usage": None,
        "generation_config": None,
        "finish_reason": None,
        "parsed": None,
        "error": {"type": type(error).__name__, "message": error_message(request, error)},
        "flags": [],
        "attempts": result.attempts,
        "model": model,
        "images": request.images,
        "metadata": request.metadata or {},
    }


def error_message(request: Request, error: VLMError | None) -> str:
    """An error's text, beginning with where its record stands."""
    message = str(error)
    return message if message.startswith(request.where) else f"{request.where}: {message}"


def relabelled(line: bytes, request: Request, model: str, old: str) -> bytes:
    """The line of an answer that still holds, with the id, images and metadata its record has now.

    Args:
        line: As it stands in the output.
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
