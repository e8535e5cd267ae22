"""In which form a chat template takes the content of a turn: a string, a list of parts, or either.

Found out by rendering: a template is asked for short conversations with a known word in them, in both forms, and the
form in which the word comes out as it went in is the one it takes. Reading the template's loops and tests instead
would miss what goes through macros, filters and assignments. Knows no model and no template by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ContentStyle", "ContentStyles"]

Messages = list[dict[str, Any]]

WORD, SECOND_WORD = "quince", "medlar"
"""What the trial conversations say: words that no template writes itself."""
FILLER = "hello"

_TOOL_CALL = {
    "type": "function",
    "id": "call00001",
    "function": {"name": "look", "arguments": {}},
}


@dataclass(frozen=True, slots=True)
class ContentStyle:
    """How a template takes the content of one role's turns."""

    string: bool
    """Whether text comes out of a string."""
    parts: bool
    """Whether text comes out of a list of one part."""
    several: bool
    """Whether all text comes out of a list of several parts."""
    image: str
    """What the template writes for an image in a list; "" where it writes nothing."""

    @property
    def is_known(self) -> bool:
        """Whether text comes out in any form."""
        return self.string or self.parts

    def __str__(self) -> str:
        if self.string and self.parts:
            return "string or list"
        return "string" if self.string else "list" if self.parts else "none"


class ContentStyles:
    """The style of each role, found when it is first asked for.

    Args:
        render: The template: messages -> text. Raises what the template raises.
    """

    def __init__(self, render: Callable[[Messages], str]) -> None:
        self._render = render
        self._known: dict[str, ContentStyle] = {}

    def of(self, role: str) -> ContentStyle:
        """The style of a role's turns."""
        if role not in self._known:
            self._known[role] = self._find(role)
        return self._known[role]

    def _find(self, role: str) -> ContentStyle:
        one = [{"type": "text", "text": WORD}]
        two = [*one, {"type": "text", "text": SECOND_WORD}]
        return ContentStyle(
            string=self._comes_out(role, WORD, WORD),
            parts=self._comes_out(role, one, WORD),
            several=self._comes_out(role, two, WORD, SECOND_WORD),
            image=self._image(role),
        )

    def _comes_out(self, role: str, content: Any, *words: str) -> bool:
        for messages in self._conversations(role, content):
            text = self._try(messages)
            if text is not None:
                return all(word in text for word in words) and not _is_printed_as_data(text)
        return False

    def _image(self, role: str) -> str:
        """What an image in front of a text adds to the rendered turn."""
        text = {"type": "text", "text": WORD}
        without = self._rendered(role, [text])
        with_image = self._rendered(role, [{"type": "image"}, text])
        if without is None or with_image is None or WORD not in with_image:
            return ""
        if _is_printed_as_data(with_image):
            return ""
        before, after = without.partition(WORD)[0], with_image.partition(WORD)[0]
        same = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
        return after[same:].strip() if len(after) > same else ""

    def _rendered(self, role: str, content: Any) -> str | None:
        texts = map(self._try, self._conversations(role, content))
        return next((text for text in texts if text is not None), None)

    def _try(self, messages: Messages) -> str | None:
        try:
            return self._render(messages)
        # A template's own code: what it refuses is told by refusing, in whatever way.
        except Exception:
            return None

    def _conversations(self, role: str, content: Any) -> list[Messages]:
        """Conversations around one turn, one for each shape that templates ask for; the first that renders counts."""
        turn = {"role": role, "content": content}
        if role == "user":
            return [[turn]]
        user = {"role": "user", "content": self._filler("user")}
        if role == "assistant":
            return [[user, turn, user], [user, turn]]
        if role == "tool":
            turn |= {"name": "look", "tool_call_id": _TOOL_CALL["id"]}
            call = {"role": "assistant", "content": "", "tool_calls": [_TOOL_CALL]}
            answer = {"role": "assistant", "content": self._filler("assistant")}
            return [[user, call, turn], [user, answer, turn]]
        return [[turn, user]]

    def _filler(self, role: str) -> Any:
        return FILLER if self.of(role).string else [{"type": "text", "text": FILLER}]


_PRINTED = re.compile(rf"""text\\?["']\s*:\s*\\?["'](?:{WORD}|{SECOND_WORD})""")


def _is_printed_as_data(text: str) -> bool:
    """Whether a list of parts was written out as Python or JSON prints it."""
    return bool(_PRINTED.search(text))
