"""Why one request was not answered, read from what a server sent in its place, and what follows from it.

Servers say so in many forms: a status, an error object under status 200, a reason beside half an answer, a page of
HTML. Knows no connection and no record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pixano_vlm.engines.openai.event_stream import read_events
from pixano_vlm.errors import RESUME
from pixano_vlm.retry import retry_after

__all__ = [
    "ADDRESS_HINT",
    "Failure",
    "finish_of",
    "incomplete",
    "is_filtered",
    "message_of",
    "read_response",
    "shown",
]

Kind = Literal["passing", "cut", "outage", "refused", "account"]

SHOWN = 300
"""Most characters of a server's words that a message repeats."""

KEY_HINT = (
    "Name the environment variable that holds a valid key: --api-key-env, or `api_key_env` in the config."
)
ADDRESS_HINT = (
    "Is this the address of the API? It should end with /v1: --base-url, or `base_url` in the config."
)
MODEL_HINT = "Check the model's name there, and the address, which should end with /v1."
ACCOUNT_HINT = f"Fill the account. {RESUME}"
LENGTH_HINT = (
    "The prompt, its images and `max_new_tokens` together are more than the model takes there: lower "
    "`max_new_tokens`, shorten the prompt, or set `max_image_side` in the model's config."
)
SIZE_HINT = "Send smaller images: set `max_image_side`, such as 1024, in the model's config."

FAILED_FINISHES = frozenset({
    "error", "abort", "aborted", "cancelled", "canceled", "failed", "insufficient_system_resource", "network_error",
    "timeout", "malformed_function_call", "malformed_response", "server_error", "load", "unload",
})  # fmt: skip
"""Values of `finish_reason` that say that the answer beside them is not whole, although the status is 200."""

FILTERED_FINISHES = frozenset({
    "content_filter", "content-filter", "sensitive", "safety", "image_safety", "recitation", "prohibited_content",
    "blocklist", "spii", "refusal", "model_armor", "image_prohibited_content",
})  # fmt: skip
"""Values of `finish_reason` that say that a filter stopped the answer beside them."""

_OK = range(200, 300)
_REDIRECT, _BAD = 300, 400
_MOMENTARY = frozenset({408, 409, 423, 424, 425, 429, 498, 499})
"""Statuses below 500 of what passes: TGI answers 424 and Groq 498 and 499 where a server would say 500 and 503."""
_NOT_IMPLEMENTED, _BAD_GATEWAY = 501, 502
_ACCOUNT_CODES = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "exceeded_current_quota_error",
    "insufficient_balance", "insufficient_credits",
})  # fmt: skip
_REFUSED_CODES = frozenset({
    "content_filter", "content_policy_violation", "context_length_exceeded", "exceed_context_size_error",
    "invalid_request_error", "invalid_image", "invalid_prompt", "badrequesterror",
})  # fmt: skip
"""Codes of an error under status 200 that no other attempt will get past."""
_LENGTH = re.compile(
    r"(?i)context_length_exceeded|exceed_context_size|context (length|size|window)|prompt is too long"
    r"|tokens?\b.{0,80}\b(must be <=|exceeds?\b.{0,40}\bmaximum)"
)
_SIZE = re.compile(
    r"(?i)\b(image|payload|body|request|content)\b.{0,80}\b(too large|too big|exceeds?|megapixels?)\b"
)
_MARKUP = re.compile(r"(?is)<(script|style|head)\b(?!er).*?</\1\s*>|<[^>]*>")
_TITLE = re.compile(r"(?is)<title[^>]*>(.*?)</title>")
_PARTICULARS = re.compile(r"'[^']{0,200}'|\"[^\"]{0,200}\"|`[^`]{0,200}`|\S*\d\S*")
_DETAIL_DEPTH = 4
_BOM = "\ufeff"
_COMMENTS = re.compile(r"\A(?:\s*:[^\n]*\n)+")
"""Lines by which a gateway keeps a connection open until an answer is there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt failed, and what follows from it."""

    kind: Kind
    """`passing`: another attempt may do; `cut`: the server went away over it; `outage`: nobody is there; `refused`:
    this request never will be answered; `account`: none will be before somebody pays."""
    message: str
    """One clause without a full stop."""
    hint: str | None = None
    """What to do about the record."""
    run_hint: str | None = None
    """What to do where it is every record's trouble."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    status: int | None = None
    words: str = ""
    """The server's own, in full."""
    parameter: str | None = None
    """The part of the request that the server says it is about."""
    location: str | None = None
    """Where the server redirects to."""
    is_html: bool = False

    @property
    def likeness(self) -> tuple[str, int | None, str]:
        """What is equal for two failures of one cause: figures, ids and quoted names may differ."""
        plain = _PARTICULARS.sub("#", self.words.lower())
        return self.kind, self.status, " ".join(plain.split())[:SHOWN]


def shown(text: str, key: str | None = None) -> str:
    """A server's words for people: one line, not too long, and never the key, which some of them repeat."""
    text = " ".join(text[: 100 * SHOWN].split())
    text = "".join(
        letter for letter in text if letter.isprintable()
    )  # a terminal would obey some of the others
    if key:
        text = text.replace(key, "***")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def read_response(
    status: int, headers: Mapping[str, str], text: str, *, key: str | None
) -> dict[str, Any] | list[Any] | Failure:
    """The JSON object or list that a server answered with, or why there is none.

    An answer that is streamed, although nobody asked for that, is put together.

    Args:
        status: The HTTP status.
        headers: Of the response.
        text: Its body.
        key: Kept out of every message.
    """
    body = _json(text)
    if body is None and status in _OK:
        body = read_events(text)
    is_html = body is None and _is_html(headers, text)
    if status not in _OK:
        return _refusal(status, headers, text, body, is_html=is_html, key=key)
    if is_html:
        words = _plain(text)
        message = f"the server answered with a page of HTML: {shown(words, key)}"
        return Failure(
            "refused", message, ADDRESS_HINT, ADDRESS_HINT, status=status, words=words, is_html=True
        )
    if not isinstance(body, (dict, list)):
        message = f"the server's answer is not JSON, or not whole: {shown(text, key) or 'it is empty'}"
        return Failure("passing", message, run_hint=ADDRESS_HINT, status=status, words=text[:SHOWN])
    error = _error_inside(body[0] if isinstance(body, list) and body else body)
    if error is None:
        return body
    return _error_of_200(error, body, key)


def incomplete(body: Any, key: str | None) -> Failure | None:
    """Why an answer of `/chat/completions` is none, although nothing in it says error; None: it is one."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        message = f"the server's answer is not a chat completion: {shown(json.dumps(body, ensure_ascii=False), key)}"
        return Failure("passing", message, run_hint=ADDRESS_HINT, status=200, words="no choices")
    choice = choices[0]
    reason = finish_of(choice)
    if is_filtered(choice):  # such an answer may have no message
        return None
    if reason in FAILED_FINISHES:
        return Failure(
            "passing", f"the server broke this answer off: finish_reason {reason!r}", status=200, words=reason
        )
    if message_of(choice) is None:
        message = (
            f"the server's answer holds no message: {shown(json.dumps(choice, ensure_ascii=False), key)}"
        )
        return Failure("passing", message, status=200, words="no message")
    return None


def message_of(choice: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The message of a choice, in whatever form a server has it; None: it has none."""
    if isinstance(choice.get("message"), dict):
        message: dict[str, Any] = choice["message"]
        return message
    return {"content": choice["text"]} if isinstance(choice.get("text"), str) else None


def is_filtered(choice: Mapping[str, Any]) -> bool:
    """Whether a filter stopped the answer: some servers name the reason behind a colon."""
    return finish_of(choice).partition(":")[0].strip() in FILTERED_FINISHES


def finish_of(choice: Mapping[str, Any]) -> str:
    """Its `finish_reason` in lower case; empty where it has none."""
    reason = choice.get("finish_reason")
    if isinstance(reason, dict):  # as SGLang has it in its own form
        reason = reason.get("type")
    return reason.lower() if isinstance(reason, str) else ""


# --- what a server says ---


def _refusal(
    status: int, headers: Mapping[str, str], text: str, body: Any, *, is_html: bool, key: str | None
) -> Failure:
    words = " ".join(_words(body)) if body is not None else _plain(text) if is_html else text.strip()
    message = f"the server answered {status}" + (f": {shown(words, key)}" if words else "")
    failure = Failure("refused", message, status=status, words=words, is_html=is_html)
    failure = replace(failure, parameter=_parameter(body), wait=retry_after(headers) or _wait_in(body))
    codes = set(_codes(body))
    if codes & _ACCOUNT_CODES:  # waiting does not fill an account
        return replace(failure, kind="account", run_hint=ACCOUNT_HINT)
    if status == _BAD_GATEWAY:
        return replace(failure, kind="cut")
    if status in _MOMENTARY or (status >= 500 and status != _NOT_IMPLEMENTED):
        return replace(failure, kind="passing")
    if status == 402:
        return replace(failure, run_hint=ACCOUNT_HINT)
    if is_too_long(failure, codes):
        return replace(failure, hint=LENGTH_HINT, run_hint=LENGTH_HINT, parameter=None)
    if status == 413 or (status in (400, 422) and _SIZE.search(words)):
        return replace(failure, hint=SIZE_HINT, run_hint=SIZE_HINT)
    if status in (401, 403):
        return replace(failure, run_hint=KEY_HINT)
    if _REDIRECT <= status < _BAD:
        place = headers.get("location")
        hint = f"It redirects to {shown(place, key)}. {ADDRESS_HINT}" if place else ADDRESS_HINT
        return replace(failure, hint=hint, run_hint=hint, location=place)
    if "HTTPS" in words and "HTTP request" in words:
        return replace(failure, run_hint="It speaks https: correct `base_url` in the model's config.")
    if status in (404, 405):
        return replace(failure, run_hint=MODEL_HINT if _is_about_model(words) else ADDRESS_HINT)
    return failure


def is_too_long(failure: Failure, codes: Iterable[str] = ()) -> bool:
    """Whether a refusal is about the room that prompt and answer need together."""
    return failure.status in (400, 422) and _LENGTH.search(" ".join([failure.words, *codes])) is not None


def _is_about_model(words: str) -> bool:
    return "model" in words.lower()


def _error_of_200(error: Any, body: Any, key: str | None) -> Failure:
    """An error that came under status 200: what it would be under the status that it names."""
    words = " ".join(_words(error)) or json.dumps(error, ensure_ascii=False)
    status = next((int(code) for code in _codes(body) if re.fullmatch(r"[45]\d\d", code)), None)
    if status is not None:
        failure = _refusal(status, {}, words, body, is_html=False, key=key)
        message = f"the server answered with an error {status}: {shown(words, key)}"
        # This server is there: it is one behind it that went away.
        return replace(failure, message=message, kind="passing" if failure.kind == "cut" else failure.kind)
    message = f"the server answered with an error: {shown(words, key)}"
    codes = set(_codes(body))
    if codes & _ACCOUNT_CODES:
        return Failure("account", message, run_hint=ACCOUNT_HINT, status=200, words=words)
    if codes & _REFUSED_CODES:
        return Failure("refused", message, status=200, words=words, parameter=_parameter(body))
    return Failure(
        "passing", message, run_hint=ADDRESS_HINT, status=200, words=words, parameter=_parameter(body)
    )


def _error_inside(body: Any) -> Any:
    """The error that an answer under status 200 holds, None where it holds none."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(first, dict) and first.get("error"):
        return first["error"]
    if body.get("error"):
        return body["error"]
    if first is None and "data" not in body:
        if body.get("object") == "error" or body.get("success") is False:
            return body
        named = [name for name in ("message", "detail", "errors", "msg") if body.get(name)]
        return body if named else None
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(_COMMENTS.sub("", text.removeprefix(_BOM)))
    except (ValueError, RecursionError):
        return None


def _wait_in(body: Any) -> float | None:
    """Seconds that an error object asks to wait, as Google's have it: `"retryDelay": "37s"`."""
    for value in _objects(body, _DETAIL_DEPTH + 2):
        delay = value.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"\d{1,6}(\.\d+)?s", delay):
            return float(delay[:-1])
    return None


def _is_html(headers: Mapping[str, str], text: str) -> bool:
    start = text[:200].lstrip("\ufeff \t\r\n").lower()
    return start.startswith(("<!doctype html", "<html")) or (
        "html" in headers.get("content-type", "").lower() and start.startswith("<")
    )


def _plain(text: str) -> str:
    """The words of a page of HTML: its title where it has one."""
    text = text[: 1000 * SHOWN]
    title = _TITLE.search(text)
    words = title.group(1) if title and title.group(1).strip() else _MARKUP.sub(" ", text)
    return " ".join(words.split())


def _words(value: Any, depth: int = _DETAIL_DEPTH) -> Iterator[str]:
    """The sentences of an error object, whatever its form."""
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, list) and depth:
        for item in value[:5]:
            yield from _words(item, depth - 1)
    elif isinstance(value, dict) and depth:
        place = value.get("loc")
        if isinstance(place, list):
            yield ".".join(map(str, place)) + ":"
        for name in ("error", "message", "msg", "detail", "details", "errors", "raw", "reason"):
            yield from _words(value.get(name), depth - 1)
        metadata = value.get("metadata")
        if isinstance(metadata, dict):
            yield from _words(metadata.get("raw"), depth - 1)


def _objects(value: Any, depth: int = _DETAIL_DEPTH) -> Iterator[dict[str, Any]]:
    """An error's objects, outermost first."""
    if isinstance(value, list) and depth:
        for item in value[:5]:
            yield from _objects(item, depth - 1)
    elif isinstance(value, dict) and depth:
        yield value
        for name in ("error", "detail", "details", "choices"):
            yield from _objects(value.get(name), depth - 1)


def _codes(body: Any) -> Iterator[str]:
    for value in _objects(body):
        for name in ("code", "status", "status_code", "type"):
            code = value.get(name)
            if isinstance(code, (str, int)) and not isinstance(code, bool):
                yield str(code).lower()


def _parameter(body: Any) -> str | None:
    for value in _objects(body):
        name = value.get("param") or value.get("parameter")
        if isinstance(name, str):
            return name
        place = value.get("loc")
        if isinstance(place, list) and len(place) > 1 and isinstance(place[1], str):
            return place[1]
    return None
