"""How one server wants to be asked, learned from what it refuses.

Servers of one protocol differ in the settings that they know. A refusal that names a setting is answered once, by
asking without it or by its other name; what then works is kept. A setting that somebody asked for is never left out.
Knows no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from pixano_vlm.engines.openai.failure import Failure, is_too_long
from pixano_vlm.engines.openai.request import LIMIT, ChatRequest

__all__ = ["LIMIT_NAMES", "ServerDialect", "other_dialect", "refused_settings"]

LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
"""What servers call the most new tokens; OpenAI's newer models know the second alone."""

_USED_NAMES = {LIMIT: "max_new_tokens"}


@dataclass(frozen=True, slots=True)
class ServerDialect:
    """One way to ask."""

    limit_name: str = LIMIT_NAMES[0]
    may_rename: bool = True
    """Whether the limit may be sent by its other name: nobody has said which it is, and none has been refused."""
    left_out: frozenset[str] = frozenset()
    """Settings that the server does not know, sent only for a record that asks for them."""

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The settings of a request as this server is sent them."""
        dropped = self.left_out - request.asked
        settings = {name: value for name, value in request.settings.items() if name not in dropped}
        if LIMIT in settings:
            settings[self.limit_name] = settings.pop(LIMIT)
        return settings

    def used(self, request: ChatRequest) -> dict[str, Any]:
        """The settings that took part, under this project's names."""
        dropped = {_USED_NAMES.get(name, name) for name in self.left_out - request.asked}
        return {name: value for name, value in request.used.items() if name not in dropped}


def refused_settings(dialect: ServerDialect, failure: Failure, request: ChatRequest) -> list[str]:
    """The settings of a request, by their names in `ChatRequest.settings`, that a refusal is about."""
    if is_too_long(failure):  # it names the limit of tokens, which is known to the server
        return []
    sent = dialect.body(request)
    named = [failure.parameter] if failure.parameter in sent else []
    named += [name for name in sent if name not in named and _names(failure.words, name)]
    return [LIMIT if name == dialect.limit_name else name for name in named if name is not None]


def other_dialect(dialect: ServerDialect, refused: list[str], request: ChatRequest) -> ServerDialect | None:
    """Another way to ask, where a server refuses settings; None: there is none that keeps what was asked for."""
    if LIMIT in refused and dialect.may_rename:
        other = next(name for name in LIMIT_NAMES if name != dialect.limit_name)
        return replace(dialect, limit_name=other, may_rename=False)
    unasked = next((name for name in refused if name not in request.asked | dialect.left_out), None)
    return None if unasked is None else replace(dialect, left_out=dialect.left_out | {unasked})


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", words) is not None
