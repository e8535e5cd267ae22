"""Training data -> records: the turns up to the last answer are sent, and that answer is kept as the reference.

A turn of the assistant at the end is what a model is to learn to say, not a beginning that it is to continue: it goes
into the metadata as `reference` and is not sent. Earlier turns of the assistant are sent. Images are named by the
line (`images`, `image`, ...), by a turn, or by a part of one; `<image>` in a turn is the place of the next one, and
where there is none, all come before the text of the first turn of the user, as the tools that read these forms do it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.dialects.dialect import Dialect, Values
from pixano_vlm.inputs.dialects.providers import with_system
from pixano_vlm.inputs.dialects.text_values import parsed_text
from pixano_vlm.inputs.dialects.turns import as_sources, as_turns, marks_in, placed, with_videos

__all__ = [
    "CONVERSATIONS",
    "INSTRUCTION",
    "MESSAGES",
    "PROMPT_COMPLETION",
    "QUERY_RESPONSE",
    "SYSTEM",
    "TEXTS",
]

REFERENCE = "reference"

_IMAGE_KEYS = (
    "images",
    "image",
    "image_path",
    "image_paths",
    "img",
    "imgs",
    "image_url",
    "image_urls",
    "file_name",
)
_VIDEO_KEYS = ("videos", "video")
_REFUSED = {
    "audios": "sound", "audio": "sound", "tools": "tools", "functions": "tools",
}  # fmt: skip
_SYSTEM_KEYS = ("system", "system_prompt")


def _conversation(values: Values, key: str, turns: Any, *, answers: Iterable[str] = ()) -> Values:
    """The record of a line whose turns are known.

    Args:
        values: The line.
        key: Where its turns were.
        turns: They, in any of their forms.
        answers: Keys that hold the reference, too.
    """
    for refused, what in _REFUSED.items():
        if values.get(refused):
            raise RecordError(f"{refused} asks for {what}, which cannot be done here.", hint="Leave it out.")
    messages = as_turns(turns, key)
    system = next((values[name] for name in _SYSTEM_KEYS if values.get(name)), None)
    images = [source for name in _IMAGE_KEYS for source in as_sources(values.get(name), name)]
    videos = [source for name in _VIDEO_KEYS for source in as_sources(values.get(name), name)]
    reference = [text for name in answers if (text := _text(values.get(name)))]
    while messages and messages[-1].get("role") == "assistant":
        reference.insert(0, _text(messages.pop()))
    reference = list(filter(None, reference))
    if not any(message.get("role") == "user" for message in messages):
        raise RecordError(
            f"{key} has no turn of a user before the answer.", hint='Add {"role": "user", "content": "..."}.'
        )
    if values.get("objects") and "<bbox>" in json.dumps(messages):
        raise RecordError(
            "objects are to be written into the text, which is not done here.", hint="Write them into it."
        )
    used = {key, "objects", *answers, *_IMAGE_KEYS, *_VIDEO_KEYS, *_SYSTEM_KEYS, *_REFUSED, "metadata"}
    record = {name: value for name, value in values.items() if name not in used and value is not None}
    marks = sum(marks_in(message.get("content")) for message in messages if message.get("role") == "user")
    if marks and not images:
        raise RecordError(
            f"{key} has {marks} places for an image, and the line names none.",
            hint='Add "images": ["a.jpg"].',
        )
    record["prompt"] = with_videos(placed(messages, len(images)), videos)
    if images:
        record["images"] = images
    metadata = values.get("metadata")
    if not isinstance(metadata, (dict, type(None))):
        record["metadata"] = metadata  # refused where every line's metadata is
    elif reference:
        record["metadata"] = {REFERENCE: "\n".join(reference), **(metadata or {})}
    elif metadata:
        record["metadata"] = metadata
    return with_system(record, system)


def _text(value: Any) -> str:
    """An answer's text: that of a string, a message, parts or a list of messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for key in ("content", "value", "text", "assistant"):
            if value.get(key) is not None:
                return _text(value[key])
        return "" if not value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    return "" if value is None else json.dumps(value)


def _turns_under(*keys: str) -> Dialect:
    """Lines whose turns are under one of these keys."""

    def is_it(values: Values) -> bool:
        if values.get("prompt") is not None:
            return False
        return any(isinstance(parsed_text(values.get(key)), (list, dict)) or isinstance(values.get(key), str)
                   for key in keys)  # fmt: skip

    def to_record(values: Values) -> Values:
        key = next(key for key in keys if values.get(key) is not None)
        return _conversation(values, key, values[key], answers=("completion",))

    return Dialect("turns under " + " or ".join(keys), frozenset(keys), is_it, to_record)


MESSAGES = _turns_under("messages")
"""TRL, ms-swift, LLaMA-Factory, OpenAI's fine-tuning files, Axolotl, Unsloth, and requests to Ollama."""
CONVERSATIONS = _turns_under("conversations", "conversation", "dialogue", "dialog")
"""LLaVA, ShareGPT, InternVL, Qwen-VL, MiniCPM-V, torchtune."""


def _texts(values: Values) -> Values:
    turns = [
        {"role": role, "content": pair[role]}
        for pair in values["texts"]
        for role in ("user", "assistant")
        if pair.get(role) is not None
    ]
    return _conversation(values, "texts", turns)


TEXTS = Dialect(
    "turns under texts (the Cauldron, FineVision)",
    frozenset({"texts"}),
    lambda values: (
        "prompt" not in values
        and isinstance(values.get("texts"), list)
        and bool(values["texts"])
        and all(isinstance(pair, dict) and "user" in pair for pair in values["texts"])
    ),
    _texts,
)


def _prompt_completion(values: Values) -> Values:
    prompt = values["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    record = _conversation(values, "prompt", turns, answers=("completion",))
    only = record["prompt"][0]
    if isinstance(prompt, str) and len(record["prompt"]) == 1 and isinstance(only["content"], str):
        record["prompt"] = prompt
    return record


PROMPT_COMPLETION = Dialect(
    "prompt and completion (TRL)",
    frozenset({"completion", "chosen"}),
    lambda values: isinstance(values.get("prompt"), list) and ("completion" in values or "chosen" in values),
    _prompt_completion,
)


def _query_response(values: Values) -> Values:
    turns: list[Any] = []
    for pair in values.get("history") or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RecordError(
                "history must hold pairs of a question and an answer.", hint='Write [["Q", "A"]].'
            )
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    turns.append({"role": "user", "content": values["query"]})
    without = {key: value for key, value in values.items() if key != "history"}
    return _conversation(without, "query", turns, answers=("response",))


QUERY_RESPONSE = Dialect(
    "query and response (ms-swift)",
    frozenset({"query"}),
    lambda values: (
        "prompt" not in values
        and isinstance(values.get("query"), str)
        and ("response" in values or "history" in values)
    ),
    _query_response,
)


def _instruction(values: Values) -> Values:
    question = "\n".join(filter(None, (values["instruction"], values.get("input"))))
    without = {key: value for key, value in values.items() if key not in ("instruction", "input", "output")}
    record = _query_response({**without, "query": question, "response": values.get("output")})
    record.pop("query", None)
    return record


INSTRUCTION = Dialect(
    "instruction, input and output (Alpaca, LLaMA-Factory)",
    frozenset({"instruction"}),
    lambda values: (
        "prompt" not in values
        and isinstance(values.get("instruction"), str)
        and isinstance(values.get("input", ""), (str, type(None)))
        and ("output" in values or "input" in values)
    ),
    _instruction,
)
SYSTEM = Dialect(
    "a system message beside the prompt",
    frozenset(_SYSTEM_KEYS),
    lambda values: "prompt" in values and any(isinstance(values.get(key), str) for key in _SYSTEM_KEYS),
    lambda values: with_system(
        {key: value for key, value in values.items() if key not in _SYSTEM_KEYS},
        next((values[key] for key in _SYSTEM_KEYS if values.get(key)), None),
    ),
)
