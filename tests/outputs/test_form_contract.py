"""What holds for every form of output: each answer once and in order, whatever is in it, and never a half file.

A form without an example here fails, so that a new one cannot be forgotten in one of these places.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.outputs.lines import Counted, failed, line

from pixano_vlm.errors import MissingPackageError, RunError
from pixano_vlm.outputs.exports import export_rows, is_export, split_outputs, write_exports
from pixano_vlm.outputs.forms import FORMS, Answers, OutputForm, endings
from pixano_vlm.records.output_line import OutputLine

Found = list[tuple[str, str | None]]
"""Each record's id and its answer, None where it failed."""


def of_csv(path: Path) -> Found:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["id"], row["generated_text"] if row["status"] == "ok" else None) for row in rows]


def of_parquet(path: Path) -> Found:
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    return [(row["id"], row["generated_text"]) for row in table.to_pylist()]


def of_arrow(path: Path) -> Found:
    table = pytest.importorskip("pyarrow.feather").read_table(path)
    return [(row["id"], row["generated_text"]) for row in table.to_pylist()]


def of_dataset(path: Path) -> Found:
    assert (path / "README.md").is_file()
    return [found for shard in sorted(path.glob("data/*.parquet")) for found in of_parquet(shard)]


def of_openai_batch(path: Path) -> Found:
    found: Found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        value = json.loads(text)
        response: Any = value["response"]
        said = None if response is None else response["body"]["choices"][0]["message"]["content"]
        found.append((value["custom_id"], said))
    return found


EXAMPLES: dict[str, Callable[[Path], Found]] = {
    ".csv": of_csv,
    ".parquet": of_parquet,
    ".arrow": of_arrow,
    ".openai.jsonl": of_openai_batch,
    ".hf": of_dataset,
}
"""The first suffix of a form -> what another program reads in a file of it."""

TEXTS = ("a cat", 'two\nlines, "quoted"', "Käse, 图, 🙂", "null", " spaced ", "=1+1")


OF_REGIONS = {".coco.json": "tests/regions/test_run.py", ".pixano": "tests/outputs/test_pixano_dataset.py"}
"""Forms that are not a row for each answer -> the tests that show what they hold."""

OF_ANSWERS = [form for form in FORMS if form.suffixes[0] not in OF_REGIONS]


@pytest.fixture(params=OF_ANSWERS, ids=lambda form: form.suffixes[0])
def form(request: pytest.FixtureRequest) -> OutputForm:
    if (missing := missing_package(request.param)) is not None:
        pytest.skip(str(missing))
    return request.param  # type: ignore[no-any-return]


def missing_package(form: OutputForm) -> MissingPackageError | None:
    try:
        form.check()
    except MissingPackageError as error:
        return error
    return None


def contents(path: Path) -> dict[str, bytes]:
    """The files of a form, by their names in it."""
    if not path.is_dir():
        return {"": path.read_bytes()}
    return {
        found.relative_to(path).as_posix(): found.read_bytes() for found in path.rglob("*") if found.is_file()
    }


def finished(folder: Path, lines: list[OutputLine]) -> Path:
    path = folder / "out.jsonl"
    path.write_text(
        "".join(line.model_dump_json(exclude_none=False) + "\n" for line in lines), encoding="utf-8"
    )
    return path


def test_every_form_has_an_example() -> None:
    assert EXAMPLES.keys() | OF_REGIONS.keys() == {form.suffixes[0] for form in FORMS}


def test_a_form_of_regions_has_tests_of_its_own(repository: Path) -> None:
    for suffix, file in OF_REGIONS.items():
        assert suffix in (repository / file).read_text(encoding="utf-8")


def test_each_answer_is_there_once_and_in_order(form: OutputForm, tmp_path: Path) -> None:
    lines = [line(number, text) for number, text in enumerate(TEXTS)]
    path = tmp_path / f"out{form.suffixes[0]}"
    write_exports(finished(tmp_path, [*lines, failed(6)]), [path])
    found = EXAMPLES[form.suffixes[0]](path)
    assert found == [*((f"r{number}", text) for number, text in enumerate(TEXTS)), ("r6", None)]


def test_what_was_written_is_read_back_as_long_as_it_is_the_same(form: OutputForm, tmp_path: Path) -> None:
    suffix = form.suffixes[0]
    lines = [line(0), line(1, "é"), failed(2)]
    paths = [tmp_path / f"{name}{suffix}" for name in ("a", "b", "c-{shard}")]
    write_exports(finished(tmp_path, lines), paths)
    found = [list(export_rows(path)) for path in paths]
    assert [id for id, _ in found[0]] == ["r0", "r1", "r2"]
    assert found[0] == found[1] == found[2]
    write_exports(finished(tmp_path, [line(0), line(1, "e"), failed(2)]), paths)
    changed = list(export_rows(paths[0]))
    assert [one == other for one, other in zip(found[0], changed, strict=True)] == [True, False, True]


def test_a_finished_output_without_a_line_is_a_file_without_a_row(form: OutputForm, tmp_path: Path) -> None:
    path = tmp_path / f"out{form.suffixes[0]}"
    write_exports(finished(tmp_path, []), [path])
    assert EXAMPLES[form.suffixes[0]](path) == []


def test_half_a_surrogate_pair_does_not_stop_it(form: OutputForm, tmp_path: Path) -> None:
    # UTF-8 has no bytes for it; names of files and JSON escapes may hold one.
    form.write(Answers([line(0, "a \ud83d b"), line(1)]), tmp_path / "out")
    (_, first), (_, second) = EXAMPLES[form.suffixes[0]](tmp_path / "out")
    assert (first or "").startswith("a ")
    assert second == "a cat"


def test_it_holds_few_lines_at_once(form: OutputForm, tmp_path: Path) -> None:
    lines = Counted(2_000)
    form.write(Answers(lines), tmp_path / "out")
    assert lines.most <= 3


def test_the_same_answers_are_the_same_bytes(form: OutputForm, tmp_path: Path) -> None:
    output = finished(tmp_path, [line(0), failed(1)])
    paths = [tmp_path / f"{name}{form.suffixes[0]}" for name in "ab"]
    write_exports(output, paths)
    first, second = map(contents, paths)
    assert first.keys() == second.keys()
    assert {name: data for name, data in first.items() if name != "README.md"} == {
        name: data for name, data in second.items() if name != "README.md"
    }


def test_its_endings_ask_for_it_and_the_page_names_them(form: OutputForm, repository: Path) -> None:
    for suffix in form.suffixes:
        assert is_export(Path(f"a{suffix.upper()}"))
        own, exports = split_outputs([f"nowhere/a{suffix}"], Path("default.jsonl"))
        assert (own, exports) == (Path("nowhere/a.jsonl"), (Path(f"nowhere/a{suffix}"),))
    assert form.suffixes[0] in endings()
    page = (repository / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert f"`{form.suffixes[0]}`" in page


def test_what_cannot_be_written_leaves_nothing_and_what_was_there_stays(
    form: OutputForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = finished(tmp_path, [line(0)])
    path = tmp_path / f"out{form.suffixes[0]}"
    before = [line(7)]
    write_exports(finished(tmp_path, before), [path])
    held = contents(path)

    class Full:
        def __iter__(self) -> Iterator[OutputLine]:
            yield line(0)
            raise OSError(28, "No space left on device")

    def write(self: OutputForm, answers: Answers, path: Path) -> None:
        real(self, Answers(Full()), path)

    real = OutputForm.write
    monkeypatch.setattr(OutputForm, "write", write)
    with pytest.raises(RunError, match="No space left") as caught:
        write_exports(output, [path])
    assert "--resume" in (caught.value.hint or "")
    assert contents(path) == held
    assert sorted(found.name for found in tmp_path.iterdir()) == sorted([output.name, path.name])


def test_without_its_package_it_says_so_before_the_run(
    form: OutputForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    if (missing := missing_package(form)) is not None:
        assert "pip install" in (missing.hint or "")
    else:
        form.write(Answers([line(0)]), tmp_path / "out")
        assert EXAMPLES[form.suffixes[0]](tmp_path / "out") == [("r0", "a cat")]
