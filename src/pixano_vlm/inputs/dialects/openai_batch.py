"""A line of an OpenAI Batch file -> the record that it asks for.

The form: `{"custom_id", "method": "POST", "url": "/v1/chat/completions", "body": {...}}`, the body being what is
posted to chat completions. Azure's files name the same address without `/v1`; `/v1/responses` has other bodies.
`model` is not followed: a run has one model, that of `--model`. What the body asks for and no model here can do is
refused, rather than left out silently.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.dialects.dialect import Dialect, Values
from pixano_vlm.inputs.dialects.responses import responses_body
from pixano_vlm.inputs.fields import FIELDS
from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.nearest import did_you_mean

__all__ = ["OPENAI_BATCH", "as_format", "chat_body"]

URL = "/v1/chat/completions"
_PATHS = ("/chat/completions", "/responses")
"""How the addresses end that can be answered; before that may be a version or a deployment's name."""

_TAKEN = {
    "messages": "prompt",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "metadata": "metadata",
    "response_format": "response_format",
    "random_seed": "seed",
    "thinking_token_budget": "thinking_budget",
} | {name: name for name in SETTINGS if name != "max_new_tokens"}
_IGNORED = frozenset(
    {"model", "user", "store", "service_tier", "stream", "stream_options", "safety_identifier", "prompt_cache_key",
     "parallel_tool_calls", "prompt_cache_retention", "request_id", "priority",
     "include_stop_str_in_output",
     "skip_special_tokens", "spaces_between_special_tokens", "add_generation_prompt", "return_token_ids", "echo"}
)  # fmt: skip
"""What does not change the answer, or only how a server hands it over."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "logprobs": (False,), "frequency_penalty": (0,), "presence_penalty": (0,),
    "logit_bias": ({},), "tools": ([],), "functions": ([],), "modalities": (["text"],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},), "chat_template_kwargs": ({},), "seed": (-1,), "top_k": (-1, 0),
    "min_p": (0,), "top_p": (1,), "repetition_penalty": (1,), "min_tokens": (0,), "ignore_eos": (False,),
    "use_beam_search": (False,),
    "length_penalty": (1,), "stop": ([], ""), "stop_token_ids": ([],), "bad_words": ([],), "extra_body": ({},),
    "thinking": ({"type": "disabled"},), "safe_prompt": (False,), "web_search_options": ({},),
    "continue_final_message": (False,), "max_tokens": (-1,), "max_completion_tokens": (-1,),
}  # fmt: skip
"""What may be in a body as long as it asks for nothing."""
_VLLM = ("structured_outputs", "guided_json", "guided_choice")
_NESTED = "extra_body"
"""Where OpenAI's library has a caller put what only other servers take."""


def _is_it(values: Values) -> bool:
    return "custom_id" in values and "body" in values


def _to_record(values: Values) -> Values:
    body, url, method = values["body"], values.get("url", URL), values.get("method", "POST")
    if not isinstance(body, dict):
        raise RecordError("body must be an object.", hint='Write "body": {"messages": [...]}.')
    if (
        str(method).upper() != "POST"
        or not isinstance(url, str)
        or not url.partition("?")[0].endswith(_PATHS)
    ):
        raise RecordError(f"{method} {url} cannot be answered here.", hint=f"Only POST {URL} can.")
    record = responses_body(body) if "input" in body else chat_body(body)
    return {"id": values["custom_id"], **record}


OPENAI_BATCH = Dialect(
    "OpenAI Batch", frozenset({"body"}), _is_it, _to_record, "custom_id",
    frozenset({"custom_id", "method", "url", "body"}),
)  # fmt: skip


def chat_body(body: Values) -> Values:
    """The record that the body of a chat request asks for, without an id.

    Raises:
        RecordError: When it asks for what cannot be done.
    """
    if isinstance(extra := body.get(_NESTED), dict) and extra:
        body = {**{key: value for key, value in body.items() if key != _NESTED}, **extra}
    body = _with_format(body)
    record: dict[str, Any] = {}
    for key, value in body.items():
        if value is None or key in _IGNORED or _is_neutral(key, value):
            continue
        name = _TAKEN.get(key)
        if name is None or name not in FIELDS:
            raise RecordError(
                f"body.{key} cannot be done here.",
                hint=did_you_mean(key, _TAKEN) or "Leave it out.",
            )
        if name in record and record[name] != value:
            raise RecordError(
                "max_tokens and max_completion_tokens are both in the body, and differ.", hint="Keep one."
            )
        record[name] = value
    if "prompt" not in record:
        raise RecordError("the body has no messages.", hint='Add "messages": [...].')
    return record


def _with_format(body: Values) -> Values:
    """The body with vLLM's own keys for structured answers under OpenAI's."""
    asked = (
        dict(body.get("structured_outputs") or {}) if isinstance(body.get("structured_outputs"), dict) else {}
    )
    for key, name in (("json", "guided_json"), ("choice", "guided_choice")):
        if body.get(name) is not None:
            asked[key] = body[name]
    if len(asked) != 1 or not asked.keys() <= {"json", "choice"} or body.get("response_format"):
        return body
    schema = {"enum": asked["choice"]} if "choice" in asked else asked["json"]
    rest = {key: value for key, value in body.items() if key not in _VLLM}
    return {**rest, "response_format": as_format(schema)}


def as_format(schema: Any) -> Values:
    """A schema as OpenAI asks for it."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _is_neutral(key: str, value: Any) -> bool:
    # `1 == True` in Python, and neither may replace the other here.
    return any(
        value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
        for neutral in _NEUTRAL.get(key, ())
    )
