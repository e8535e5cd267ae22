"""Records that are read where they are answered: what is written is what a run that reads them itself writes."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import FakeModel

from pixano_vlm import generate
from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.inputs import shards as shards_module
from pixano_vlm.inputs.shard_reader import ShardReader
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.models.deferred import Deferred, DeferredReader, TakesDeferred

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FILES, ROWS = 6, 11


class Elsewhere(FakeModel, TakesDeferred):
    """Answers deferred records in a shuffled order, some of them not at all."""

    def __init__(
        self, *, parts: int = 2, seed: int = 0, lost: frozenset[int] = frozenset(), most: int = 10**9
    ) -> None:
        super().__init__()
        self.parts_read: set[int] = set()
        self._parts, self._random, self._lost, self._most = parts, random.Random(seed), lost, most
        self._reader: DeferredReader | None = None

    @property
    def parts_at_once(self) -> int:
        return self._parts

    def read_with(self, reader: DeferredReader | None) -> None:
        self._reader = reader

    def fingerprint(self) -> str:
        return FakeModel().fingerprint()

    def stream(self, inputs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        items = list(inputs)
        self._random.shuffle(items)
        for number, (key, asked) in enumerate(items):
            if number == self._most:
                raise KeyboardInterrupt
            if isinstance(asked, VLMInput):
                yield from super().stream([(key, asked)])
            elif key in self._lost:
                yield key, GenerationError("2 workers died with this record, the last had no other.")
            else:
                yield key, self._conclude(key, asked)

    def _conclude(self, key: int, asked: Deferred) -> Any:
        assert self._reader is not None
        self.parts_read.add(asked.part)
        input = self._reader.read(key, asked)
        answer: VLMOutput | VLMError | None = None
        if input is not None:
            [(_, answer)] = super().stream([(key, input)])
        return self._reader.conclude(key, answer)


def write_shards(folder: Path, *, ids: Any = None, prompts: Any = None) -> list[Path]:
    """Parquet files with images in them; two rows in each have no id, and one no prompt."""
    data = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(data, "PNG")
    paths = []
    for part in range(FILES):
        rows = [
            {
                "id": f"{part}-{row}" if row % 5 else None,
                "prompt": "" if row == 7 else f"what is {part}-{row}?",
                "image": {"bytes": data.getvalue(), "path": None},
                "metadata": json.dumps({"part": part}),
            }
            for row in range(ROWS)
        ]
        for row in rows:
            row["id"] = ids(part, row["id"]) if ids else row["id"]
            row["prompt"] = prompts(row["prompt"]) if prompts else row["prompt"]
        paths.append(folder / f"part-{part:03}.parquet")
        parquet.write_table(arrow.Table.from_pylist(rows), paths[-1])
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path


def answer(folder: Path, model: FakeModel, name: str, **options: Any) -> bytes:
    paths = sorted((folder / "in").iterdir())
    generate(paths, model=model, output=folder / name, **options).finish()
    return (folder / name).read_bytes()


def journal(folder: Path, name: str) -> list[Any]:
    from pixano_vlm.outputs.disk import DISK
    from pixano_vlm.outputs.journal import Journal
    from pixano_vlm.outputs.jsonl import journal_path

    fd = DISK.open(journal_path(folder / name), create=False)
    try:
        return [slot and slot._replace(crc=0) for slot in Journal.open(DISK, fd).slots()]  # type: ignore[union-attr]
    finally:
        DISK.close(fd)


@pytest.mark.parametrize("seed", range(4))
def test_the_output_and_its_journal_are_those_of_a_run_that_reads_by_itself(folder: Path, seed: int) -> None:
    write_shards(folder / "in")
    expected = answer(folder, FakeModel(), "local.jsonl")
    elsewhere = Elsewhere(seed=seed)
    assert answer(folder, elsewhere, "out.jsonl") == expected
    assert elsewhere.parts_read == set(range(FILES))
    assert journal(folder, "out.jsonl") == journal(folder, "local.jsonl")


@pytest.mark.parametrize("seed", range(6))
def test_of_equal_ids_the_first_in_the_manifest_counts_whoever_comes_first(folder: Path, seed: int) -> None:
    write_shards(folder / "in", ids=lambda part, id: id and id.partition("-")[2] if part % 2 else id)
    expected = answer(folder, FakeModel(), "local.jsonl")
    assert b"an earlier line has the id" in expected
    assert answer(folder, Elsewhere(seed=seed), "out.jsonl") == expected


@pytest.mark.parametrize("seed", range(4))
def test_one_that_was_stopped_is_resumed_by_either(folder: Path, seed: int) -> None:
    write_shards(folder / "in", ids=lambda part, id: id and id.partition("-")[2] if part == 3 else id)
    expected = answer(folder, FakeModel(), "local.jsonl")
    for name, then in (("a.jsonl", Elsewhere(seed=seed)), ("b.jsonl", FakeModel())):
        stopped = Elsewhere(seed=seed, most=25)
        answer(folder, stopped, name)
        done = (folder / name).read_bytes().count(b"\n")
        assert 0 < done < FILES * ROWS
        assert answer(folder, then, name, resume=True) == expected
        # A record whose line was wrong is looked at again, as ever; what was answered is not asked again.
        assert len(then.asked) <= FILES * ROWS - len(stopped.asked)


def test_what_is_done_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(folder / "in", prompts=lambda prompt: prompt or "what?")
    expected = answer(folder, Elsewhere(), "out.jsonl")
    monkeypatch.setattr(ShardReader, "request", lambda *args: pytest.fail("a record was read"))
    assert answer(folder, Elsewhere(), "out.jsonl", resume=True) == expected


def test_a_record_that_no_worker_came_to_read_has_its_id_and_its_error(folder: Path) -> None:
    write_shards(folder / "in")
    expected = [json.loads(line) for line in answer(folder, FakeModel(), "local.jsonl").splitlines()]
    lines = answer(folder, Elsewhere(lost=frozenset({12, 13})), "out.jsonl").splitlines()
    written = [json.loads(line) for line in lines]
    assert [line["id"] for line in written] == [line["id"] for line in expected]
    assert [n for n, line in enumerate(written) if line != expected[n]] == [12, 13]
    assert "part-001.parquet:2 (id '1-1'): 2 workers died" in written[12]["error"]["message"]
    assert written[12]["metadata"] == expected[12]["metadata"]


def test_only_so_many_are_answered_as_were_asked_for(folder: Path) -> None:
    write_shards(folder / "in")
    expected = answer(folder, FakeModel(), "local.jsonl", limit=30)
    assert answer(folder, Elsewhere(), "out.jsonl", limit=30) == expected


def test_this_process_reads_no_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(folder / "in")
    monkeypatch.setattr(shards_module.Shards, "rows", lambda self: pytest.fail("the rows were read here"))
    monkeypatch.setattr(
        shards_module.Shards, "rows_after", lambda self, skipped: pytest.fail("the rows were read here")
    )
    answer(folder, Elsewhere(), "out.jsonl")


@pytest.mark.parametrize("options", [{"retry_flagged": True}, {"sidecar": "txt"}])
def test_where_the_input_is_wanted_here_it_is_read_here(folder: Path, options: Any) -> None:
    for part in range(3):
        Image.new("RGB", (3, 2), "red").save(folder / "in" / f"{part}.png")
    rows = [{"id": f"r{n}", "prompt": "what?", "image": f"{n}.png"} for n in range(3)]
    paths = []
    for part, row in enumerate(rows):
        paths.append(folder / "in" / f"part-{part}.parquet")
        parquet.write_table(arrow.Table.from_pylist([row]), paths[-1])
    model = Elsewhere()
    generate(paths, model=model, output=folder / "out.jsonl", **options).finish()
    assert model.parts_read == set()
    assert len((folder / "out.jsonl").read_text().splitlines()) == 3


def test_fewer_files_than_are_read_at_once_are_read_here(folder: Path) -> None:
    write_shards(folder / "in")
    expected = answer(folder, FakeModel(), "local.jsonl")
    model = Elsewhere(parts=FILES + 1)
    assert answer(folder, model, "out.jsonl") == expected
    assert model.parts_read == set()
