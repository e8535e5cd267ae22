"""Looks through a whole manifest before anything expensive starts: are keys misspelt, is a package missing?

Judges nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError, MissingPackageError, RecordError
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.dialects.known import as_record, dialect_of
from pixano_vlm.inputs.fields import FIELDS, suggestion
from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.rules import MAX_LINE_BYTES
from pixano_vlm.prompts.response_format import INSTALL, missing_packages

_CHUNK = 1 << 20
# Whatever looks like a key at any depth, at most 64 bytes and without escapes. It finds too much rather than
# too little, in well under a microsecond a line; only lines with a suspicious one are decoded.
_KEY = re.compile(rb'"([^"\\\r\n]{1,64})"[ \t]*:')
_MAX_REMEMBERED = 100_000


def check_manifest_keys(source: Path | None, naming: Naming | None = None) -> int | None:
    """Refuses a key that is close to a known one, and counts the records on the way.

    Args:
        source: The manifest. Standard input and pipes can be read only once: their lines are checked as
            they come, and one with such a key is an error record.
        naming: What its keys are called, where they do not have the tool's own names.

    Returns:
        How many records there are; None where they cannot be counted.

    Raises:
        ManifestError: Naming the line, the key, and the key that was meant; or when its first line is of a form that
            holds no records, or no line has a key that was named.
        MissingPackageError: When a record asks for an answer in JSON, and what that needs is not installed.
    """
    if source is None or str(source) == "-" or not source.is_file():
        return None
    check = _Check(source, naming or Naming())
    rest: list[bytes] = []
    held = 0
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                cut = chunk.rfind(b"\n") + 1
                if not cut:
                    rest.append(chunk)
                    held += len(chunk)
                    if held > MAX_LINE_BYTES:  # an error record later; its keys are not worth the memory
                        rest, held = [b"."], 1
                    continue
                check.read(b"".join([*rest, chunk[:cut]]))
                rest, held = [chunk[cut:]], len(chunk) - cut
            check.read(b"".join(rest))
    except OSError as error:
        raise ManifestError(f"{source} cannot be read: {error.strerror}.") from error
    check.finish()
    return check.records


class _Check:
    """The lines of one manifest, whole ones at a time."""

    def __init__(self, source: Path, naming: Naming) -> None:
        self._source, self._naming = source, naming
        self._wanted = {name.encode(): (flag, name) for flag, name in naming.flags()}
        """Named keys that no line has had so far."""
        self._harmless = {key.encode() for key in FIELDS} | self._wanted.keys()
        self._line = 0
        self.records = 0

    def read(self, data: bytes) -> None:
        """Some more lines.

        Raises:
            ManifestError: See `check_manifest_keys`.
            MissingPackageError: Likewise.
        """
        lines = data.split(b"\n")
        if not self.records:
            self._check_first(lines)
        keys = set(_KEY.findall(data))
        for key in self._wanted.keys() & keys:
            del self._wanted[key]
        unseen = keys - self._harmless
        if b"response_format" in keys and (missing := missing_packages()):
            for number, text in enumerate(lines, self._line + 1):
                if self._asks_for_json(text):
                    raise MissingPackageError(
                        f"{self._source.name}:{number} asks for an answer in JSON, which needs "
                        f"{' and '.join(missing)}.",
                        hint=f"{INSTALL}.",
                    )
        suspicious = {key for key in unseen if suggestion(key.decode("utf-8", "replace"))}
        if suspicious:
            for number, text in enumerate(lines, self._line + 1):
                if any(key in text for key in suspicious):
                    self._check_line(number, text)
        if len(self._harmless) < _MAX_REMEMBERED:
            self._harmless |= unseen - suspicious
        self._line += len(lines) - 1
        # Blank lines are rare, and the last piece is what follows the last line end.
        self.records += len(lines) - sum(not text or text.isspace() for text in lines)

    def finish(self) -> None:
        """Refuses a name that no line has."""
        for flag, name in self._wanted.values():
            raise ManifestError(
                f"{self._source.name}: no line has the key {name!r}.", hint=f"Check {flag} {name}."
            )

    def _record(self, text: bytes) -> dict[str, Any]:
        """A line's record; empty where the line is an error record of its own, later."""
        try:
            return as_record(self._values(text))
        except RecordError:
            return {}

    def _values(self, text: bytes) -> dict[str, Any]:
        return self._naming.renamed(decode_line(text.strip().removeprefix(b"\xef\xbb\xbf")))

    def _check_first(self, lines: list[bytes]) -> None:
        """Refuses a manifest whose first line is of a form that holds no records."""
        number, text = next(
            ((number, text) for number, text in enumerate(lines, self._line + 1) if text.strip()), (0, b"")
        )
        if not number:
            return
        try:
            dialect = dialect_of(self._values(text))
        except RecordError:
            return
        if dialect is not None and dialect.refusal is not None:
            message, hint = dialect.refusal
            raise ManifestError(f"{self._source.name}:{number}: {message}", hint=hint)

    def _asks_for_json(self, text: bytes) -> bool:
        asked = self._record(text).get("response_format")
        return isinstance(asked, dict) and asked.get("type") != "text"

    def _check_line(self, number: int, text: bytes) -> None:
        for key in self._record(text):
            if meant := suggestion(key):
                raise ManifestError(
                    f"{self._source.name}:{number}: unknown key {key!r}.",
                    hint=f"Did you mean {meant!r}? Data of your own goes into metadata.",
                )
