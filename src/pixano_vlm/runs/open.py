"""Opens the place for a run's results: a durable JSONL file, or a stream."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from pixano_vlm.errors import OutputError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs.disk import DISK, Disk
from pixano_vlm.outputs.jsonl import JsonlOutputs, journal_path
from pixano_vlm.outputs.sink import Outputs
from pixano_vlm.outputs.stream import StreamOutputs

__all__ = ["JsonlOutputs", "Outputs", "StreamOutputs", "journal_path", "open_outputs"]


def open_outputs(
    path: Path | None,
    manifest: Manifest,
    *,
    model: str,
    fingerprint: str,
    resume: bool = False,
    overwrite: bool = False,
    retry_failed: bool = False,
    retry_flagged: bool = False,
    limit: int | None = None,
    stream: TextIO | None = None,
    disk: Disk = DISK,
) -> Outputs:
    """Opens an output for the results of `manifest`.

    Args:
        path: A file; None or `-` for a text stream. What is there and no regular file is written as a stream.
        manifest: Where the records come from.
        model: The model's name, for the output's lines.
        fingerprint: What distinguishes its answers from another model's.
        resume: Keep the answers that still hold. Nothing there yet: start.
        overwrite: Discard what is there.
        retry_failed: With `resume`, do the error records again.
        retry_flagged: With `resume`, do those again whose answer is flagged and was not tried again yet.
        limit: Only the first so many records.
        stream: Written in place of standard output.
        disk: The file system.

    Raises:
        OutputError: When the file exists and neither is asked for, another run writes it, or it cannot be
            opened.
        ManifestError: When the manifest cannot be read.
    """
    if path is None or str(path) == "-":
        return _to_stream(stream or sys.stdout, manifest, model, resume, limit)
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file with -o FILE.")
    if path.exists() and not path.is_file():  # a pipe, or /dev/null
        return _to_stream(path.open("w", encoding="utf-8"), manifest, model, resume, limit, own=True)
    if manifest.source is not None and path.exists() and path.samefile(manifest.source):
        raise OutputError(f"{path} is the manifest itself.", hint="Name another file with -o FILE.")
    exists = disk.exists(path)
    if exists and not (resume or overwrite):
        raise OutputError(
            f"{path} exists.",
            hint="Go on with it (--resume), replace it (--overwrite), or name another (-o FILE).",
        )
    try:
        if resume and exists:
            manifest.spool()
        return JsonlOutputs.open(
            path, manifest, model, fingerprint, resume=resume and exists, retry_failed=retry_failed,
            retry_flagged=retry_flagged, limit=limit, disk=disk,
        )  # fmt: skip
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", hint=_hint(error, path)
        ) from error


def _to_stream(
    stream: TextIO, manifest: Manifest, model: str, resume: bool, limit: int | None, *, own: bool = False
) -> StreamOutputs:
    if resume:
        raise OutputError(
            "a run that writes to a stream cannot be resumed.", hint="Name a file with -o FILE."
        )
    return StreamOutputs(manifest, model, stream, limit=limit, own=own)


def _hint(error: OSError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"Create the folder {path.parent}, or name another file with -o FILE."
    return "Make room or change its permissions, or name another file with -o FILE."
