"""A manifest line on its way to becoming a request: its values checked, defaults and paths filled in.

Knows no file but the images' paths, which it resolves, confines and stamps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixano_vlm.errors import ImageError, PromptError, RecordError, VLMError
from pixano_vlm.inputs.decode import decode_line, json_kind
from pixano_vlm.inputs.fields import CHECKS, FIELDS, check_id, check_images, suggestion
from pixano_vlm.inputs.openai_batch import from_batch_request, is_batch_request
from pixano_vlm.inputs.pages import with_all_pages
from pixano_vlm.inputs.rules import Rules
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
from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.messages import check_messages, count_places, image_sources, map_images
from pixano_vlm.prompts.response_format import schema_of
from pixano_vlm.records.request import Line, Request
from pixano_vlm.validation import first_problem


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
        self.id, self.id_hash = str(line.number), 0
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
            tuple(self.files) if error is None else (), self.id_hash, self.own_seed, self.rules.name,
            self.prompt,
        )  # fmt: skip

    def read(self) -> Request:
        """The whole line.

        Raises:
            RecordError: When the line is wrong.
            ImageError: When an image of it may not be opened.
            PromptError: When its messages are wrong.
        """
        rules, text = self.rules, self.line.text
        if text is None:
            raise RecordError(
                f"the line is longer than {rules.max_line_bytes:,} bytes.",
                hint="Name images by path or URL instead of writing them out.",
            )
        values = decode_line(text)
        if is_batch_request(values):
            self.read_id({"id": values["custom_id"]})
            values = from_batch_request(values)
        else:
            self.read_id(values)
        self.read_metadata(values)
        if self.line.problem is not None:
            raise RecordError(self.line.problem.message, hint=self.line.problem.hint)
        settings = dict(rules.defaults)
        for key in values.keys() & SETTINGS.keys():
            if values[key] is not None:
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
        if rules.pages == "all":
            prompt, images = with_all_pages(prompt, images, rules.limits)
        self.prompt = _for_output(values["prompt"]) if rules.with_prompt else None
        if settings["temperature"] > 0 and "seed" not in settings:
            settings["seed"] = rules.derived_seed(self.id)
        try:
            input = VLMInput(prompt=rules.with_system(prompt), images=images or None, **settings)
        except ValidationError as error:  # CHECKS are as strict; this is for whatever they have missed
            raise RecordError(first_problem(error).message()) from None
        # A default, or a seed that is derived, is set because a model needs one, and is nobody's wish.
        asked = rules.asked | {key for key, value in values.items() if value is not None}
        input.model_fields_set.intersection_update(asked | {"prompt", "images"})
        return self.request(input)

    def read_id(self, values: dict[str, Any]) -> None:
        """The line's own id, which no earlier line may have."""
        own = values.get("id")
        if own is None:
            return
        try:
            self.id = check_id(own)
        except ValueError as error:
            raise RecordError(f"id {error}.", hint="Without one, the line number is the id.") from None
        self.id_hash = int.from_bytes(blake2b(self.id.encode(), digest_size=8).digest(), "little") or 1
        if self.takes_id is not None and not self.takes_id(self.line, self.id_hash):
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
        others = values.keys() - FIELDS
        if not others:
            self.metadata = metadata or {}
            return
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
        source = from_base64(source)
        if is_url(source):
            if not self.rules.limits.allow_urls and not is_data_url(source):
                raise ImageError(f"{shortened(source)} is a URL, and URLs are not allowed in this run.")
            return source
        try:
            path = os.path.normpath(os.path.join(self.rules.base_dir, local_path(source)))  # noqa: PTH118 - hot
        except ValueError as error:
            raise ImageError(f"{shortened(source)}: {error}.") from None
        check_is_path(path)
        path, page = file_and_page(path)
        if self.rules.root is not None:
            confine(path, self.rules.root)
        self.files.append(stamp(path))
        return path if page is None else with_page(path, page)

    def read_prompt(self, values: dict[str, Any], images: int) -> str | list[dict[str, Any]]:
        """The prompt; `images` is how many the line lists, which its placeholders must match."""
        prompt = values.get("prompt")
        if prompt is None:
            asked = next((key for key in ("question", "text", "instruction", "query") if key in values), None)
            raise RecordError(
                "there is no prompt.",
                hint=f"Rename {asked!r} to 'prompt'." if asked else 'Add "prompt": "...".',
            )
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


def _for_output(prompt: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    return prompt if isinstance(prompt, str) else map_images(prompt, shortened)
