"""A JSON file of many records -> rows: a list, or objects one after another over any number of lines.

Read piece by piece, so that a list may be larger than memory. One object that holds everything is refused, with the
conversion: what its parts mean, nobody has said.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.columns import Reading
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.dialects.known import dialect_of
from pixano_vlm.inputs.dialects.whole_files import holds_records, is_columns, refusal_of
from pixano_vlm.inputs.fields import suggestion
from pixano_vlm.inputs.file import BROKEN, HEAD, InputFile
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows
from pixano_vlm.inputs.rules import MAX_LINE_BYTES

__all__ = ["JsonRows", "is_json_values"]

_PIECE = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class JsonRows(Rows):
    """A JSON file. Its rows are called by their place in it, from 1.

    Args:
        file: The file.
        reading: How it is to be read.

    Raises:
        ManifestError: When it is not JSON, holds one object that is not a record, or records that cannot be.
    """

    def __init__(self, file: InputFile, reading: Reading | None = None) -> None:
        self.file, self._naming = file, (reading or Reading()).naming
        self.layout = Layout(file.name, file.folder)
        self._count: int | None = None
        head = file.head(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"{"):
            self._refuse_whole(head)

    def _refuse_whole(self, head: bytes) -> None:
        """Refuses a file that is one object and not a record."""
        texts = self._texts()
        first, second = next(texts, None), next(texts, None)
        if first is None or second is not None:
            return
        try:
            values = self._naming.renamed(decode_line(first))
        except RecordError:
            return
        if not is_columns(values) and ("prompt" in values or dialect_of(values) is not None):
            return
        message, hint = refusal_of(values, self.file.name)
        raise ManifestError(f"{self.file.name} {message}", hint=hint)

    def rows(self) -> Iterator[Row]:
        """The records."""
        for number, text in enumerate(self._texts(), 1):
            if text is None:
                yield Row(
                    number, b"{}", Problem(f"the record is longer than {MAX_LINE_BYTES:,} bytes.", None)
                )
            else:
                yield Row(number, text)

    def count(self) -> int:
        """How many records there are, keys checked on the way.

        Raises:
            ManifestError: When the file is not JSON to its end, or a key is close to a known one.
        """
        if self._count is None:
            number = 0
            for number, text in enumerate(self._texts(), 1):
                self._check(number, text)
            self._count = number
        return self._count

    def _check(self, number: int, text: bytes | None) -> None:
        try:
            values = self._naming.renamed(decode_line(text or b"{}"))
        except RecordError:
            return
        dialect = dialect_of(values)
        if number == 1 and dialect is not None and dialect.refusal is not None:
            message, hint = dialect.refusal
            raise ManifestError(f"{self.file.name}: {message}", hint=hint)
        if dialect is None:
            for key in values:
                if meant := suggestion(key):
                    raise ManifestError(
                        f"{self.file.name}: record {number}: unknown key {key!r}.",
                        hint=f"Did you mean {meant!r}? Data of your own goes into metadata.",
                    )

    def _texts(self) -> Iterator[bytes | None]:
        """The JSON text of each record; None where it is too long."""
        with self.file.open() as file:
            try:
                for text in _Values(file, self.file.name):
                    yield text.encode("utf-8", "surrogateescape")
            except BROKEN as error:
                raise ManifestError(f"{self.file} cannot be read: {error}.") from error


class _Values:
    """The values of a JSON list, or of values one after another, each as its text."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text = ""
        self._at = 0
        self._ended = False
        self._dropped = 0
        """Lines before those that are held."""

    def __iter__(self) -> Iterator[str]:
        is_list = self._next() == "["
        if is_list:
            self._at += 1
        elif self._next() == "":
            return
        first = True
        while (character := self._next()) not in ("", "]" if is_list else ""):
            if is_list and not first:
                if character != ",":
                    raise self._wrong("a comma is missing")
                self._at += 1
                if self._next() == "]":  # a comma behind the last one
                    break
            elif not is_list and character == ",":
                self._at += 1
                continue
            first = False
            yield self._value()
        if not is_list:
            return
        if self._next() != "]":
            raise self._wrong("the list does not end")
        self._at += 1
        if self._next():
            raise self._wrong("something is behind the list")

    def _next(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_PIECE):
                return ""

    def _more(self, size: int) -> bool:
        if self._ended:
            return False
        data = self._file.read(size)
        self._ended = not data
        self._dropped += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + self._decoder.decode(data, final=self._ended)
        self._at = 0
        return bool(data)

    def _value(self) -> str:
        size = _PIECE
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    text = self._text[self._at : end]
                    self._at = end
                    return text
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > 2 * MAX_LINE_BYTES:
                    raise self._wrong(error.msg, error.pos) from None
            except (ValueError, RecursionError) as error:
                raise self._wrong(str(error)) from None
            self._more(size)
            size *= 2  # each try begins at the value's first character

    def _wrong(self, what: str, at: int | None = None) -> ManifestError:
        line = self._dropped + self._text.count("\n", 0, self._at if at is None else at) + 1
        return ManifestError(
            f"{self._name}:{line}: not JSON: {what}.",
            hint="Write a list of records, or one record per line into a file that ends with .jsonl.",
        )


def is_json_values(head: bytes) -> bool:
    """Whether a file that begins so holds records in another way than one per line.

    That is a list, records over several lines, several in one line or with commas behind them, or a single object
    that holds them all.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return text[1:].lstrip()[:1] in (b"{", b"]")
    if text.startswith(b"{") and (_has_more(text) or (len(head) < HEAD and _holds_all(text))):
        return True
    first, _, rest = text.partition(b"\n")
    return text.startswith(b"{") and bool(rest) and not _is_value(first) and _is_indented(text)


def _has_more(text: bytes) -> bool:
    """Whether an object is followed by another, or by a comma, in its own line."""
    string = text.partition(b"\n")[0].decode("utf-8", "replace")
    try:
        _, end = _DECODER.raw_decode(string)
    except (ValueError, RecursionError):
        return False
    return string[end:].strip() == "," or string[end:].lstrip(" \t\r,").startswith("{")


def _holds_all(text: bytes) -> bool:
    """Whether the whole of a file is one object of a format that is known to hold many records."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and holds_records(values)


def _is_value(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_indented(text: bytes) -> bool:
    """Whether what begins as an object continues as one over several lines, as far as can be seen."""
    string = text.decode("utf-8", "replace")
    try:
        _, end = _DECODER.raw_decode(string)
    except json.JSONDecodeError as error:
        return len(text) >= HEAD and error.pos > len(string) - 8
    except (ValueError, RecursionError):
        return False
    return "\n" in string[:end]
