"""A line of the output -> a line of an OpenAI Batch output file.

The form: `{"id", "custom_id", "response": {"status_code", "request_id", "body": <chat completion>}, "error"}`, with
the response null and the error `{"code", "message"}` for a record that failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pixano_vlm.models.vlm import Sample
from pixano_vlm.outputs.forms import Answers
from pixano_vlm.records.output_line import LineUsage, OutputLine

__all__ = ["batch_of", "batch_rows", "to_batch_response", "write_batch_responses"]


def to_batch_response(line: OutputLine, created: int) -> dict[str, Any]:
    """One line.

    Args:
        line: As the output has it.
        created: When the answers were made, in seconds since 1970.
    """
    name = blake2b(line.id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    outcome: dict[str, Any] = {"id": f"batch_req_{name}", "custom_id": line.id}
    if line.error is not None:
        error = {"code": line.error.type, "message": line.error.message}
        return {**outcome, "response": None, "error": error}
    body = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": created,
        "model": line.model,
        "choices": [_choice(*numbered) for numbered in enumerate(_answers(line))],
        "usage": None if line.usage is None else _usage(line, line.usage),
    }
    return {
        **outcome,
        "response": {"status_code": 200, "request_id": f"req_{name}", "body": body},
        "error": None,
    }


def _answers(line: OutputLine) -> Sequence[OutputLine | Sample]:
    return line.samples or [line]


def _usage(line: OutputLine, usage: LineUsage) -> dict[str, Any]:
    """Token counts, those of thoughts where OpenAI has them."""
    counts = usage.model_dump()
    if line.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": line.reasoning_tokens}
    return counts


def _choice(index: int, answer: OutputLine | Sample) -> dict[str, Any]:
    """An answer, or one sample of it."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.generated_text, "refusal": None}
    if answer.parsed is not None:
        message["parsed"] = answer.parsed  # as OpenAI's library has it in a ParsedChatCompletion
    if answer.reasoning is not None:
        message["reasoning_content"] = (
            answer.reasoning
        )  # OpenAI has no field; vLLM's and DeepSeek's servers do
    return {
        "index": index,
        "message": message,
        "logprobs": answer.logprobs,
        "finish_reason": answer.finish_reason or "stop",
    }


def write_batch_responses(lines: Iterable[OutputLine], path: Path, created: int) -> None:
    """Writes an OpenAI Batch output file. Arguments as of `to_batch_response`."""
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            # ASCII: half a surrogate pair in an answer could not be written otherwise.
            file.write(json.dumps(to_batch_response(line, created)) + "\n")


def batch_of(answers: Answers, path: Path) -> None:
    """A finished output as an OpenAI Batch output file."""
    write_batch_responses((line for line, _ in answers.rows()), path, answers.created)


def batch_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a Batch output: its record's id, and the line as JSON without when it was made.

    Raises:
        ValueError: When it is not one.
    """
    with path.open("rb") as file:
        for text in file:
            line = json.loads(text)
            try:
                id, body = line["custom_id"], (line["response"] or {}).get("body", {})
            except (TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"a line is not that of a Batch output: {error}") from error
            body.pop("created", None)
            yield str(id), json.dumps(line, sort_keys=True)
