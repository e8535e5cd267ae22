"""Images of a folder, of a glob or named one by one, under one prompt -> rows.

Images are known by their suffix; what is in them is found out when their turn comes. Folders are read one at a
time, each sorted by name, so the order is the same each time and no list of all images is kept.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.globs import glob_folder, is_glob
from pixano_vlm.inputs.image_metadata import METADATA_NAMES, ImageMetadata
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows, line_of
from pixano_vlm.inputs.template import Template
from pixano_vlm.media.formats import is_companion, is_image_name, passed_over, readable_suffixes
from pixano_vlm.media.sources import is_url

__all__ = ["FolderRows"]

_OWN_FIELDS = ("name", "stem", "folder", "txt")
"""The last is the text beside an image, as folders for trainers of captions have it: `a.txt` beside `a.jpg`."""
_TEXT_ENDINGS = (".txt", ".caption")
"""How such a text's name ends; the first that is there counts."""


class FolderRows(Rows):
    """One row per image. Its id is its path from the folder; so are its image and, for `{folder}`, its parent.

    Args:
        sources: A folder, a glob, or images.
        template: The prompt. Its fields are `name`, `stem`, `folder`, `txt` and those of the metadata file.
        recursive: Also the images of folders below; links to folders are not followed.

    Raises:
        ManifestError: When there is no such folder, or no image in it.
        UsageError: When the prompt has a placeholder that nothing can fill.
    """

    def __init__(self, sources: Sequence[str], template: Template, *, recursive: bool = False) -> None:
        self._template, self._recursive = template, recursive
        self._pictures: tuple[str, ...] = ()
        self._pattern: str | None = None
        if len(sources) > 1 or (Path(sources[0]).is_file() and not is_glob(sources[0])):
            self._pictures = tuple(dict.fromkeys(sources))
            for name in self._pictures:
                if not is_image_name(Path(name).name):
                    raise ManifestError(
                        f"{name} is not an image: it ends with none of {', '.join(sorted(readable_suffixes()))}.",
                        hint="Name one manifest, one folder, or images only.",
                    )
            self._folder, called = Path(), "images"
        elif is_glob(sources[0]):
            self._pattern = sources[0]
            self._folder, called = Path(glob_folder(sources[0])), sources[0]
        else:
            self._folder, called = Path(sources[0]), Path(sources[0]).resolve().name or sources[0]
        self.layout = Layout(called, self._folder)
        self._metadata: dict[str, ImageMetadata | None] = {}
        first = next(self.rows(check=False), None)
        if first is None:
            raise ManifestError(f"there is no image in {sources[0]}.", hint=self._no_picture_hint())
        fields = dict.fromkeys(_OWN_FIELDS)
        if (
            not template.names <= fields.keys()
        ):  # the folders are looked through only for what is not known yet
            template.check({**fields, **self._fields_of_metadata()})

    def _no_picture_hint(self) -> str:
        folder = self._folder
        if self._pattern is not None and not glob.glob(self._pattern, recursive=True):  # noqa: PTH207 - as in _names
            return "No file matches it."
        if self._pattern is None and not self._recursive:
            for _, _, files in os.walk(folder):
                if any(map(is_image_name, files)):
                    return "There are some in folders below it: add --recursive."
        if (line := passed_over(self.passed_over())) is not None:
            return f"{line}."
        return f"Images are known by their suffix: {', '.join(sorted(readable_suffixes()))}."

    def _fields_of_metadata(self) -> dict[str, None]:
        fields: dict[str, None] = {}
        for folder in dict.fromkeys(os.path.dirname(name) for name in self._names()):  # noqa: PTH120 - a hot path
            for above in _with_folders_above(folder):
                metadata = self._metadata_of(above)
                fields |= {} if metadata is None else metadata.fields
        return fields

    def rows(self, *, check: bool = True) -> Iterator[Row]:
        """The rows, sorted by path; without `check` nothing is looked up, to see whether there is any."""
        for number, name in enumerate(self._names(), 1):
            yield self._row(number, name) if check else Row(number, b"")

    def count(self) -> int:
        """How many images there are, by their names alone."""
        return sum(1 for _ in self._names())

    def _names(self) -> Iterator[str]:
        """Paths from the layout's folder."""
        folder = self._folder
        if self._pictures:
            yield from self._pictures
        elif self._pattern is not None:
            found = glob.iglob(self._pattern, recursive=True)  # noqa: PTH207 - a pattern from the current folder
            pictures = {path for path in found if is_image_name(Path(path).name) and Path(path).is_file()}
            yield from sorted(os.path.relpath(path, folder) for path in pictures)
        else:
            yield from _walk(os.fspath(folder), "", recursive=self._recursive)

    def passed_over(self) -> Mapping[str, int]:
        """How many files are not read, by suffix; what belongs to an image beside it is not counted."""
        if self._pictures:
            return {}
        files: dict[str, list[str]] = {}
        for folder, name in self._files():
            files.setdefault(folder, []).append(name)
        counts: Counter[str] = Counter()
        for names in files.values():
            images = {Path(name).stem for name in names if is_image_name(name)}
            counts.update(
                Path(name).suffix.lower()
                for name in names
                if not is_image_name(name) and name not in METADATA_NAMES and not is_companion(name, images)
            )
        return counts

    def _files(self) -> Iterator[tuple[str, str]]:
        """Every file that is looked at, as its folder and its name."""
        if self._pattern is not None:
            for path in glob.iglob(self._pattern, recursive=True):  # noqa: PTH207 - as in _names
                if os.path.isfile(path):  # noqa: PTH113 - a hot path
                    yield os.path.split(path)
            return
        for folder, below, names in os.walk(self._folder):
            below[:] = [name for name in below if self._recursive and not name.startswith(".")]
            yield from ((folder, name) for name in names if not name.startswith("."))

    def _row(self, number: int, name: str) -> Row:
        path = Path(name)
        slashed = path.as_posix()
        try:
            slashed.encode()
        except UnicodeEncodeError:
            return Row(number, b"{}", Problem(f"the name {slashed!a} is not UTF-8.", "Rename the file."))
        known: dict[str, Any] = self._said_of(slashed)
        parent = path.parent.name or self._folder.resolve().name
        values: dict[str, Any] = {"id": slashed, "images": [f"./{slashed}" if is_url(slashed) else slashed]}
        if known:
            values["metadata"] = known
        own: dict[str, Any] = {"name": path.name, "stem": path.stem, "folder": parent}
        try:
            if "txt" in self._template.names and "txt" not in known:
                own["txt"] = self._text_beside(path)
            values["prompt"] = self._template.fill({**known, **own})
        except RecordError as error:
            return Row(number, line_of(values), Problem(error.message, error.hint))
        return Row(number, line_of(values))

    def _text_beside(self, name: Path) -> str | None:
        for ending in _TEXT_ENDINGS:
            try:
                return Path(self._folder, name).with_suffix(ending).read_text(encoding="utf-8-sig").strip()
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise RecordError(f"{name.with_suffix(ending)} cannot be read: {error}.") from None
        return None

    def _said_of(self, name: str) -> dict[str, Any]:
        """The fields of the nearest metadata file that knows the image, in its folder or one above."""
        for folder in _with_folders_above(os.path.dirname(name)):  # noqa: PTH120 - a hot path
            metadata = self._metadata_of(folder)
            if metadata is not None and (known := metadata.of(name[len(folder) :].lstrip("/"))):
                return known
        return {}

    def _metadata_of(self, folder: str) -> ImageMetadata | None:
        if folder not in self._metadata:
            paths = (self._folder / folder / name for name in METADATA_NAMES)
            path = next(filter(Path.is_file, paths), None)
            self._metadata[folder] = None if path is None else ImageMetadata(path)
        return self._metadata[folder]


def _with_folders_above(folder: str) -> Iterator[str]:
    """The folder, its parent and so on, up to the one that paths start from."""
    yield folder
    while folder and folder != os.sep:
        folder = os.path.dirname(folder)  # noqa: PTH120 - a hot path
        yield folder


def _walk(top: str, below: str, *, recursive: bool) -> Iterator[str]:
    with os.scandir(os.path.join(top, below) or ".") as found:  # noqa: PTH118 - a hot path
        entries = sorted(
            (entry.name + "/", True) if entry.is_dir(follow_symlinks=False) else (entry.name, False)
            for entry in found
            if not entry.name.startswith(".")
        )
    for name, is_folder in entries:
        if not is_folder:
            if is_image_name(name) and not os.path.isdir(os.path.join(top, below, name)):  # noqa: PTH112, PTH118
                yield below + name
        elif recursive:
            yield from _walk(top, below + name, recursive=True)
