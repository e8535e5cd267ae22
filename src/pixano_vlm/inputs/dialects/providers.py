"""Requests to other services than OpenAI's -> the record that each asks for.

Message batches of Anthropic and of Bedrock, Gemini's batch lines, requests to Ollama and single chat requests. As
with an OpenAI Batch file, the model that they name is not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.dialects.dialect import Dialect, Values
from pixano_vlm.inputs.dialects.openai_batch import as_format, chat_body
from pixano_vlm.inputs.dialects.responses import responses_body

__all__ = ["ANTHROPIC", "BEDROCK", "CHAT_REQUEST", "GEMINI", "OLLAMA", "RESPONSES"]


_ASKS_NOTHING: tuple[Any, ...] = (
    [], {}, {"type": "disabled"}, {"type": "auto"}, {"type": "none"}, "text/plain",
)  # fmt: skip
"""Values that ask for nothing under whichever key they are. None of them equals 0, which a temperature may be."""


def _settings(
    given: Mapping[str, Any], taken: Mapping[str, str], ignored: frozenset[str], where: str
) -> Values:
    """Settings under the tool's own names; refuses what is in neither."""
    found: Values = {}
    for key, value in given.items():
        if key in ignored or value is None or value is False or value in _ASKS_NOTHING:
            continue
        if key not in taken:
            raise RecordError(f"{where}{key} cannot be done here.", hint="Leave it out.")
        found[taken[key]] = value
    return found


def _object(value: Any, name: str) -> Values:
    if not isinstance(value, dict):
        raise RecordError(f"{name} must be an object.", hint=f'Write "{name}": {{...}}.')
    return value


_ANTHROPIC = {
    "max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k",
    "stop_sequences": "stop",
}  # fmt: skip
_ANTHROPIC_IGNORED = frozenset(
    {"model", "stream", "metadata", "service_tier", "anthropic_version", "messages", "system"}
)


def _anthropic(params: Values, where: str) -> Values:
    messages = params.get("messages")
    if not isinstance(messages, list):
        raise RecordError(f"{where} has no messages.", hint='Add "messages": [...].')
    system = params.get("system")
    first = [{"role": "system", "content": system}] if system else []
    return {
        "prompt": [*first, *messages],
        **_settings(params, _ANTHROPIC, _ANTHROPIC_IGNORED, f"{where}."),
    }


ANTHROPIC = Dialect(
    "Anthropic Message Batches",
    frozenset({"params"}),
    lambda values: "custom_id" in values and "params" in values,
    lambda values: {"id": values["custom_id"], **_anthropic(_object(values["params"], "params"), "params")},
    "custom_id",
    frozenset({"custom_id", "params"}),
)
_NOVA = {
    "maxTokens": "max_new_tokens", "max_new_tokens": "max_new_tokens", "temperature": "temperature", "topP": "top_p",
    "top_p": "top_p", "topK": "top_k", "top_k": "top_k", "stopSequences": "stop",
}  # fmt: skip


def _bedrock(values: Values) -> Values:
    request = dict(_object(values["modelInput"], "modelInput"))
    config = _object(request.pop("inferenceConfig", None) or {}, "inferenceConfig")
    request.pop("schemaVersion", None)
    record = _anthropic(request, "modelInput")
    return {
        "id": values.get("recordId"),
        **record,
        **_settings(config, _NOVA, frozenset(), "modelInput.inferenceConfig."),
    }


BEDROCK = Dialect(
    "Amazon Bedrock batch inference",
    frozenset({"modelInput"}),
    lambda values: "modelInput" in values,
    _bedrock,
    "recordId",
    frozenset({"recordId", "modelInput"}),
)

_GEMINI = {
    "temperature": "temperature", "topP": "top_p", "top_p": "top_p", "topK": "top_k", "top_k": "top_k",
    "maxOutputTokens": "max_new_tokens", "max_output_tokens": "max_new_tokens", "stopSequences": "stop",
    "stop_sequences": "stop", "seed": "seed",
}  # fmt: skip
_GEMINI_FORMAT = {
    "responseMimeType": "response_mime_type", "responseSchema": "response_schema",
    "responseJsonSchema": "response_json_schema",
}  # fmt: skip
_GEMINI_CONFIG_IGNORED = frozenset({"candidateCount", *_GEMINI_FORMAT, *_GEMINI_FORMAT.values()})
_GEMINI_IGNORED = frozenset(
    {"model", "contents", "generationConfig", "generation_config", "systemInstruction", "system_instruction",
     "safetySettings", "safety_settings", "labels"}
)  # fmt: skip


def _gemini(values: Values) -> Values:
    request = _object(values["request"], "request") if "request" in values else values
    contents = request.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not isinstance(contents, list):
        raise RecordError("the request has no contents.", hint='Add "contents": [...].')
    system = request.get("systemInstruction", request.get("system_instruction"))
    turns = [{"role": "system", **_object(system, "systemInstruction")}] if system else []
    turns += [
        {"role": "user", **turn} if isinstance(turn, dict) and "role" not in turn else turn
        for turn in contents
    ]
    config = _object(
        request.get("generationConfig", request.get("generation_config")) or {}, "generationConfig"
    )
    _settings(
        {key: value for key, value in request.items() if key not in ("id", "metadata")},
        {},
        _GEMINI_IGNORED,
        "request.",
    )
    return {
        "id": values.get("key", values.get("id")),
        "prompt": turns,
        **_settings(config, _GEMINI, _GEMINI_CONFIG_IGNORED, "generationConfig."),
        **_gemini_format(config),
    }


def _gemini_format(config: Values) -> Values:
    """The JSON that a request asks for."""
    given = {key: config.get(key, config.get(other)) for key, other in _GEMINI_FORMAT.items()}
    if given["responseMimeType"] != "application/json":
        return {}
    schema = given["responseJsonSchema"] or _plain_types(given["responseSchema"])
    return {"response_format": as_format(schema) if schema else {"type": "json_object"}}


def _plain_types(schema: Any) -> Any:
    """A schema of Google's, whose types are in capitals, as one of JSON Schema."""
    if isinstance(schema, list):
        return [_plain_types(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in ("propertyOrdering", "nullable")}
    if isinstance(kept.get("properties"), dict):
        kept["properties"] = {name: _plain_types(part) for name, part in kept["properties"].items()}
    for key in ("items", "anyOf"):
        if key in kept:
            kept[key] = _plain_types(kept[key])
    if isinstance(kept.get("type"), str):
        kept["type"] = kept["type"].lower()
    return {"anyOf": [kept, {"type": "null"}]} if schema.get("nullable") is True else kept


GEMINI = Dialect(
    "Gemini batch",
    frozenset({"request", "contents"}),
    lambda values: (
        "prompt" not in values
        and (
            "contents" in values
            or (isinstance(values.get("request"), dict) and "contents" in values["request"])
        )
    ),
    _gemini,
    "key",
    frozenset({"key", "id", "request", "contents", *_GEMINI_IGNORED}),
)

_OLLAMA = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "seed": "seed",
    "repeat_penalty": "repetition_penalty", "num_predict": "max_new_tokens", "stop": "stop",
}  # fmt: skip
_OLLAMA_IGNORED = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "use_mmap", "use_mlock", "numa",
     "low_vram", "repeat_last_n", "penalize_newline"}
)  # fmt: skip
_OLLAMA_KEYS = frozenset(
    {"options", "stream", "keep_alive", "raw", "format", "template", "think", "suffix", "context"}
)


def _ollama_settings(values: Values) -> Values:
    options = _object(values.get("options") or {}, "options")
    found = _settings(options, _OLLAMA, _OLLAMA_IGNORED, "options.")
    if found.get("max_new_tokens") == -1:
        del found["max_new_tokens"]
    asked = values.get("format")
    if asked == "json":
        found["response_format"] = {"type": "json_object"}
    elif isinstance(asked, dict):
        found["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": asked},
        }
    for key in ("raw", "template", "think", "suffix", "context", "tools"):
        if values.get(key):
            raise RecordError(f"{key} cannot be done here.", hint="Leave it out.")
    return found


def _ollama(values: Values) -> Values:
    settings = _ollama_settings(values)
    taken = _OLLAMA_KEYS | {"model", "system"}
    record = {key: value for key, value in values.items() if key not in taken} | settings
    return with_system(record, values.get("system"))


OLLAMA = Dialect(
    "Ollama's generate",
    frozenset({"options", "keep_alive", "stream"}),
    lambda values: (
        isinstance(values.get("prompt"), str) and "model" in values and not _OLLAMA_KEYS.isdisjoint(values)
    ),
    _ollama,
)


def _chat_request(values: Values) -> Values:
    body = {
        key: value for key, value in values.items() if key not in ("id", "images", "options", "keep_alive")
    }
    settings: Values = {}
    if "options" in values or "format" in values:
        settings = _ollama_settings(values)
        body = {key: value for key, value in body.items() if key not in _OLLAMA_KEYS}
    kept: Values = {key: values[key] for key in ("id", "images") if key in values}
    return {**kept, **chat_body(body), **settings}


def _is_chat_request(values: Values) -> bool:
    messages = values.get("messages")
    if "prompt" in values or "model" not in values or not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    return isinstance(last, dict) and last.get("role") in ("user", "tool")


CHAT_REQUEST = Dialect(
    "chat requests (OpenAI, Ollama)", frozenset({"messages"}), _is_chat_request, _chat_request
)


def _is_responses(values: Values) -> bool:
    if "prompt" in values or "instruction" in values or "input" not in values:
        return False
    return isinstance(values["input"], list) or "model" in values or "instructions" in values


def _responses(values: Values) -> Values:
    others = {key: values[key] for key in ("ideal", "item") if key in values}  # as evaluations have them
    record = responses_body({key: value for key, value in values.items() if key not in others})
    return {**record, "metadata": {**others, **(record.get("metadata") or {})}} if others else record


RESPONSES = Dialect("OpenAI Responses", frozenset({"input"}), _is_responses, _responses)


def with_system(record: Values, system: Any) -> Values:
    """A record with a system message before its prompt; the record itself where that is empty."""
    if not system:
        return record
    prompt = record.get("prompt")
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(turns, list):
        return record
    return {**record, "prompt": [{"role": "system", "content": system}, *turns]}
