"""A manifest line on its way to becoming a request: its values checked, defaults and paths filled in.

Knows no file but the images' paths, which it resolves, confines and stamps.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixano_vlm.errors import ImageError, PromptError, RecordError, VLMError
from pixano_vlm.inputs.decode import decode_line, json_kind
from pixano_vlm.inputs.dialects.dialect import no_surprise
from pixano_vlm.inputs.dialects.known import dialect_of
from pixano_vlm.inputs.dialects.parts import as_source
from pixano_vlm.inputs.dialects.text_values import turns_in_text
from pixano_vlm.inputs.dialects.turns import as_turns, placed
from pixano_vlm.inputs.fields import CHECKS, FIELDS, check_id, check_images, suggestion
from pixano_vlm.inputs.image_like import image_key
from pixano_vlm.inputs.pages import with_all_pages
from pixano_vlm.inputs.rules import MAX_TEXT_BYTES, Rules
from pixano_vlm.media.sources import (
    check_is_path,
    confine,
    file_and_page,
    from_base64,
    is_data_url,
    is_url,
    local_path,
    shortened,
    with_page,
)
from pixano_vlm.media.stamps import FileStamp, stamp
from pixano_vlm.media.stores import is_store_url
from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.models.samples import check_samples
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.messages import check_messages, count_places, image_sources, map_images
from pixano_vlm.prompts.response_format import schema_of
from pixano_vlm.records.request import Line, Request, hash_id
from pixano_vlm.validation import first_problem

_SETTING_NAMES = frozenset(SETTINGS)
_BEFORE_TURNS = frozenset(' \t\r\n[{"')
"""How a text begins that may be the print of messages; of most prompts the first character says that it is not."""


class LineParser:
    """Parses one line; what is known so far is what an error record can say.

    Args:
        rules: Those of the manifest.
        line: The line.
        takes_id: Whether the line may have an id, given the 64 bits of it; None: any.
    """

    __slots__ = (
        "files", "id", "id_hash", "images", "line", "metadata", "own_seed", "prompt", "rules", "takes_id",
    )  # fmt: skip

    def __init__(self, rules: Rules, line: Line, takes_id: Callable[[Line, int], bool] | None = None) -> None:
        self.rules, self.line, self.takes_id = rules, line, takes_id
        self.id, self.id_hash = line.default_id, 0
        self.images: tuple[str, ...] = ()
        self.metadata: dict[str, Any] | None = None
        self.files: list[FileStamp] = []
        self.own_seed = False
        self.prompt: str | list[dict[str, Any]] | None = None

    def request(self, input: VLMInput | None = None, error: VLMError | None = None) -> Request:
        """The request as far as it is known."""
        line = self.line
        return Request(
            line.record, line.number, self.id, input, self.images, self.metadata, error, line.raw_hash,
            tuple(self.files) if error is None else (), self.id_hash, self.own_seed, self.source, self.prompt,
        )  # fmt: skip

    @property
    def source(self) -> str:
        """How messages call the file that the line is in."""
        return self.rules.name if self.line.origin is None else self.line.origin.name

    def read(self) -> Request:
        """The whole line.

        Raises:
            RecordError: When the line is wrong.
            ImageError: When an image of it may not be opened.
            PromptError: When its messages are wrong.
        """
        rules = self.rules
        values = self.read_record(decode_line(self.line.text))
        self.read_metadata(values)
        if self.line.problem is not None:
            raise RecordError(self.line.problem.message, hint=self.line.problem.hint)
        settings = dict(rules.defaults)
        own = _own_settings(values)
        for key in own:
            try:
                settings[key] = CHECKS[key](values[key])
            except ValueError as error:
                raise RecordError(f"{key} {error}.") from None
        if "response_format" in settings and schema_of(settings["response_format"]) is None:
            del settings["response_format"]  # free text, which is what no format is
        self.own_seed = "seed" in settings
        most = rules.limits.max_new_tokens
        if settings["max_new_tokens"] > most:
            raise RecordError(
                f"max_new_tokens is {settings['max_new_tokens']:,}, and the limit is {most:,}.",
                hint="Ask for fewer.",
            )
        images = self.read_images(values.get("images"))
        prompt = self.read_prompt(values, len(images))
        if not self.images and not FIELDS.issuperset(values) and not rules.naming.has_no_images:
            self.refuse_left_out_image(values)
        if len(self.line.text) > MAX_TEXT_BYTES:
            self.check_text(images, prompt)
        if rules.pages == "all":
            prompt, images = with_all_pages(prompt, images, rules.limits)
        self.prompt = _for_output(values["prompt"]) if rules.with_prompt else None
        if settings["temperature"] > 0 and "seed" not in settings:
            settings["seed"] = rules.derived_seed(self.id)
        try:
            input = VLMInput(prompt=rules.with_system(prompt), images=images or None, **settings)
        except ValidationError as error:  # CHECKS are as strict; this is for whatever they have missed
            raise RecordError(first_problem(error).message()) from None
        if input.n is not None:
            check_samples(input)
        # A default, or a seed that is derived, is set because a model needs one, and is nobody's wish.
        input.model_fields_set.difference_update(rules.unasked.difference(own) if own else rules.unasked)
        return self.request(input)

    def read_record(self, values: dict[str, Any]) -> dict[str, Any]:
        """The line's values under the tool's own keys; its id is read on the way, for errors to name.

        Raises:
            RecordError: When it is of a dialect, and asks for what cannot be done; or its id is wrong.
        """
        if (naming := self.rules.renaming) is not None:
            values = naming.renamed(values)
        dialect = dialect_of(values)
        if dialect is None:
            self.read_id(values.get("id"))
        else:
            self.read_id(values.get(dialect.id_key))
            values = dialect.record(values)
        if values.get("images") is None and values.get("file_name") is not None:  # as image folders have it
            values = {**values, "images": values["file_name"]}
            del values["file_name"]
        return values

    def read_id(self, own: Any) -> None:
        """The line's own id, or the one that it has for want of it; no earlier line may have the same."""
        line = self.line
        if own is None:
            id_hash = hash_id(self.id)
            self.id_hash = 0 if line.origin is None else id_hash
            if self.takes_id is not None and not self.takes_id(line, id_hash):
                raise RecordError(
                    f"it has no id, and an earlier line has the id {self.id!r}, which it would have for want of one.",
                    hint="Give each record an id of its own.",
                )
            return
        try:
            self.id = check_id(own)
        except ValueError as error:
            raise RecordError(f"id {error}.", hint="Without one, the line number is the id.") from None
        self.id_hash = hash_id(self.id)
        if self.takes_id is not None and not self.takes_id(line, self.id_hash):
            raise RecordError(
                f"an earlier line has the id {self.id!r} too.", hint="Give each record an id of its own."
            )

    def read_metadata(self, values: dict[str, Any]) -> None:
        """The metadata, with the line's unknown keys; one that looks misspelt is refused."""
        metadata = values.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise RecordError(
                f"metadata must be an object, not a {json_kind(metadata)}.",
                hint='Write "metadata": {"name": value}.',
            )
        if FIELDS.issuperset(values):
            self.metadata = metadata or {}
            return
        others = values.keys() - FIELDS
        for key in values:
            if key in others and (meant := suggestion(key)):
                raise RecordError(
                    f"unknown key {key!r}.",
                    hint=f"Did you mean {meant!r}? Data of your own goes into metadata.",
                )
        self.metadata = {**{key: values[key] for key in values if key in others}, **(metadata or {})}

    def read_images(self, value: Any) -> list[str | Path]:
        """The list of images, resolved."""
        if value is None:
            return []
        if isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(item, dict) for item in value)
        ):
            value = [as_source(item, "images") for item in (value if isinstance(value, list) else [value])]
        try:
            written = check_images(value)
        except ValueError as error:
            raise RecordError(f"images {error}.", hint='Write "images": ["a.jpg", "b.jpg"].') from None
        most = self.rules.limits.max_images
        if len(written) > most:
            raise RecordError(
                f"{len(written):,} images, and the limit is {most:,}.", hint="Split the record."
            )
        self.images = tuple(map(shortened, written))
        return [self.resolve(source) for source in written]

    def resolve(self, source: str) -> str:
        """An image source with its path made absolute and confined; the file's stamp is kept."""
        base = self.rules.base_dir if self.line.origin is None else self.line.origin.folder
        source = from_base64(source)
        if not is_url(source) and is_store_url(base):
            source = in_store(base, source)
        if is_url(source):
            if not self.rules.limits.allow_urls and not is_data_url(source):
                raise ImageError(f"{shortened(source)} is a URL, and URLs are not allowed in this run.")
            return source
        try:
            path = os.path.normpath(os.path.join(base, local_path(source)))  # noqa: PTH118 - hot
        except ValueError as error:
            raise ImageError(f"{shortened(source)}: {error}.") from None
        check_is_path(path)
        path, page = file_and_page(path)
        if self.rules.root is not None:
            confine(path, self.rules.root)
        self.files.append(stamp(path))
        return path if page is None else with_page(path, page)

    @staticmethod
    def as_prompt(prompt: Any, images: int) -> Any:
        """The prompt; messages of other forms, and those written as text, as messages here have them."""
        if isinstance(prompt, str) and (prompt[:1] in _BEFORE_TURNS or prompt.startswith("array(")):
            prompt = turns_in_text(prompt, "prompt")
        if not isinstance(prompt, list):
            return prompt
        with no_surprise("the messages are not in a form that is known"):
            return placed(as_turns(prompt, "prompt"), images)

    def read_sources(self, values: dict[str, Any]) -> None:
        """Only the images and videos of a line that was read without error before."""
        values = self.read_record(values)
        images = self.read_images(values.get("images"))
        prompt = self.as_prompt(values["prompt"], len(images))
        if isinstance(prompt, list):
            map_images(prompt, self.resolve)

    def refuse_left_out_image(self, values: dict[str, Any]) -> None:
        """A record without an image, and one under a key that is not looked at, is answered blind: refused."""
        key = image_key({name: value for name, value in values.items() if name not in FIELDS})
        if key is not None:
            raise RecordError(
                f"{key!r} seems to name an image, and the record has none.",
                hint=f"Write it under 'images', or say --image-column {key}. If it is not an image, put it into "
                "metadata, or say --image-column -.",
            )

    def check_text(self, images: Sequence[str | Path], prompt: str | list[dict[str, Any]]) -> None:
        """A long line has room for images alone: text of that length is nothing that a model reads."""
        held = sum(len(str(image)) for image in images if is_data_url(str(image)))

        def count(source: str) -> str:
            nonlocal held
            held += len(source) if is_data_url(source) else 0
            return source

        if not isinstance(prompt, str):
            map_images(prompt, count)
        if len(self.line.text) - held > MAX_TEXT_BYTES:
            raise RecordError(
                f"the line is longer than {MAX_TEXT_BYTES:,} bytes without the images in it.",
                hint="Shorten its prompt, or leave its other values out.",
            )

    def read_prompt(self, values: dict[str, Any], images: int) -> str | list[dict[str, Any]]:
        """The prompt; `images` is how many the line lists, which its placeholders must match."""
        prompt = values.get("prompt")
        if prompt is None:
            asked = next(
                (
                    key
                    for key in ("question", "text", "instruction", "query", "input", "caption")
                    if key in values
                ),
                None,
            )
            raise RecordError(
                "there is no prompt.",
                hint=f"Rename {asked!r} to 'prompt', or say --prompt-column {asked}."
                if asked
                else 'Add "prompt": "...".',
            )
        prompt = self.as_prompt(prompt, images)
        if isinstance(prompt, str):
            if not prompt.strip() and not images:
                raise RecordError("the prompt is empty and there is no image.", hint="Write a prompt.")
            return prompt
        if not isinstance(prompt, list):
            raise RecordError(
                f"prompt must be a string or a list of messages, not a {json_kind(prompt)}.",
                hint='Write "prompt": "...".',
            )
        try:
            placeholders = count_places(prompt, check_messages(prompt), images)
        except ValueError as error:
            raise PromptError(f"{error}.") from None
        if placeholders is not None and placeholders != images:
            raise PromptError(
                f"the messages hold {placeholders} image placeholder{'s' * (placeholders != 1)} without "
                f"an image of their own, and images names {images}.",
                hint='Write one {"type": "image"} part, or `<image>` in the text, for each of images.',
            )
        own = image_sources(prompt)
        self.images += tuple(map(shortened, own))
        total, most = len(own) + images, self.rules.limits.max_images
        if total > most:
            raise RecordError(f"{total:,} images, and the limit is {most:,}.", hint="Split the record.")
        return map_images(prompt, self.resolve)


def in_store(base: str, source: str) -> str:
    """A path relative to the folder `base` of a store, as a URL; it does not lead out of its bucket."""
    scheme, _, path = base.partition("://")
    bucket, _, folder = path.partition("/")
    inside = posixpath.normpath("/" + posixpath.join(folder, source))
    return f"{scheme}://{bucket}{inside}"


def _own_settings(values: dict[str, Any]) -> list[str]:
    """The settings that a line gives a value of its own; most lines give none."""
    if _SETTING_NAMES.isdisjoint(values):
        return []
    return [key for key in values if key in _SETTING_NAMES and values[key] is not None]


def _for_output(prompt: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    return prompt if isinstance(prompt, str) else map_images(prompt, shortened)
