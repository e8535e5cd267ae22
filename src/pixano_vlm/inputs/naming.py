"""What a manifest's columns or keys are called, where `--image-column` and its kin say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["NONE", "OWN_NAMES", "Naming"]

NONE = "-"
"""As `--image-column`: no column holds an image, whatever they look like."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The columns of a table, or the keys of a line, that hold what the tool's own names would hold."""

    images: tuple[str, ...] = ()
    """Several are images of one record, in this order; empty: as the names say; `NONE`: none."""
    prompt: str | None = None
    id: str | None = None

    def __bool__(self) -> bool:
        return bool(self.images or self.prompt or self.id)

    @property
    def has_no_images(self) -> bool:
        """Whether no column is an image's."""
        return self.images == (NONE,)

    def flags(self) -> list[tuple[str, str]]:
        """Each name that was given, with its flag."""
        images = [] if self.has_no_images else [("--image-column", name) for name in self.images]
        others = (("--prompt-column", self.prompt), ("--id-column", self.id))
        return images + [(flag, name) for flag, name in others if name is not None]

    def renamed(self, values: dict[str, Any]) -> dict[str, Any]:
        """A line's values under the tool's own names, instead of what was under those. Twice is the same as once."""
        found = dict(values)
        if any(name in found for name in self.images):
            images: list[Any] = []
            for name in self.images:
                value = found.pop(name, None)
                images += value if isinstance(value, list) else [] if value is None else [value]
            found.pop("images", None)
            if images:
                found["images"] = images
        for own, key in (("prompt", self.prompt), ("id", self.id)):
            if key is not None and key != own and key in found:
                found[own] = found.pop(key)
        return found

    def described(self) -> str:
        """The names as text that is the same as long as they say the same."""
        return repr((self.images, self.prompt, self.id))


OWN_NAMES = Naming()
"""Nothing is called otherwise."""
