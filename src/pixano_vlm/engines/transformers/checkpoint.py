"""A checkpoint's files on this machine: where they are, and whether they are all there and whole. Loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ModelLoadError
from pixano_vlm.models.deployment import TransformersParams

__all__ = ["check_whole", "checkpoint_folder", "missing_files"]

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
TOKENIZERS = (
    "tokenizer.json", "*.model", "vocab.*", "vocab-*", "merges.txt", "*.spm", "*.tiktoken", "tekken.json", "*.bpe",
)  # fmt: skip
"""One of these holds a tokenizer's vocabulary."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
SHOWN = 3
"""How many names of files an error lists."""


def checkpoint_folder(params: TransformersParams) -> Path | None:
    """Where a checkpoint's files are, if they are on this machine."""
    if Path(params.path).is_dir():
        return Path(params.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        found = snapshot_download(
            params.path, revision=params.revision, cache_dir=params.cache_dir, local_files_only=True
        )
        return Path(found)
    return None


def check_whole(params: TransformersParams) -> None:
    """Refuses a local checkpoint that is not whole, before libraries explain it in their own ways.

    Raises:
        ModelLoadError: When a file is missing, cut off, or only a pointer to itself; names it, and what to run.
    """
    folder = Path(params.path)
    if not (folder.is_dir() and any(folder.iterdir())):
        return
    where = f"the model of {params.path!r} cannot be loaded"
    pointers = [file.name for file in _files(folder) if _is_pointer(file)]
    if pointers:
        raise ModelLoadError(
            f"{where}: {_list(pointers)} {'is a Git LFS pointer' if len(pointers) == 1 else 'are Git LFS pointers'}, "
            "not the file itself.",
            hint=f"Run: git lfs pull, in {folder}.",
        )
    if not (folder / "config.json").is_file():
        raise ModelLoadError(f"{where}: the folder has no config.json.", hint=_instead_of_config(folder))
    missing = missing_files(folder)
    if missing:
        raise ModelLoadError(f"{where}: {missing[0]}.", hint=missing[1])
    for file in _weights(folder):
        expected, size = _expected_size(file), file.stat().st_size
        if expected is None or size < expected:
            of = "" if expected is None else f": {size:,} of its {expected:,} bytes are there"
            raise ModelLoadError(
                f"{where}: {file.name} is cut off{of}.", hint=f"Fetch it again: {_fetch(folder, file.name)}."
            )


def missing_files(folder: Path) -> tuple[str, str] | None:
    """What a checkpoint with a config lacks, and what to run; None where it has one of everything."""
    shards = _shards(folder)
    absent = sorted(name for name in shards if not (folder / name).is_file())
    if absent:
        have = f"{INDEX} names {len(shards)} files of weights, and missing: {_list(absent)}"
        return have, f"Fetch the rest: {_fetch(folder, *absent[:SHOWN])}."
    loose = sorted(file.name for file in folder.glob("model-*-of-*.safetensors"))
    if loose and not shards:
        return f"{INDEX} is missing, which says what is in {_list(loose)}", f"Run: {_fetch(folder, INDEX)}."
    if not any(folder.glob("*.safetensors")):
        return _no_weights(folder)
    names = [file.name for file in folder.iterdir()]
    if not any(fnmatch(name, pattern) for name in names for pattern in TOKENIZERS):
        return (
            "it has no tokenizer: no tokenizer.json, and nothing like it",
            f"Copy it from the model that this one was made from: {_fetch(folder, 'tokenizer.json')}.",
        )
    if not any(name in names for name in PROCESSORS):
        return (
            f"it has no image processor: no {' and no '.join(PROCESSORS)}",
            f"Copy it from the model that this one was made from: {_fetch(folder, PROCESSORS[0])}.",
        )
    return None


def _no_weights(folder: Path) -> tuple[str, str]:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return (
            "it has no safetensors weights, and pickled ones are not loaded",
            "Convert it once with transformers' save_pretrained, or use a revision that has them.",
        )
    if any(folder.glob("*.gguf")):
        return (
            "it has GGUF weights alone",
            "Serve it with llama.cpp and use OpenAIVLMModel, or fetch the original.",
        )
    return f"it has no weights: {WEIGHTS} is missing", f"Run: {_fetch(folder, WEIGHTS)}."


def _instead_of_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "It holds a PEFT adapter: load the model that it was made for, with --adapter FOLDER."
    inside = sorted(file.parent.name for file in folder.glob("*/config.json"))
    if inside:
        return f"There is one in its folder {_list(inside)}: give that folder."
    return "Give the folder of a saved model."


def _fetch(folder: Path, *names: str) -> str:
    return f"hf download ID {' '.join(names)} --local-dir {folder}"


def _files(folder: Path) -> Iterator[Path]:
    kinds = {".json", ".safetensors", ".model", ".jinja", ".txt", ".tiktoken", ".spm"}
    return (file for file in sorted(folder.iterdir()) if file.suffix in kinds and file.is_file())


def _is_pointer(file: Path) -> bool:
    if file.stat().st_size > 1024:  # a pointer has three short lines
        return False
    return file.read_bytes().startswith(LFS_POINTER)


def _shards(folder: Path) -> set[str]:
    index: Any = {}
    with suppress(OSError, ValueError):
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    found = index.get("weight_map") if isinstance(index, dict) else None
    return {name for name in found.values() if isinstance(name, str)} if isinstance(found, dict) else set()


def _weights(folder: Path) -> list[Path]:
    named = [folder / name for name in sorted(_shards(folder))] or [folder / WEIGHTS]
    return [file for file in named if file.is_file()]


def _expected_size(file: Path) -> int | None:
    """How large a safetensors file is by its own header; None where even that is cut off."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return None
        try:
            header = json.loads(stream.read(length))
            ends = [held["data_offsets"][1] for name, held in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None
    return 8 + length + max(ends, default=0)


def _list(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
