"""What a dialect of manifest lines is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.fields import ALIASES
from pixano_vlm.inputs.image_like import image_key

__all__ = ["Dialect", "Values", "no_surprise"]

Values = dict[str, Any]


SURPRISES = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)
"""What comes of values of another kind than a form has them."""


@contextmanager
def no_surprise(message: str) -> Iterator[None]:
    """Values of a line that are of another kind than a form has them are the record's error.

    Conversions read what other tools write as those tools do, without asking of each value what it is.
    """
    try:
        yield
    except SURPRISES as error:
        raise RecordError(
            f"{message}: {type(error).__name__}.", hint='Write {"prompt": "...", "images": ["a.jpg"]}.'
        ) from error


class Dialect(NamedTuple):
    """A form of line that another tool reads or writes."""

    name: str
    """What it is called, for messages and the documentation."""
    keys: frozenset[str]
    """Lines of it have at least one of these keys. Columns of these names are the line's own, not metadata."""
    is_it: Callable[[Values], bool]
    to_record: Callable[[Values], Values]
    """The record under the tool's own keys; raises `RecordError` for what cannot be done."""
    id_key: str = "id"
    envelope: frozenset[str] | None = None
    """Where a request is inside a line, the keys that lines have around it; None: the line is the request itself."""
    refusal: tuple[str, str] | None = None
    """Why such lines are never records, and the conversion: a manifest whose first line is one is refused whole."""

    def matches(self, values: Values) -> bool:
        """As `is_it`, of lines whose values may be of any kind."""
        try:
            return self.is_it(values)
        except SURPRISES:
            return False

    def record(self, values: Values) -> Values:
        """As `to_record`, of lines whose values may be of any kind.

        Raises:
            RecordError: When the line asks for what cannot be done, or is not of the form that its keys promise.
        """
        if self.envelope is not None:
            self._refuse_image_outside(values)
        with no_surprise(f"the line has the keys of {self.name}, and not its form"):
            return self.to_record(values)

    def _refuse_image_outside(self, values: Values) -> None:
        """What is around a request is not sent: an image there would be left out without a word."""
        around = {key: value for key, value in values.items() if key not in (self.envelope or ())}
        key = image_key(around) or next(
            (key for key, value in around.items() if value and _is_image(key)), None
        )
        if key is not None:
            raise RecordError(
                f"the key {key!r} seems to hold an image, and is outside the request in a line of {self.name}.",
                hint="Put the image into a message of the request.",
            )


def _is_image(key: str) -> bool:
    return key == "images" or ALIASES.get(key.lower()) == "images"
