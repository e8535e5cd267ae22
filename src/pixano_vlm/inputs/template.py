"""A prompt with places for what is known of a record, such as `{stem}`.

`{{` and `}}` stand for braces. Knows names and values; where these come from is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pixano_vlm.errors import RecordError, UsageError
from pixano_vlm.nearest import nearest, nearest_path

__all__ = ["Template"]

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """One prompt for many records.

    Args:
        text: The prompt; `{field}` is replaced, `{{` and `}}` are braces.
        source: What messages call it: the flag or the file that it came from.

    Raises:
        UsageError: When it is empty, a brace stands alone, or a place has no name.
    """

    def __init__(self, text: str, source: str = "--prompt") -> None:
        if not text.strip():
            raise UsageError(f"{source}: the prompt is empty.", hint="Say what to ask about each image.")
        self.text, self.source = text, source
        self._literals: list[str] = []
        self._names: list[str] = []
        literal, end = "", 0
        for match in _PIECE.finditer(text):
            literal += text[end : match.start()]
            end = match.end()
            piece, name = match.group(), match.group(1)
            if piece in {"{{", "}}"}:
                literal += piece[0]
            elif name is None:
                raise UsageError(
                    f"{source}: the brace at character {match.start() + 1} belongs to no placeholder.",
                    hint="Write {{ or }} for a brace that is meant as such.",
                )
            elif not name.strip():
                raise UsageError(f"{source}: a placeholder has no name.", hint="Write {{}} for two braces.")
            else:
                self._literals.append(literal)
                self._names.append(name.strip())
                literal = ""
        self._literals.append(literal + text[end:])

    @property
    def names(self) -> frozenset[str]:
        """The fields that are wanted."""
        return frozenset(self._names)

    def check(self, known: Iterable[str]) -> None:
        """Refuses a placeholder that nothing can fill.

        Args:
            known: The fields there are.

        Raises:
            UsageError: With the nearest field.
        """
        there = list(known)
        for name in self._names:
            if name not in there:
                close = nearest(name, there, 1)
                fields = ", ".join(f"{{{field}}}" for field in there) or "none"
                raise UsageError(
                    f"{self.source}: there is no field {{{name}}}.",
                    hint=(f"Did you mean {{{close[0]}}}? " if close else "")
                    + f"Fields are: {fields}. Write {{{{ and }}}} for braces.",
                )

    def fill(self, values: Mapping[str, Any]) -> str:
        """The prompt of one record.

        Args:
            values: Field -> its value; what is not a string is written as JSON.

        Raises:
            RecordError: When a field is missing or null.
        """
        pieces = [self._literals[0]]
        for name, literal in zip(self._names, self._literals[1:], strict=True):
            value = values.get(name)
            if value is None:
                raise RecordError(
                    f"the prompt wants {{{name}}}, which this record does not have.",
                    hint="Fill it in, or leave it out of the prompt.",
                )
            pieces += [
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str),
                literal,
            ]
        return "".join(pieces)


def read_template(prompt: str | None, prompt_file: Path | None) -> Template | None:
    """The prompt of `--prompt TEXT` or `--prompt-file FILE`; None when neither is given.

    Raises:
        UsageError: When both are, the file cannot be read, or the prompt is not a usable one.
    """
    if prompt is not None and prompt_file is not None:
        raise UsageError("--prompt and --prompt-file both give a prompt.", hint="Give one of them.")
    if prompt_file is not None:
        try:
            return Template(prompt_file.read_text(encoding="utf-8").strip(), str(prompt_file))
        except OSError as error:
            raise UsageError(
                f"{prompt_file} cannot be read: {error.strerror}.", hint=nearest_path(prompt_file)
            ) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{prompt_file} is not UTF-8.", hint="Save it as UTF-8.") from error
    return None if prompt is None else Template(prompt)
