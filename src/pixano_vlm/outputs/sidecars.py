"""A file beside each image with its answer: `cat.txt` beside `cat.jpg`, as trainers of captions read it.

Wraps the sink of a run, which stays what is resumed. An existing file is never written over unless asked, and its
record counts as done: nobody asks the model. A record with several images has its file beside the first; one without
an image on this machine, or with an empty answer, has none.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pixano_vlm.errors import RunError
from pixano_vlm.media.sources import is_url, local_path
from pixano_vlm.outputs.jsonl import JsonlSink
from pixano_vlm.outputs.sink import Sink
from pixano_vlm.records.output_line import render
from pixano_vlm.records.result import Result

__all__ = ["SidecarSink", "path_beside", "sidecar_of"]


class SidecarSink(Sink):
    """A sink with a file beside each image.

    Args:
        inner: Where results go first.
        folder: What relative image paths start from.
        kind: `txt` holds the text, `json` the whole line of the output.
        model: The model's name, for the lines.
        overwrite: Whether a file that is there is written over.
    """

    def __init__(self, inner: Sink, folder: str, kind: str, model: str, *, overwrite: bool = False) -> None:
        self._inner, self._folder, self._kind, self._model = inner, folder, kind, model
        self.overwrite = overwrite

    @property
    def full(self) -> bool:
        """As of the sink inside."""
        return self._inner.full

    @property
    def untouched(self) -> bool:
        """As of the sink inside."""
        return self._inner.untouched

    @property
    def has_stale(self) -> bool:
        """As of the sink inside."""
        return self._inner.has_stale

    def write(self, result: Result) -> Result:
        """Writes the result, then the file beside its image."""
        written = self._inner.write(result)
        path = self.path_beside(written.request.images)
        if written.ok and path is not None:
            line = json.loads(render(written, self._model)[0])
            self._put(path, line, overwrite=self.overwrite)
        return written

    def finish(self, *, complete: bool) -> None:
        """As of the sink inside; then the files that a killed run or somebody else left missing."""
        self._inner.finish(complete=complete)
        if not (complete and isinstance(self._inner, JsonlSink)):
            return
        with self._inner.path.open("rb") as lines:
            for text in lines:
                line = json.loads(text)
                path = self.path_beside(line["images"])
                if line["status"] == "ok" and path is not None and not os.path.lexists(path):
                    self._put(path, line, overwrite=False)

    def close(self) -> None:
        """Closes the files."""
        self._inner.close()

    def path_beside(self, images: Sequence[str]) -> Path | None:
        """Where the file of a record goes, by its images as its line writes them; None where it has none."""
        return path_beside(images, self._folder, self._kind)

    def _put(self, path: Path, line: dict[str, Any], *, overwrite: bool) -> None:
        data = sidecar_of(line, self._kind)
        if data is None:
            return
        try:
            self.sidecars_written += _write(path, data, overwrite=overwrite)
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}. The output has every answer.",
                hint="Make its folder writable and resume with the same command, or leave --sidecar out.",
            ) from error


def path_beside(images: Sequence[str], folder: str, kind: str) -> Path | None:
    """Where the file of a record goes.

    Args:
        images: Its images as its line writes them.
        folder: What relative paths start from.
        kind: `txt` or `json`.

    Returns:
        The path; None where the record has no image on this machine.
    """
    if not images or is_url(images[0]):
        return None
    return Path(folder, local_path(images[0])).with_suffix(f".{kind}")


def sidecar_of(line: Mapping[str, Any], kind: str) -> bytes | None:
    """What is in the file beside the image of a line; None where the answer is empty."""
    text = (line["generated_text"] or "").strip()
    if not text:
        return None
    if kind == "json":
        text = json.dumps(line, ensure_ascii=False, indent=2)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _write(path: Path, data: bytes, *, overwrite: bool) -> bool:
    """Puts a whole file in its place in one step, and says so; one that is there stays unless it may be replaced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_bytes(data)
        if not overwrite:
            try:
                os.link(temporary, path)
                return True
            except FileExistsError:
                return False
            except OSError:  # a file system without links: nobody can make it one step there
                if os.path.lexists(path):
                    return False
        temporary.replace(path)
        return True
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
