"""Looks through a whole manifest before anything expensive starts: are keys misspelt, is a package missing?

Judges nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

from pixano_vlm.errors import ManifestError, MissingPackageError, RecordError
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.fields import FIELDS, suggestion
from pixano_vlm.inputs.openai_batch import is_batch_request
from pixano_vlm.inputs.rules import MAX_LINE_BYTES
from pixano_vlm.prompts.response_format import INSTALL, missing_packages

_CHUNK = 1 << 20
# Whatever looks like a key at any depth, at most 64 bytes and without escapes. It finds too much rather than
# too little, in well under a microsecond a line; only lines with a suspicious one are decoded.
_KEY = re.compile(rb'"([^"\\\r\n]{1,64})"[ \t]*:')
_MAX_REMEMBERED = 100_000


def check_manifest_keys(source: Path | None) -> int | None:
    """Refuses a key that is close to a known one, and counts the records on the way.

    Args:
        source: The manifest. Standard input and pipes can be read only once: their lines are checked as
            they come, and one with such a key is an error record.

    Returns:
        How many records there are; None where they cannot be counted.

    Raises:
        ManifestError: Naming the line, the key, and the key that was meant.
        MissingPackageError: When a record asks for an answer in JSON, and what that needs is not installed.
    """
    if source is None or str(source) == "-" or not source.is_file():
        return None
    records = 0
    line = 0
    harmless = {key.encode() for key in FIELDS}
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
                data = b"".join([*rest, chunk[:cut]])
                rest, held = [chunk[cut:]], len(chunk) - cut
                records += _check(source, data, line, harmless)
                line += data.count(b"\n")
            records += _check(source, b"".join(rest), line, harmless)
    except OSError as error:
        raise ManifestError(f"{source} cannot be read: {error.strerror}.") from error
    return records


def _check(source: Path, data: bytes, line: int, harmless: set[bytes]) -> int:
    lines = data.split(b"\n")
    keys = set(_KEY.findall(data))
    unseen = keys - harmless
    if b"response_format" in keys and (missing := missing_packages()):
        for number, text in enumerate(lines, line + 1):
            if _asks_for_json(text):
                raise MissingPackageError(
                    f"{source.name}:{number} asks for an answer in JSON, which needs {' and '.join(missing)}.",
                    hint=f"{INSTALL}.",
                )
    suspicious = {key for key in unseen if suggestion(key.decode("utf-8", "replace"))}
    if suspicious:
        for number, text in enumerate(lines, line + 1):
            if any(key in text for key in suspicious):
                _check_line(source, number, text)
    if len(harmless) < _MAX_REMEMBERED:
        harmless |= unseen - suspicious
    # Blank lines are rare, and the last piece is what follows the last line end.
    return len(lines) - sum(not text or text.isspace() for text in lines)


def _asks_for_json(text: bytes) -> bool:
    try:
        values = decode_line(text.strip().removeprefix(b"\xef\xbb\xbf"))
    except RecordError:
        return False
    body = values["body"] if is_batch_request(values) else values
    asked = body.get("response_format") if isinstance(body, dict) else None
    return isinstance(asked, dict) and asked.get("type") != "text"


def _check_line(source: Path, number: int, text: bytes) -> None:
    try:
        values = decode_line(text.strip().removeprefix(b"\xef\xbb\xbf"))
    except RecordError:
        return  # an error record of its own, later
    if is_batch_request(values):
        return  # its keys are another format's; what is wrong with them is an error record
    for key in values:
        if meant := suggestion(key):
            raise ManifestError(
                f"{source.name}:{number}: unknown key {key!r}.",
                hint=f"Did you mean {meant!r}? Data of your own goes into metadata.",
            )
