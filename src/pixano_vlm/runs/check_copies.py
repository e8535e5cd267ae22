"""Whether what was made of an output still belongs to it: its other forms, and the files beside images.

Each other form is made again in a temporary folder and compared record by record, by id and in any order.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.outputs.exports import export_rows, files_of, write_export
from pixano_vlm.outputs.forms import Answers, form_of
from pixano_vlm.outputs.sidecars import path_beside, sidecar_of
from pixano_vlm.outputs.yolo import CLASSES, ClassList
from pixano_vlm.records.request import hash_id
from pixano_vlm.runs.check import Checked, Finding, Kind

__all__ = ["compare_exports", "compare_sidecars"]


def compare_exports(answers: Answers, exports: list[Path], checked: Checked) -> Iterator[Finding]:
    """Compares the other forms of an output with it.

    Args:
        answers: The output, with what goes beside its answers.
        exports: The files that the run was to write.
        checked: Counts go here.

    Raises:
        MissingPackageError: When what reads one is not installed.
    """
    for path in exports:
        if form_of(path) is None:
            continue
        checked.copies += 1
        for finding in _export(answers, path):
            checked.found[finding.kind] += 1
            yield finding


def _export(answers: Answers, path: Path) -> Iterator[Finding]:
    if not files_of(path):
        yield Finding("missing", path.name, path.name, None, "it is not there")
        return
    with tempfile.TemporaryDirectory(prefix="pixano-vlm-") as folder:
        fresh = Path(folder) / path.name
        write_export(answers, fresh)
        try:
            yield from _compared(path, fresh)
        except (OSError, ValueError) as error:
            yield Finding("damaged", path.name, path.name, None, f"it cannot be read: {error}")


def _compared(path: Path, fresh: Path) -> Iterator[Finding]:
    with closing(HashTable(values=True)) as expected, closing(HashTable()) as seen:
        for id, text in export_rows(fresh):
            expected.insert(hash_id(id), _crc(text))
        for number, (id, text) in enumerate(export_rows(path), 1):
            crc = next(expected.find(hash_id(id)), None)
            if crc is None or not seen.add(hash_id(id)):
                yield _found(
                    "extra", path, f"{path.name}, row {number}", id, "no answer of the output is this"
                )
            elif crc != _crc(text):
                yield _found("damaged", path, f"{path.name}, row {number}", id, "it differs from the output")
        for id, _ in export_rows(fresh):
            if hash_id(id) not in seen:
                yield _found("missing", path, path.name, id, "it has no row for this record")


def _found(kind: Kind, path: Path, place: str, id: str, text: str) -> Finding:
    return Finding(kind, path.name, place, id, text)


def _crc(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"))


def compare_sidecars(output: Path, folder: str, kind: str, checked: Checked) -> Iterator[Finding]:
    """Compares the file beside each image with the answer.

    A file that was there before the run and was left as it was is told from one that was edited by nothing: both
    differ from the answer.

    Args:
        output: The output.
        folder: What relative image paths start from.
        kind: `txt`, `json` or `yolo`.
        checked: Counts go here.
    """
    classes = ClassList(Path(folder, CLASSES), is_frozen=True) if kind == "yolo" else None
    with output.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
                path = path_beside(line["images"], folder, kind)
                expected = sidecar_of(line, kind, classes) if line["status"] == "ok" else None
            except (ValueError, TypeError, KeyError):
                continue  # a damaged line, which was reported as such
            if path is None or expected is None:
                continue
            checked.copies += 1
            finding = _sidecar(path, expected, f"{output.name}:{number}", line["id"])
            if finding is not None:
                checked.found[finding.kind] += 1
                yield finding


def _sidecar(path: Path, expected: bytes, place: str, id: str) -> Finding | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Finding("missing", path.name, place, id, f"{path} is not there")
    except OSError as error:
        return Finding("damaged", path.name, place, id, f"{path} cannot be read: {error.strerror or error}")
    return None if data == expected else Finding("damaged", path.name, place, id, f"{path} is not its answer")
