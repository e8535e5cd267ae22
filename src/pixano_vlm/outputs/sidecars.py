"""A file beside each picture with its answer: `cat.txt` beside `cat.jpg`, as trainers of captions read it.

Wraps the outputs of a run, which stay what is gone on with. An existing file is never written over unless asked, and
its record counts as done: nobody asks the model. A record with several pictures has its file beside the first; one
without a picture on this machine, or with an empty answer, has none.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pixano_vlm.errors import RecordError, RunError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.media.sources import is_url, local_path
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.outputs.jsonl import JsonlOutputs
from pixano_vlm.outputs.sink import Outputs
from pixano_vlm.prompts.messages import image_sources
from pixano_vlm.records.output_line import render
from pixano_vlm.records.request import Request, Result

__all__ = ["SidecarOutputs"]


class SidecarOutputs(Outputs):
    """Outputs with a file beside each picture.

    Args:
        inner: Where results go first.
        manifest: What it was opened with.
        kind: `txt` holds the text, `json` the whole line of the output.
        model: The model's name, for the lines.
        overwrite: Whether a file that is there is written over.
    """

    def __init__(
        self,
        inner: Outputs,
        manifest: Manifest,
        kind: str,
        model: str,
        *,
        overwrite: bool = False,
    ) -> None:
        self._inner, self._folder, self._kind, self._model = inner, manifest.base_dir, kind, model
        self._overwrite = overwrite
        self._claimed = HashTable()
        self.reused, self.reused_failed, self.to_do = inner.reused, inner.reused_failed, inner.to_do

    @property
    def full(self) -> bool:
        """As of the outputs inside."""
        return self._inner.full

    def requests(self) -> Iterator[Request]:
        """The requests still to be done whose file is not there."""
        for request in self._inner.requests():
            path = None if request.input is None else self._beside(_first_picture(request.input))
            if path is None:
                yield request
            elif not self._claimed.add(_hash(path)):
                error = RecordError(
                    f"{request.where}: an earlier record has its answer in {path} too.",
                    hint="Ask once about each picture, and give pictures of one folder names of their own.",
                )
                yield replace(request, input=None, files=(), error=error)
            elif not self._overwrite and os.path.lexists(path):
                self.there += 1
            else:
                yield request

    def write(self, result: Result) -> Result:
        """Writes the result, then the file beside its picture."""
        written = self._inner.write(result)
        if written.output is not None and written.request.input is not None:
            path = self._beside(_first_picture(written.request.input))
            if path is not None:
                line = json.loads(render(written, self._model)[0])
                self._put(path, line, overwrite=self._overwrite)
        return written

    def finish(self, *, complete: bool) -> None:
        """As of the outputs inside; then the files that a killed run or somebody else left missing."""
        self._inner.finish(complete=complete)
        if not (complete and isinstance(self._inner, JsonlOutputs)):
            return
        with self._inner.path.open("rb") as lines:
            for text in lines:
                line = json.loads(text)
                if line["status"] == "ok" and line["images"]:
                    path = self._beside(line["images"][0])
                    if path is not None and not os.path.lexists(path):
                        self._put(path, line, overwrite=False)

    def close(self) -> None:
        """Closes the files."""
        self._claimed.close()
        self._inner.close()

    def _beside(self, picture: str | None) -> Path | None:
        if picture is None or is_url(picture):
            return None
        # A path of the output's line is as the manifest writes it; one of an input is whole already.
        return Path(self._folder, local_path(picture)).with_suffix(f".{self._kind}")

    def _put(self, path: Path, line: dict[str, Any], *, overwrite: bool) -> None:
        text = (line["generated_text"] or "").strip()
        if not text:
            return
        if self._kind == "json":
            text = json.dumps(line, ensure_ascii=False, indent=2)
        try:
            data = (text + "\n").encode("utf-8", "backslashreplace")
            self.beside += _write(path, data, overwrite=overwrite)
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}. The output has every answer.",
                hint="Make its folder writable and go on with the same command, or leave --sidecar out.",
            ) from error


def _first_picture(input: VLMInput) -> str | None:
    if input.images:
        return str(input.images[0])
    if isinstance(input.prompt, list):
        return next(iter(image_sources(input.prompt)), None)
    return None


def _hash(path: Path) -> int:
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=8).digest(), "little") or 1


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
