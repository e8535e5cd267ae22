"""The names on a command line -> the files that they mean: manifests, or images. Opens none of them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.file import InputFile, store_of
from pixano_vlm.inputs.forms import InputForm, form_of, is_manifest
from pixano_vlm.inputs.globs import MAGIC, is_glob
from pixano_vlm.inputs.image_metadata import METADATA_NAMES
from pixano_vlm.media.formats import extra_of, is_image_name, readable_suffixes
from pixano_vlm.media.stores import is_store_url
from pixano_vlm.nearest import nearest_path

__all__ = ["Found", "expand"]

_OUTPUTS = (".journal", ".run.json")
"""What lies beside an output of an earlier run, behind its name."""
_CACHES = re.compile(r"(?:cache|tmp)-?[0-9a-z_]{8,}\.arrow")
"""What `datasets` keeps beside the files of a dataset: the same records once more, as `map` or `filter` left them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What names mean: manifests or images, never both."""

    stem: str
    """What an output is named after."""
    files: tuple[InputFile, ...] = ()
    """Manifests, in the order in which they are read."""
    is_one: bool = False
    """Whether one file was named, rather than what may come to hold several."""
    images: tuple[str, ...] = ()
    """A folder, a glob, or images."""


def expand(names: Sequence[str], *, recursive: bool) -> Found:
    """What the names mean.

    Args:
        names: Files, folders, globs and URLs.
        recursive: Of a folder, also the folders below it.

    Raises:
        ManifestError: When something is not there, or images and manifests are named together.
        UsageError: When `recursive` does not go with them.
    """
    kinds = [_kind(name, recursive=recursive) for name in names]
    if recursive and not any(_is_folder(name) for name in names):
        raise UsageError("--recursive goes with a folder.", hint="Name a folder.")
    if all(isinstance(kind, str) for kind in kinds):
        return Found(_stem(names), images=_images(names))
    if any(isinstance(kind, str) for kind in kinds):
        image = next(name for name, kind in zip(names, kinds, strict=True) if isinstance(kind, str))
        other = next(name for name, kind in zip(names, kinds, strict=True) if not isinstance(kind, str))
        raise ManifestError(
            f"{other} is not an image, and {image} is: images end with {', '.join(sorted(readable_suffixes()))}.",
            hint="Name manifests, or one folder, or images only.",
        )
    files = list({str(file): file for kind in kinds for file in kind if not isinstance(file, str)}.values())
    is_one = len(names) == len(files) == 1 and str(files[0]) == str(InputFile(names[0]))
    return Found(files[0].stem if is_one else _stem(names, of="records"), files=tuple(files), is_one=is_one)


def _kind(name: str, *, recursive: bool) -> str | Sequence[InputFile]:
    """The manifests that one name means, or the name itself where it means images."""
    if is_store_url(name):
        return _in_store(name, recursive=recursive)
    path = Path(name)
    if path.is_dir():
        if is_manifest(file := InputFile(name)):
            return [file]
        manifests = _manifests_in(path, recursive=recursive)
        return name if not manifests or _has_images(path, recursive=recursive) else manifests
    if is_glob(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - a pattern from the current folder
        if any(is_image_name(Path(match).name) for match in matches):
            return name
        return _chosen(map(InputFile, filter(os.path.isfile, matches)), name) or name
    if is_image_name(path.name) or extra_of(path.suffix.lower()) is not None:
        return name
    if not path.exists():
        raise ManifestError(
            f"there is no manifest {name}.",
            hint=nearest_path(name)
            or "Give a JSONL file, a folder with --prompt TEXT, or - for standard input.",
        )
    return [InputFile(name)]


def _is_folder(name: str) -> bool:
    return name.endswith("/") if is_store_url(name) else Path(name).is_dir()


def _images(names: Sequence[str]) -> tuple[str, ...]:
    if len(names) == 1:
        return tuple(names)
    found: list[str] = []
    for name in names:
        if _is_folder(name):
            raise ManifestError(
                f"{name} is a folder, and other images are named too.",
                hint="Name one folder, or images only.",
            )
        found += sorted(glob.glob(name, recursive=True)) if is_glob(name) else [name]  # noqa: PTH207 - likewise
    return tuple(found)


def _has_images(folder: Path, *, recursive: bool) -> bool:
    if not recursive:
        return any(is_image_name(entry.name) for entry in os.scandir(folder))
    return any(is_image_name(name) for _, _, names in os.walk(folder) for name in names)


def _manifests_in(folder: Path, *, recursive: bool) -> list[InputFile]:
    if recursive:
        paths = [Path(top) / name for top, _, names in os.walk(folder) for name in names]
    else:
        paths = [Path(folder) / entry.name for entry in os.scandir(folder) if entry.is_file()]
    shown = [path for path in paths if not path.name.startswith(".")]
    return _chosen((InputFile(str(path)) for path in sorted(shown, key=lambda path: path.parts)), str(folder))


def _chosen(files: Iterable[InputFile], name: str) -> list[InputFile]:
    """The manifests among files, all of one form; what an earlier run wrote is none."""
    by_form: dict[str, tuple[InputForm, list[InputFile]]] = {}
    for file in files:
        form = form_of(file)
        if form is None or file.name in METADATA_NAMES or _CACHES.fullmatch(file.name):
            continue
        if _is_written_by_a_run(file):
            continue
        by_form.setdefault(form.words, (form, []))[1].append(file)
    if len(by_form) > 1:
        by_form.pop("JSON", None)  # what describes a dataset is beside it in such files
    if len(by_form) > 1:
        raise ManifestError(
            f"{name} holds manifests of several forms: {', '.join(by_form)}.",
            hint="Name those of one form, such as data/*.parquet.",
        )
    return next((found for _, found in by_form.values()), [])


def _is_written_by_a_run(file: InputFile) -> bool:
    if file.path is None:
        return False
    if file.name.endswith((".run.json", ".replaced.jsonl")):
        return True
    return any(os.path.lexists(f"{file.path}{end}") for end in _OUTPUTS)


def _in_store(url: str, *, recursive: bool) -> Sequence[InputFile]:
    store, path = store_of(url)
    scheme = url.partition("://")[0]
    try:
        if is_glob(url):
            found = store.glob(path)
        elif url.endswith("/") or (not is_manifest(InputFile(url)) and store.isdir(path)):
            found = store.find(path, maxdepth=None if recursive else 1)
        else:
            return [InputFile(url)]
    except Exception as error:  # each store's package has exceptions of its own
        raise ManifestError(f"{url} cannot be read: {' '.join(str(error).split())[:300]}.") from error
    files = _chosen((InputFile(f"{scheme}://{name.lstrip('/')}") for name in sorted(found)), url)
    if not files:
        raise ManifestError(f"there is no manifest in {url}.", hint="Check the URL, or name the files.")
    return files


def _stem(names: Sequence[str], of: str = "pictures") -> str:
    # The word is that of the first version, whose runs are resumed by the name of their output.
    name = names[0]
    if len(names) > 1:
        return of
    if is_store_url(name):
        kept = [part for part in name.partition("://")[2].split("/") if part and not MAGIC.search(part)]
        return kept[-1] if kept else of
    if is_glob(name):
        parts = [part for part in Path(name).parts if not is_glob(part)]
        return Path(*parts).resolve().name if parts else of
    path = Path(name).resolve()
    return path.name if path.is_dir() else path.stem
