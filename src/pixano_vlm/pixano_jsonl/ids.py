"""Ids as Pixano derives them for rows that were given none, so that an answer lands on the row that it belongs to.

The rule is that of Pixano 0.8: eight characters of a digest of the namespace, a hyphen, and a digest of the parts,
both in base 62; of a conversation's messages the parts are `msg` and their places in it.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["derived_id", "late_id", "message_id"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX = 8


def _base62(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits or _DIGITS[0]


def derived_id(namespace: str, *parts: str | int) -> str:
    """The id of what `parts` name within a namespace: a dataset's folder, a record, an entity or a conversation."""
    prefix = _base62(blake2b(namespace.encode(), digest_size=6).digest()).rjust(_PREFIX, _DIGITS[0])
    digest = blake2b(digest_size=16)
    for part in parts:
        data = str(part).encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return f"{prefix[:_PREFIX]}-{_base62(digest.digest())}"


def message_id(conversation: str, place: int) -> str:
    """The id of a conversation's message, by its place from 0."""
    return derived_id(conversation, "msg", place)


def late_id(conversation: str, *parts: str | int) -> str:
    """An id for an answer that is added to a conversation: it sorts behind every derived one.

    Pixano exports the messages of one number in the order of their ids, and so this one behind its question.
    """
    return _DIGITS[-1] * _PREFIX + "-" + derived_id("", conversation, *parts).partition("-")[2]
