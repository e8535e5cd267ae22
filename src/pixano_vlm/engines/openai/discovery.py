"""Finds the API at an address that somebody typed, and the model there. Asks for the list of models alone."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from pixano_vlm.engines.openai.failure import ADDRESS_HINT, Failure
from pixano_vlm.engines.openai.server import ChatServer
from pixano_vlm.errors import ModelLoadError
from pixano_vlm.nearest import nearest

__all__ = ["api_address", "find_model"]

_ENDPOINTS = re.compile(r"(/chat/completions|/chat|/completions|/responses|/messages|/models)/*$")
_VERSIONED = re.compile(r"/v\d+\w*(/|$)")
_NOT_THERE = frozenset({200, 404, 405, 501})
"""Statuses of an address that is not the API's: a page, or nothing by that name."""
_UNLISTED = frozenset({404, 405, 501})
"""Statuses of a server that has models and no list of them."""
_FORBIDDEN = 403
"""Status of a list that a key is not enough for, which may be enough for completions."""
_SERVER_ERROR = 500
_LISTED = 20
_SECONDS = 30.0
UNLISTED = "A server that loads models which it does not list: `check_model: false` in the model's config."


def api_address(url: str) -> str:
    """The address of the API: what is typed, without the name of an endpoint behind it; a query stays."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=_ENDPOINTS.sub("", parts.path.rstrip("/")).rstrip("/")))


async def find_model(server: ChatServer, wanted: str | None, *, check: bool) -> str:
    """The model's name at the server: `wanted`, or the only one that the server lists.

    Where the API is not at the server's address but one `/v1` further, the server is moved there.

    Raises:
        ModelLoadError: When the server is not there, or has no such model; says what to do.
    """
    if wanted is not None and not check:
        return wanted
    listed = await _list_models(server, is_optional=wanted is not None)
    if wanted is not None and not listed:  # it lists none, or does not list: the first request will tell
        return wanted
    if wanted is None and len(listed) == 1:
        return listed[0]
    names = ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "") or "none"
    if wanted is None:
        raise ModelLoadError(
            f"the server at {server.base_url} lists {len(listed)} models: {names}.",
            hint="Name one: --server-model, or `model` in the model's config.",
        )
    # Ollama lists "llava:latest" and Gemini "models/..." for names that they take without; OpenRouter takes more
    # behind a colon than it lists.
    if not {wanted, f"{wanted}:latest", f"models/{wanted}", wanted.rpartition(":")[0]} & set(listed):
        close = nearest(wanted, listed)
        raise ModelLoadError(
            f"the server at {server.base_url} lists no model {wanted!r}; it lists: {names}.",
            hint=(f"Did you mean {close[0]!r}? " if close else "") + UNLISTED,
        )
    return wanted


async def _list_models(server: ChatServer, *, is_optional: bool) -> list[str]:
    first, failure = server.base_url, await _try_to_list(server, is_optional=is_optional)
    if isinstance(failure, list):
        return failure
    for other in _other_addresses(first, failure):
        server.move(other)
        found = await _try_to_list(server, is_optional=is_optional)
        if isinstance(found, list):
            return found
        if found.status is not None and found.status not in _NOT_THERE:  # the API, whose list fails
            first, failure = other, found
            break
    server.move(first)
    parts = urlsplit(first)
    is_api = _VERSIONED.search(parts.path) is not None or "api-version" in parts.query
    has_no_list = failure.status in _UNLISTED or (failure.status or 0) >= _SERVER_ERROR
    if is_optional and is_api and (has_no_list or failure.status == _FORBIDDEN):
        return []
    hint = failure.run_hint or "See the server's own log. With check_model: false it is not asked."
    if failure.kind == "outage":
        hint = failure.run_hint or "Start the server, or correct `base_url` in the model's config."
    elif failure.status in _NOT_THERE:
        hint = f"{ADDRESS_HINT} {UNLISTED}" if is_api or is_optional else ADDRESS_HINT
    raise ModelLoadError(f"{failure.message}.", hint=hint)


def _other_addresses(first: str, failure: Failure) -> list[str]:
    """Where the API may be instead, on the same host alone: the key goes nowhere else."""
    if failure.location is not None:
        there = api_address(urljoin(f"{first}/models", failure.location))
        same = urlsplit(there).hostname == urlsplit(first).hostname and there != first
        return [there] if same else []
    if failure.status in _NOT_THERE and not _VERSIONED.search(urlsplit(first).path):
        parts = urlsplit(first)
        folders = parts.path.split("/")
        paths = ["/".join(folders[:end]) for end in range(len(folders), 0, -1)]
        return [urlunsplit(parts._replace(path=f"{path}/v1")) for path in paths]
    return []


async def _try_to_list(server: ChatServer, *, is_optional: bool) -> list[str] | Failure:
    patience = server.patience
    until = time.monotonic() + patience.outage
    failed = 0
    while True:
        answer = await server.call(
            server.client.models.with_raw_response.list, {}, min(patience.timeout, _SECONDS)
        )
        if not isinstance(answer, Failure):
            names = _names(answer)
            if names is not None:
                server.is_vllm = _is_vllms(answer)
                is_page = isinstance(answer, dict) and answer.get("has_more")
                return [] if is_page and is_optional else names  # a page of a longer list rules no name out
            message = f"what the server at {server.base_url} answered is not a list of models"
            return Failure("refused", message, run_hint=ADDRESS_HINT, status=200)
        failed += 1
        wait = server.retry.wait(min(failed, 4), answer.wait)
        # A server that loads its weights says 503 for a while; with 500 the list is broken, and is not needed.
        is_broken = is_optional and answer.status == _SERVER_ERROR
        passes = answer.kind in ("passing", "cut") and answer.status != 200 and not is_broken
        if not passes or server.retry.is_spent(failed) or time.monotonic() + wait > until:
            return answer
        await asyncio.sleep(wait)


def _is_vllms(answer: Any) -> bool:
    models = answer.get("data") if isinstance(answer, dict) else None
    return isinstance(models, list) and any(
        isinstance(model, dict) and model.get("owned_by") == "vllm" for model in models
    )


def _names(answer: Any) -> list[str] | None:
    """The ids in a list of models, whatever its form; None: it is none."""
    models = answer
    if isinstance(answer, dict):
        models = answer.get("data") if isinstance(answer.get("data"), list) else answer.get("models")
        if models is None and answer.get("object") == "list":
            models = []
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        return None
    names = [model.get("id") or model.get("name") or model.get("model") for model in models]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))
