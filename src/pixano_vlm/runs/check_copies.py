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
from pixano_vlm.outputs.forms import Answers, Form, form_of
from pixano_vlm.outputs.sidecars import path_beside, sidecar_of
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
        form = form_of(path)
        if form is None:
            continue
        checked.copies += 1
        for finding in _export(form, answers, path):
            checked.found[finding.kind] += 1
            yield finding


def _export(form: Form, answers: Answers, path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("missing", path.name, path.name, None, "it is not there")
        return
    with tempfile.TemporaryDirectory(prefix="pixano-vlm-") as folder:
        fresh = Path(folder) / path.name
        form.write(answers, fresh)
        try:
            yield from _compared(form, path, fresh)
        except (OSError, ValueError) as error:
            yield Finding("damaged", path.name, path.name, None, f"it cannot be read: {error}")


def _compared(form: Form, path: Path, fresh: Path) -> Iterator[Finding]:
    with closing(HashTable(values=True)) as expected, closing(HashTable()) as seen:
        for id, text in form.read(fresh):
            expected.insert(hash_id(id), _crc(text))
        for number, (id, text) in enumerate(form.read(path), 1):
            crc = next(expected.find(hash_id(id)), None)
            if crc is None or not seen.add(hash_id(id)):
                yield _found(
                    "extra", path, f"{path.name}, row {number}", id, "no answer of the output is this"
                )
            elif crc != _crc(text):
                yield _found("damaged", path, f"{path.name}, row {number}", id, "it differs from the output")
        for id, _ in form.read(fresh):
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
        kind: `txt` or `json`.
        checked: Counts go here.
    """
    with output.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
                path = path_beside(line["images"], folder, kind)
                expected = sidecar_of(line, kind) if line["status"] == "ok" else None
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
