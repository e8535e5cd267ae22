"""What `check` finds in an output that is not as its run left it, and what `--repair` makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image
from tests.fakes import FakeModel

from pixano_vlm import generate
from pixano_vlm.errors import OutputError, RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs.disk import DISK
from pixano_vlm.outputs.journal import HEADER_BYTES, SLOT_BYTES, Journal

pytestmark = pytest.mark.once

Cli = Callable[..., Any]
RECORDS = 12
NAMES = ("o.jsonl", "o.csv", "o.openai.jsonl", "o.parquet", "o.arrow", "o-{shard}.csv", "o.hf")


class Whole:
    """A finished run with its exports and the files beside its images."""

    def __init__(self, folder: Path, *, sidecar: Literal["txt"] | None = None) -> None:
        self.folder, self.sidecar = folder, sidecar
        for number in range(RECORDS):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"i{number}.png")
        lines = [
            {"id": f"r{n}", "prompt": f"question {n}", "images": [f"i{n}.png"], "metadata": {"n": n}}
            for n in range(RECORDS)
        ]
        self.manifest = folder / "m.jsonl"
        self.manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.output, self.journal = folder / "o.jsonl", folder / "o.jsonl.journal"
        self.run()
        made = {*(folder / name for name in NAMES), *folder.glob("o[.-]*"), *folder.glob("*.txt")}
        made |= set((folder / "o.hf").rglob("*.*"))
        self.files = {path: path.read_bytes() for path in made if path.is_file()}

    def run(self, *, resume: bool = False, force: bool = False) -> FakeModel:
        model = FakeModel()
        names = [self.folder / name for name in NAMES]
        generate(
            self.manifest, model, output=names, temperature=0, resume=resume, force=force, sidecar=self.sidecar,
        ).finish()  # fmt: skip
        return model

    def restore(self) -> None:
        for path in {*self.folder.glob("o[.-]*"), *(self.folder / "o.hf").rglob("*.*")}:
            if path.is_file() and path not in self.files:
                path.unlink()
        for path, data in self.files.items():
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)

    def lines(self) -> list[bytes]:
        return self.output.read_bytes().splitlines(keepends=True)

    def write_lines(self, lines: list[bytes]) -> None:
        self.output.write_bytes(b"".join(lines))

    def flip(self, path: Path, place: int) -> None:
        data = bytearray(path.read_bytes())
        data[place] ^= 0x10
        path.write_bytes(data)

    def check(self, cli: Cli, *flags: str) -> tuple[int, dict[str, Any]]:
        done = cli("check", self.output, "--json", *flags)
        assert "Traceback" not in done.err
        return done.code, json.loads(done.out)

    def found(self, cli: Cli) -> set[tuple[str, str | None]]:
        code, report = self.check(cli)
        found = {(finding["kind"], finding["id"]) for finding in report["findings"]}
        assert code == (1 if found else 0)
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("checked"))


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("captioned"), sidecar="txt")


@pytest.fixture
def whole(made: Whole) -> Iterator[Whole]:
    yield made
    made.restore()


def slot_at(index: int) -> int:
    return HEADER_BYTES + index * SLOT_BYTES


def line_start(whole: Whole, index: int) -> int:
    return sum(map(len, whole.lines()[:index]))


def flip_line(index: int, place: int) -> Callable[[Whole], None]:
    return lambda whole: whole.flip(whole.output, line_start(whole, index) + place)


def flip_slot(index: int, place: int) -> Callable[[Whole], None]:
    return lambda whole: whole.flip(whole.journal, slot_at(index) + place)


def cut(name: str, keep: Callable[[bytes], bytes]) -> Callable[[Whole], None]:
    def damage(whole: Whole) -> None:
        path = whole.folder / name
        path.write_bytes(keep(path.read_bytes()))

    return damage


def change_lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Whole], None]:
    return lambda whole: whole.write_lines(change(whole.lines()))


def swapped(lines: list[bytes], first: int, second: int) -> list[bytes]:
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def without(index: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:index] + lines[index + 1 :]


def edited(name: str, old: str, new: str) -> Callable[[Whole], None]:
    def damage(whole: Whole) -> None:
        path = whole.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


def removed(name: str) -> Callable[[Whole], None]:
    return lambda whole: (whole.folder / name).unlink()


def text_of(line: bytes) -> str:
    text: str = json.loads(line)["generated_text"]
    return text


def other_text(index: int) -> Callable[[Whole], None]:
    """The answer of one line is another one, of the same length."""

    def damage(whole: Whole) -> None:
        lines = whole.lines()
        text = text_of(lines[index])
        lines[index] = lines[index].replace(text.encode(), text[::-1].encode())
        whole.write_lines(lines)

    return damage


def slot_twice(whole: Whole) -> None:
    data = bytearray(whole.journal.read_bytes())
    data[slot_at(7) : slot_at(8)] = data[slot_at(2) : slot_at(3)]
    whole.journal.write_bytes(data)


def journal_of_another_run(whole: Whole) -> None:
    fd = DISK.open(whole.journal)
    journal = Journal.open(DISK, fd)
    assert journal is not None
    header = {
        "format": "pixano-vlm journal 1",
        "context": {**journal.context, "model": "another"},
        "facts": {},
    }
    DISK.close(fd)
    data = bytearray(whole.journal.read_bytes())
    data[:HEADER_BYTES] = json.dumps(header).encode().ljust(HEADER_BYTES - 1) + b"\n"
    whole.journal.write_bytes(data)


def csv_row_removed(whole: Whole) -> None:
    rows = (whole.folder / "o.csv").read_bytes().splitlines(keepends=True)
    (whole.folder / "o.csv").write_bytes(b"".join(rows[:4] + rows[5:]))


def csv_row_twice(whole: Whole) -> None:
    rows = (whole.folder / "o.csv").read_bytes().splitlines(keepends=True)
    (whole.folder / "o.csv").write_bytes(b"".join([*rows, rows[3]]))


def parquet_edited(whole: Whole) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = whole.folder / "o.parquet"
    table = parquet.read_table(path)
    texts = table["generated_text"].to_pylist()
    texts[6] = "somebody else's words"
    place = table.column_names.index("generated_text")
    parquet.write_table(table.set_column(place, "generated_text", arrow.array(texts)), path)


D, M, X = "damaged", "missing", "extra"
DAMAGES: dict[str, tuple[Callable[[Whole], None], set[tuple[str, str | None]]]] = {
    "a flipped bit in the first line": (flip_line(0, 30), {(D, "r0")}),
    "a flipped bit in a line's id": (flip_line(3, 9), {(D, "r3")}),
    "a flipped bit in the last line": (flip_line(11, 40), {(D, "r11")}),
    "a flipped bit in a line's end": (lambda w: w.flip(w.output, line_start(w, 5) - 1), {(D, "r4")}),
    "another answer of the same length": (other_text(8), {(D, "r8")}),
    "two damaged lines": (lambda w: (flip_line(2, 20)(w), flip_line(9, 20)(w))[0], {(D, "r2"), (D, "r9")}),
    "a line overwritten with zeros": (
        change_lines(lambda lines: [*lines[:4], bytes(len(lines[4]) - 1) + b"\n", *lines[5:]]), {(D, "r4")},
    ),
    "two neighbours swapped": (change_lines(lambda lines: swapped(lines, 2, 3)), {(D, "r2"), (D, "r3")}),
    "the last line cut off": (change_lines(lambda lines: lines[:-1]), {(D, "r11")}),
    "the last line cut in two": (cut("o.jsonl", lambda data: data[:-20]), {(D, "r11")}),
    "the last line's end cut off": (cut("o.jsonl", lambda data: data[:-1]), {(D, "r11")}),
    "half of the lines cut off": (
        change_lines(lambda lines: lines[:6]), {(D, f"r{n}") for n in range(6, RECORDS)},
    ),
    "an empty output": (cut("o.jsonl", lambda data: b""), {(D, f"r{n}") for n in range(RECORDS)}),
    "the first line removed": (change_lines(without(0)), {(D, f"r{n}") for n in range(RECORDS)}),
    "a line removed near the end": (change_lines(without(10)), {(D, "r10"), (D, "r11")}),
    "a line twice at the end": (change_lines(lambda lines: [*lines, lines[3]]), {(X, "r3")}),
    "a line of somebody else at the end": (
        change_lines(lambda lines: [*lines, b'{"id": "stranger", "generated_text": "hello"}\n']), {(X, "stranger")},
    ),
    "rubbish at the end": (cut("o.jsonl", lambda data: data + b"\x00\x01\x02"), {(X, None)}),
    "a blank line at the end": (cut("o.jsonl", lambda data: data + b"\n"), {(X, None)}),
    "a line inserted before the last": (
        change_lines(lambda lines: [*lines[:-1], b'{"id": "stranger"}\n', lines[-1]]),
        {(D, "r11"), (X, "stranger")},
    ),
    "a line edited by hand": (
        change_lines(lambda lines: [*lines[:11], lines[11].replace(b'"ok"', b'"OK!"')]), {(D, "r11")},
    ),
    "Windows line ends": (
        cut("o.jsonl", lambda data: data.replace(b"\n", b"\r\n")), {(D, f"r{n}") for n in range(RECORDS)},
    ),
    "a flipped bit in a slot's key": (flip_slot(4, 60), {(D, "r4")}),
    "a flipped bit in a slot's length": (flip_slot(4, 13), {(D, "r4")}),
    "a flipped bit in a slot's checksum": (flip_slot(10, SLOT_BYTES - 8), {(D, "r10")}),
    "a slot of zeros": (
        lambda w: w.journal.write_bytes(
            w.journal.read_bytes()[: slot_at(5)] + bytes(SLOT_BYTES) + w.journal.read_bytes()[slot_at(6) :]
        ),
        {(M, "r5")},
    ),
    "the last slot torn": (cut("o.jsonl.journal", lambda data: data[:-40]), {(D, "r11")}),
    "the journal cut after four": (
        cut("o.jsonl.journal", lambda data: data[: slot_at(4)]), {(M, f"r{n}") for n in range(4, RECORDS)},
    ),
    "a slot twice": (slot_twice, {("stale", "r7"), (X, "r7")}),
    "the journal's header damaged": (lambda w: w.flip(w.journal, 3), {(D, None)}),
    "an empty journal": (cut("o.jsonl.journal", lambda data: b""), {(D, None)}),
    "a journal of another run": (journal_of_another_run, {(D, None)}),
    "no journal": (removed("o.jsonl.journal"), {(D, None)}),
    "a row twice in a table": (csv_row_twice, {(X, "r2")}),
    "a table without a row": (csv_row_removed, {(M, "r3")}),
    "a removed table": (removed("o.csv"), {(M, None)}),
    "a shard without its last row": (cut("o-00000.csv", lambda data: data[: data.rindex(b"r11")]), {(M, "r11")}),
    "a shard that is gone": (removed("o-00000.csv"), {(M, None)}),
    "a dataset's damaged shard": (cut("o.hf/data/train-00000-of-00001.parquet", lambda data: data[:-9]), {(D, None)}),
    "a damaged Arrow file": (cut("o.arrow", lambda data: data[:50]), {(D, None)}),
    "an edited Parquet file": (parquet_edited, {(D, "r6")}),
    "a damaged Parquet file": (cut("o.parquet", lambda data: data[:-9]), {(D, None)}),
    "an edited Batch file": (
        edited("o.openai.jsonl", '"custom_id": "r1"', '"custom_id": "r99"'), {(X, "r99"), (M, "r1")},
    ),
    "a Batch file that is not one": (cut("o.openai.jsonl", lambda data: b"[1, 2]\n"), {(D, None)}),
}  # fmt: skip
SIDECARS: dict[str, tuple[Callable[[Whole], None], set[tuple[str, str | None]]]] = {
    "a missing file beside an image": (removed("i4.txt"), {(M, "r4")}),
    "an edited file beside an image": (cut("i7.txt", lambda data: b"edited\n"), {(D, "r7")}),
    "an empty file beside an image": (cut("i8.txt", lambda data: b""), {(D, "r8")}),
}  # fmt: skip


def test_a_finished_run_is_as_it_was_left(whole: Whole, cli: Cli) -> None:
    code, report = whole.check(cli)
    assert code == 0
    assert report["ok"] is True
    assert (report["records"], report["equal"], report["copies"]) == (RECORDS, RECORDS, 6)


def test_there_are_forty_damages() -> None:
    assert len(DAMAGES) + len(SIDECARS) >= 40


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_named_with_its_record_and_repaired(whole: Whole, name: str, cli: Cli) -> None:
    damage, expected = DAMAGES[name]
    damage(whole)
    assert whole.found(cli) == expected
    _, report = whole.check(cli, "--repair", "--yes")
    model = whole.run(resume=True, force=True)  # forced, since edited tables are replaced
    assert whole.output.read_bytes() == whole.files[whole.output]
    assert len(model.asked) == report["repair"]["asked_again"]
    left = whole.found(cli)
    assert left <= {pair for pair in expected if "beside an image" in name}, (
        "exports are written again by a run"
    )


def test_what_a_repair_takes_out_is_kept_beside_the_output(whole: Whole, cli: Cli) -> None:
    flip_line(3, 30)(whole)
    damaged = whole.lines()[3]
    whole.check(cli, "--repair", "--yes")
    assert (whole.folder / "o.jsonl.dropped").read_bytes() == damaged


def test_without_yes_a_repair_changes_nothing_where_nobody_can_be_asked(whole: Whole, cli: Cli) -> None:
    flip_line(3, 30)(whole)
    before = whole.output.read_bytes(), whole.journal.read_bytes()
    code, report = whole.check(cli, "--repair")
    assert code == 1
    assert report["repair"]["done"] is False
    assert (whole.output.read_bytes(), whole.journal.read_bytes()) == before


def test_a_lost_journal_is_rebuilt_from_the_lines_and_nothing_is_asked_again(whole: Whole, cli: Cli) -> None:
    whole.journal.unlink()
    _, report = whole.check(cli, "--repair", "--yes")
    assert report["repair"]["proven"] == RECORDS
    assert whole.run(resume=True).asked == []
    assert whole.found(cli) == set()


def test_what_changed_since_is_not_taken_for_an_answer_when_the_journal_is_lost(
    tmp_path: Path, cli: Cli
) -> None:
    whole = Whole(tmp_path)
    whole.journal.unlink()
    Image.new("RGB", (4, 4), (99, 0, 0)).save(tmp_path / "i3.png")
    _, report = whole.check(cli, "--repair", "--yes")
    assert report["repair"]["proven"] == RECORDS - 1
    assert whole.run(resume=True).asked == ["question 3"]


def test_a_manifest_that_changed_since_proves_nothing_when_the_journal_is_lost(
    tmp_path: Path, cli: Cli
) -> None:
    whole = Whole(tmp_path)
    whole.journal.unlink()
    whole.manifest.write_text(whole.manifest.read_text().replace("question 3", "another 3"))
    done = cli("check", whole.output, "--repair", "--yes")
    assert "Nothing more can be proven: the manifest changed since the run began" in done.out
    assert len(whole.run(resume=True).asked) == RECORDS


def test_records_that_changed_and_moved_are_told_apart(tmp_path: Path, cli: Cli) -> None:
    whole = Whole(tmp_path)
    lines = whole.manifest.read_text().splitlines()
    lines[2] = lines[2].replace("question 2", "another")
    lines.insert(0, lines.pop(5))  # moved: still answered
    lines.append(json.dumps({"id": "new", "prompt": "new"}))
    whole.manifest.write_text("\n".join(lines) + "\n")
    Image.new("RGB", (4, 4), (99, 0, 0)).save(tmp_path / "i8.png")
    (tmp_path / "i9.png").unlink()
    assert whole.found(cli) == {("stale", "r2"), ("stale", "r8"), ("stale", "r9"), ("missing", "new")}


def test_an_answer_whose_record_was_removed_is_extra(tmp_path: Path, cli: Cli) -> None:
    whole = Whole(tmp_path)
    lines = whole.manifest.read_text().splitlines()
    whole.manifest.write_text("\n".join(lines[:-2]) + "\n")
    assert whole.found(cli) == {("extra", "r10"), ("extra", "r11")}


def test_an_image_that_was_only_touched_is_the_same(tmp_path: Path, cli: Cli) -> None:
    whole = Whole(tmp_path)
    (tmp_path / "i3.png").touch()
    assert whole.found(cli) == set()


def test_a_run_that_was_interrupted_misses_records_and_has_no_damage(tmp_path: Path, cli: Cli) -> None:
    whole = Whole(tmp_path)
    whole.journal.write_bytes(whole.files[whole.journal][: slot_at(7)])
    run = json.loads((tmp_path / "o.jsonl.run.json").read_text())
    (tmp_path / "o.jsonl.run.json").write_text(json.dumps({**run, "ended": "interrupted"}))
    assert whole.found(cli) == {("missing", f"r{n}") for n in range(7, RECORDS)}


def test_without_a_run_file_the_journal_is_compared_and_a_manifest_that_is_named(
    whole: Whole, cli: Cli
) -> None:
    (whole.folder / "o.jsonl.run.json").unlink()
    flip_line(3, 30)(whole)
    done = cli("check", whole.output)
    assert "no run file" in done.out
    assert "damaged: record 4: its line is not what the run wrote" in done.out
    done = cli("check", whole.output, "--manifest", whole.manifest)
    assert "damaged: m.jsonl:4 (id 'r3'): its line is not what the run wrote" in done.out
    done = cli("check", whole.output, "--repair")
    assert done.code == 2
    assert "cannot be repaired without its run file" in done.err


def test_only_so_many_findings_are_printed_and_json_has_them_all(whole: Whole, cli: Cli) -> None:
    whole.output.write_bytes(b"")
    done = cli("check", whole.output)
    assert "damaged: m.jsonl:1 (id 'r0'): its line is not what the run wrote" in done.out
    assert "0 of 12 records are as they were written; 12 damaged." in done.out


def test_an_output_that_is_not_there_is_one_message(cli: Cli) -> None:
    done = cli("check", "nowhere.jsonl")
    assert done.code == 2
    assert "nowhere.jsonl cannot be opened: No such file or directory" in done.err


# --- what a resumed run does not do unasked ---


def test_an_edited_table_is_not_replaced_unless_forced(whole: Whole) -> None:
    csv_row_removed(whole)
    edited = (whole.folder / "o.csv").read_bytes()
    with pytest.raises(
        OutputError, match=r"o\.csv was changed since the run wrote it, and would be replaced"
    ) as caught:
        whole.run(resume=True)
    assert "--force" in str(caught.value.hint)
    assert (whole.folder / "o.csv").read_bytes() == edited
    whole.run(resume=True, force=True)
    assert (whole.folder / "o.csv").read_bytes() == whole.files[whole.folder / "o.csv"]


def test_images_that_are_gone_stop_a_resumed_run_and_are_called_so(tmp_path: Path) -> None:
    whole = Whole(tmp_path)
    for path in tmp_path.glob("*.png"):
        path.rename(path.with_suffix(".away"))
    with pytest.raises(
        OutputError, match=r"the images of 12 records are not there any more \(is their folder mounted"
    ):
        whole.run(resume=True)
    for path in tmp_path.glob("*.away"):
        path.rename(path.with_suffix(".png"))
    assert whole.run(resume=True).asked == []


def test_a_record_that_a_run_left_out_is_named_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Manifest.lines
    monkeypatch.setattr(
        Manifest, "lines", lambda self, after=None: (line for line in lines(self, after) if line.number != 5)
    )
    monkeypatch.setattr(
        "pixano_vlm.runs.run.unanswered", lambda manifest, sink: iter(["m.jsonl:5 (id 'r4')"])
    )
    with pytest.raises(RunError, match=r"12 records were to be answered, and 11 are: m\.jsonl:5 \(id 'r4'\)"):
        Whole(tmp_path)
