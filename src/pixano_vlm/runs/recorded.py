"""What a run file keeps of a run's inputs, and opening them again from it: one place for both directions.

Knows no output. Paths are kept whole, so that a check may be made from any folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.open import open_source, read_share
from pixano_vlm.inputs.page_rows import page_rows
from pixano_vlm.inputs.template import Template
from pixano_vlm.media.stores import is_store_url
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.outputs.run_file import redact
from pixano_vlm.prompts.response_format import keys_of
from pixano_vlm.runs.options import RunOptions

__all__ = ["Recorded", "inputs_of", "kept", "read_recorded"]


def inputs_of(options: RunOptions, manifest: Manifest, fingerprint: str) -> dict[str, Any]:
    """What a run read, and how, as JSON values; `read_recorded` is the other direction."""
    asked = options.asked
    limits = asdict(options.limits)
    limits["image_root"] = (
        None if options.limits.image_root is None else os.path.realpath(limits["image_root"])
    )
    return {
        "deployment": redact(options.model.config.model_dump(mode="json", exclude_defaults=True)),
        "names": [_whole(name) for name in asked["manifest"]] if asked.get("manifest") else None,
        "prompt": asked.get("prompt"),
        "recursive": bool(asked.get("recursive")),
        "image_columns": asked.get("image_columns"),
        "prompt_column": asked.get("prompt_column"),
        "id_column": asked.get("id_column"),
        "shard": asked.get("shard"),
        "pages": options.pages,
        "system": options.system,
        "with_prompt": options.with_prompt,
        "settings": options.settings.model_dump(exclude_none=True),
        "run_seed": options.run_seed,
        "limits": limits,
        "files": {str(path): state for path in options.source.files if (state := _state(path)) is not None},
        "context": {
            "model": options.model.model_name,
            "fingerprint": fingerprint,
            **manifest.rules.context(),
        },
        "exports": [os.path.realpath(path) for path in options.exports],
        "sidecars": None if options.sidecars is None else options.sidecars.kind,
    }


def _whole(name: str) -> str:
    """A name that means the same from any folder."""
    return name if name == "-" or is_store_url(name) or "://" in name else os.path.abspath(name)  # noqa: PTH100 - links stay


def _state(path: Path) -> list[int] | None:
    """What a manifest's file is recognised by: its size and when it was changed, in bytes and nanoseconds."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run as its run file describes it."""

    values: Mapping[str, Any]
    """What `inputs_of` made."""
    started: str | None
    """When the first of the runs into this output began, in ISO 8601."""
    is_complete: bool
    """Whether the last of them ended with every record done."""
    is_one: bool
    """Whether every run into this output read the same files under the same settings."""

    def manifest(self, names: list[str] | None = None) -> Manifest:
        """The records, opened again.

        Args:
            names: Read instead of what the run read.

        Raises:
            ManifestError: When they are not there any more.
            UsageError: When the run read something that cannot be opened again.
        """
        values = self.values
        names = names or values["names"]
        if not names or "-" in names:
            raise UsageError(
                "the run read standard input or Python objects, which cannot be read again.",
                hint="Name a file with the same records: --manifest FILE",
            )
        naming = Naming(tuple(values["image_columns"] or ()), values["prompt_column"], values["id_column"])
        template = None if values["prompt"] is None else Template(values["prompt"])
        source = open_source(
            names, template, recursive=values["recursive"], naming=naming, share=read_share(values["shard"])
        )
        limits = self.limits
        rows = page_rows(source, limits) if values["pages"] == "each" else source.rows
        return Manifest(
            source.path, rows=rows, stream=source.stream, name=source.name,
            settings=GenerationSettings(**values["settings"]), limits=limits, run_seed=values["run_seed"],
            pages=values["pages"], naming=source.naming, system=values["system"], with_prompt=values["with_prompt"],
        )  # fmt: skip

    @property
    def limits(self) -> Limits:
        """The run's limits."""
        values = dict(self.values["limits"])
        root = values.pop("image_root")
        return Limits(**values, image_root=None if root is None else Path(root))

    @property
    def keys(self) -> list[str]:
        """The keys that answers in JSON were asked to have."""
        return keys_of(self.values["settings"].get("response_format"))

    def is_unchanged(self) -> bool:
        """Whether the manifest's files are those that every run read, by size and time of change."""
        files = self.values["files"]
        return self.is_one and all(_state(Path(name)) == state for name, state in files.items())


def read_recorded(run_file: Mapping[str, Any]) -> Recorded | None:
    """What a run file keeps; None where it is of a version that kept less.

    Raises:
        ManifestError: When what it keeps is damaged.
    """
    runs = [*(run_file.get("earlier") or []), run_file]
    values = run_file.get("inputs")
    if values is None:
        return None
    try:
        recorded = Recorded(
            values,
            runs[0].get("start"),
            run_file.get("ended") == "complete",
            all(run.get("inputs") == values for run in runs),
        )
        _ = recorded.limits, values["context"], values["files"], values["names"], values["settings"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"the run file is damaged: {type(error).__name__}: {error}.",
            hint="Name the manifest: --manifest FILE",
        ) from error
    return recorded


def kept(values: dict[str, Any]) -> dict[str, Any]:
    """The values as a run file may hold them: one that looks like a secret makes them of no use to open anything."""
    return values if redact(values) == values else {**redact(values), "names": None}
