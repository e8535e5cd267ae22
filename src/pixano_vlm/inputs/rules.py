"""What holds for every line of a manifest: the settings that it starts from, where its paths start, what it may ask.

Knows no line and no file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.pages import Pages
from pixano_vlm.media.stores import is_store_url
from pixano_vlm.models.generation import DEFAULT_GENERATION, SETTINGS, GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.records.content_key import settings_text

__all__ = ["MAX_LINE_BYTES", "MAX_TEXT_BYTES", "Rules"]

MAX_TEXT_BYTES = 32 * 2**20
"""Longest line in bytes, the images that are written out in it apart."""
MAX_LINE_BYTES = MAX_TEXT_BYTES + 4 * Limits().max_image_bytes
"""Longest line read, in bytes: room for three images as large as an image may be, written out as base64."""


@dataclass(slots=True)
class Rules:
    """The rules of one manifest.

    Args:
        name: How messages call the manifest.
        folder: What relative image paths start from.
        settings: Flags over the model's config; the defaults are under them, and a line's own values win.
        limits: What a record may name and ask for.
        run_seed: Seeds of sampled records that give none are derived from it and their id.
        max_line_bytes: A longer line is an error record and never held in memory.
        is_seeded: Whether somebody gave `run_seed`.
        pages: What is read of an image with several pages.
        naming: What keys are called, where they do not have the tool's own names.
        system: A system turn for every record that has none of its own.
        with_prompt: Whether a request keeps what was asked for the output.
    """

    name: str
    folder: Path | str
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    limits: Limits = field(default_factory=Limits)
    run_seed: int = 0
    max_line_bytes: int = MAX_LINE_BYTES
    is_seeded: bool = False
    pages: Pages = "first"
    naming: Naming = field(default_factory=Naming)
    system: str | None = None
    with_prompt: bool = False
    base_dir: str = field(init=False)
    """`folder`, whole and with symbolic links resolved; of a manifest in a store, a URL that ends with a slash."""
    root: str | None = field(init=False)
    """Where images must lie, likewise; None: anywhere."""
    defaults: dict[str, Any] = field(init=False)
    """The settings that a line starts from."""
    unasked: frozenset[str] = field(init=False)
    """The settings that nobody asked for of all lines: this project's defaults, and those that are open."""
    renaming: Naming | None = field(init=False)
    """`naming`, where it says anything."""

    def __post_init__(self) -> None:
        asked = {*self.settings.model_dump(exclude_none=True), *(["seed"] if self.is_seeded else [])}
        self.unasked = frozenset(SETTINGS) - asked
        self.renaming = self.naming or None
        self.settings = self.settings.over(DEFAULT_GENERATION)
        in_store = isinstance(self.folder, str) and is_store_url(self.folder)
        self.base_dir = str(self.folder) if in_store else os.path.realpath(self.folder)
        self.root = None if self.limits.image_root is None else os.path.realpath(self.limits.image_root)
        self.defaults = self.settings.model_dump(exclude_none=True)

    def derived_seed(self, id: str) -> int:
        """The seed of a sampled record that gives none: always the same for a run's seed and an id."""
        digest = blake2b(f"{self.run_seed}\0{id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def context(self) -> dict[str, Any]:
        """Everything beside a line itself that goes into its request, as JSON values."""
        context: dict[str, Any] = {
            "settings": settings_text(self.settings),
            "run_seed": self.run_seed,
            "limits": repr(self.limits),
            "base_dir": self.base_dir,
        }
        # Only where they are set: journals of runs without them stay what they are.
        if self.system is not None:
            context["system"] = self.system
        if self.pages != "first":
            context["pages"] = self.pages
        if self.naming:
            context["naming"] = self.naming.described()
        return context

    def with_system(self, prompt: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        """A prompt with the run's system turn in front of it; one that brings its own keeps that."""
        if self.system is None:
            return prompt
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if any(turn["role"] in {"system", "developer"} for turn in turns):
            return prompt
        return [{"role": "system", "content": self.system}, *turns]
