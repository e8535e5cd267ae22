"""Several files are one manifest: in order, lazily, with ids of their own, wherever they are and however packed."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.fakes import FakeModel, run

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.open import Source, open_source, read_share
from pixano_vlm.inputs.shards import Shards
from pixano_vlm.inputs.template import Template
from pixano_vlm.models import GenerationSettings

GREEDY = GenerationSettings(temperature=0)


def png(colour: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def lines(*prompts: str, **more: Any) -> bytes:
    return "".join(json.dumps({"prompt": prompt} | more) + "\n" for prompt in prompts).encode()


def opened(*names: object, ask: str | None = None, **options: Any) -> Source:
    return open_source([str(name) for name in names], None if ask is None else Template(ask), **options)


def requests(*names: object, **options: Any) -> list[Request]:
    source = opened(*names, **options)
    assert source.rows is not None
    found = list(Manifest(source.path, rows=source.rows, settings=GREEDY, naming=source.naming))
    assert source.rows.count() in (None, len(found))
    return found


def asked(found: list[Request]) -> list[Any]:
    return [request.input and request.input.prompt for request in found]


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path, **options)


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # any mode
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


class TestOrder:
    def test_files_are_read_one_after_another_and_each_line_is_called_by_its_file(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "b.jsonl").write_bytes(lines("one") + b"\n" + lines("two"))
        (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines("three") + b"no\n")
        found = requests(tmp_path / "b.jsonl", tmp_path / "a.jsonl")
        assert asked(found) == ["one", "two", "three", None]
        assert [request.id for request in found] == ["b:1", "b:3", "a:1", "a:2"]
        assert [request.where for request in found] == [
            "b.jsonl:1 (id 'b:1')", "b.jsonl:3 (id 'b:3')", "a.jsonl:1 (id 'a:1')", "a.jsonl:2",
        ]  # fmt: skip
        assert str(found[3].error).startswith("a.jsonl:2")

    def test_a_glob_and_a_folder_are_sorted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in (10, 2, 1):
            (tmp_path / f"part-{number:03}.jsonl").write_bytes(lines(f"p{number}"))
        (tmp_path / "README.md").write_text("")
        monkeypatch.chdir(tmp_path)
        for named in ("*.jsonl", ".", tmp_path, "part-*"):
            assert asked(requests(named)) == ["p1", "p2", "p10"]
        assert opened(tmp_path / "*.jsonl").stem == tmp_path.name

    def test_a_glob_of_one_file_calls_its_records_as_it_will_when_there_are_more(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "part-0.jsonl").write_bytes(lines("a"))
        (request,) = requests(tmp_path / "*.jsonl")
        assert request.id == "part-0:1"
        assert opened(tmp_path / "part-0.jsonl").rows is None

    def test_a_file_that_is_named_twice_is_read_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(lines("a"))
        (tmp_path / "b.jsonl").write_bytes(lines("b"))
        assert asked(requests(tmp_path / "a.jsonl", tmp_path / "*.jsonl")) == ["a", "b"]

    def test_files_of_one_name_in_several_folders_are_told_apart(self, tmp_path: Path) -> None:
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "0.jsonl").write_bytes(lines(folder, images=["a.png"]))
        found = requests(tmp_path, recursive=True)
        assert [request.id for request in found] == ["x/0.jsonl:1", "y/0.jsonl:1"]
        images = [str((request.input.images or [""])[0]) for request in found if request.input]
        assert images == [str(tmp_path / "x" / "a.png"), str(tmp_path / "y" / "a.png")]

    def test_of_two_records_with_one_id_in_two_files_the_second_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(lines("a", id="same"))
        (tmp_path / "b.jsonl").write_bytes(lines("b", id="same"))
        first, second = requests(tmp_path)
        assert first.error is None
        assert "b.jsonl:1 (id 'same'): an earlier line has the id 'same' too" in str(second.error)

    def test_tables_are_read_with_their_own_numbers(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("prompt\n\none\n")
        (tmp_path / "b.csv").write_text("prompt,id\ntwo,own\n")
        found = requests(tmp_path)
        assert [(request.id, request.line) for request in found] == [("a:1", 3), ("own", 2)]

    def test_what_an_earlier_run_wrote_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(lines("a"))
        run(tmp_path / "a.jsonl", tmp_path / "a.outputs.jsonl")
        assert asked(requests(tmp_path)) == ["a"]
        assert asked(requests(tmp_path / "*.jsonl")) == ["a"]

    def test_only_one_file_is_open_at_a_time(self, tmp_path: Path) -> None:
        for number in range(5):
            (tmp_path / f"{number}.jsonl").write_bytes(lines(str(number)))
        open_now: list[str] = []

        class Watched(InputFile):
            def open(self) -> Any:
                file = super().open()
                open_now.append(self.name)
                close = file.close
                file.close = lambda: (open_now.remove(self.name), close())  # type: ignore[method-assign]
                return file

        from pixano_vlm.inputs.jsonl_rows import JsonlRows

        files = [Watched(str(tmp_path / f"{number}.jsonl")) for number in range(5)]
        for row in Shards("m", files, JsonlRows).rows():
            assert open_now in ([], [f"{row.name[0]}.jsonl"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("names", "options", "said"),
        [
            (["a.jsonl", "a.png"], {"ask": "q"}, "is not an image, and"),
            (["a.jsonl", "none.jsonl"], {}, "there is no manifest"),
            (["-", "a.jsonl"], {}, "- is standard input"),
            (["a.jsonl", "b.jsonl"], {"ask": "q"}, "brings its own prompts"),
            (["mixed"], {}, "manifests of several forms: JSONL, CSV"),
            (["none*.jsonl"], {}, "names images"),
            (["a.jsonl"], {"recursive": True}, "--recursive goes with a folder"),
            (["-"], {"share": (0, 2)}, "--shard does not go with standard input"),
        ],
    )
    def test_what_does_not_go_together_is_refused(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        names: list[str],
        options: dict[str, Any],
        said: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mixed").mkdir()
        for name in ("a.jsonl", "b.jsonl", "mixed/a.jsonl"):
            Path(name).write_bytes(lines("a"))
        Path("mixed/b.csv").write_text("prompt\na\n")
        Path("a.png").write_bytes(png())
        with pytest.raises((ManifestError, UsageError)) as caught:
            opened(*names, **options)
        assert said in str(caught.value)

    def test_a_column_that_only_a_later_file_lacks_is_found_before_anything_starts(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "a.csv").write_text("prompt,image\nq,a.png\n")
        (tmp_path / "b.csv").write_text("question\nq\n")
        source = opened(tmp_path)
        assert source.rows is not None
        with pytest.raises(ManifestError, match=r"b\.csv: there is no column 'prompt'"):
            source.rows.count()

    def test_a_misspelt_key_in_any_file_is_found_before_anything_starts(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(lines("a"))
        (tmp_path / "b.jsonl").write_bytes(lines("b", temprature=0))
        source = opened(tmp_path)
        assert source.rows is not None
        with pytest.raises(ManifestError, match=r"b\.jsonl:1: unknown key 'temprature'"):
            source.rows.count()


class TestCompression:
    def packed(self, end: str, data: bytes) -> bytes:
        if end == ".zst":
            return bytes(pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True))
        return {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[end](data)

    @pytest.mark.parametrize("end", [".gz", ".zst", ".bz2", ".xz"])
    def test_a_packed_file_is_read_as_what_it_holds(self, tmp_path: Path, end: str) -> None:
        (tmp_path / f"a.jsonl{end}").write_bytes(self.packed(end, lines("a", "b")))
        (tmp_path / f"b.csv{end}").write_bytes(self.packed(end, b"prompt\nc\n"))
        (tmp_path / f"c.json{end}").write_bytes(self.packed(end, b'[{"prompt": "d"}]'))
        assert asked(requests(tmp_path / f"a.jsonl{end}")) == ["a", "b"]
        assert asked(requests(tmp_path / f"b.csv{end}")) == ["c"]
        assert asked(requests(tmp_path / f"c.json{end}")) == ["d"]
        assert opened(tmp_path / f"a.jsonl{end}").stem == "a"

    @pytest.mark.parametrize("end", [".gz", ".zst"])
    def test_several_packed_pieces_in_one_file_are_read_to_the_end(self, tmp_path: Path, end: str) -> None:
        (tmp_path / f"a.jsonl{end}").write_bytes(self.packed(end, lines("a")) + self.packed(end, lines("b")))
        assert asked(requests(tmp_path / f"a.jsonl{end}")) == ["a", "b"]

    @pytest.mark.parametrize("end", [".gz", ".zst", ".bz2", ".xz"])
    def test_a_damaged_one_is_named(self, tmp_path: Path, end: str) -> None:
        data = self.packed(end, lines(*(str(number) * 50 for number in range(2000))))
        (tmp_path / f"a.jsonl{end}").write_bytes(data[: len(data) // 2])
        with pytest.raises(ManifestError, match=rf"a\.jsonl\{end} cannot be read"):
            requests(tmp_path / f"a.jsonl{end}")

    def test_what_is_packed_and_not_called_so_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(gzip.compress(lines("a")))
        with pytest.raises(ManifestError, match=r"Let its name end with \.gz"):
            opened(tmp_path / "a.jsonl")

    def test_an_archive_may_be_packed(self, tmp_path: Path) -> None:
        write_tar(tmp_path / "s.tar.gz", {"0.png": png(), "0.txt": b"a cat"}, "w:gz")
        write_tar(tmp_path / "s.tgz", {"0.png": png(), "0.txt": b"a cat"}, "w:gz")
        for name in ("s.tar.gz", "s.tgz"):
            assert asked(requests(tmp_path / name, ask="Is it {txt}?")) == ["Is it a cat?"]


class TestWebDataset:
    def test_shards_are_read_in_order_and_records_called_by_their_key(self, tmp_path: Path) -> None:
        for shard in range(2):
            members: dict[str, bytes] = {}
            for number in range(3):
                key = f"{shard}{number:04}"
                members |= {
                    f"{key}.png": png(),
                    f"{key}.json": json.dumps({"prompt": key, "nr": number}).encode(),
                }
            write_tar(tmp_path / f"{shard:05}.tar", members)
        found = requests(tmp_path)
        assert asked(found) == [request.id for request in found]
        assert [request.id for request in found] == ["00000", "00001", "00002", "10000", "10001", "10002"]
        assert found[4].metadata == {"nr": 1}
        assert all(len((request.input and request.input.images) or ()) == 1 for request in found)

    def test_several_images_of_a_record_come_by_name_or_as_said(self, tmp_path: Path) -> None:
        from pixano_vlm.inputs.naming import Naming

        write_tar(tmp_path / "s.tar", {"0.right.png": png(2), "0.left.png": png(1), "0.txt": b"x"})
        (both,) = requests(tmp_path / "s.tar", ask="q {txt}")
        (one,) = requests(tmp_path / "s.tar", ask="q {txt}", naming=Naming(("left.png",)))
        assert both.input is not None
        assert one.input is not None
        assert len(both.input.images or ()) == 2
        assert one.input.images == (both.input.images or [])[:1]

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"0.mp4": b"x", "0.json": b'{"prompt": "q"}'}, "0.mp4 is in it, which cannot be looked at"),
            ({"0.png": b"", "0.json": b"no"}, "0.json: not JSON"),
            ({"0.png": b"", "0.txt": b"\xff"}, "0.txt is not UTF-8"),
            ({"0.png": b"", "0.cls": b"3"}, "there is no prompt"),
        ],
    )
    def test_what_cannot_be_used_is_the_records_error_under_its_key(
        self, tmp_path: Path, members: dict[str, bytes], said: str
    ) -> None:
        write_tar(tmp_path / "s.tar", {**members, "1.png": png(), "1.json": b'{"prompt": "good"}'})
        bad, good = requests(tmp_path / "s.tar")
        assert (bad.id, good.id) == ("0", "1")
        assert said in str(bad.error)
        assert good.error is None

    def test_what_is_not_an_archive_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "s.tar").write_bytes(b"no archive at all" * 100)
        with pytest.raises(ManifestError, match="cannot be read as a tar archive"):
            opened(tmp_path / "s.tar")


@pytest.fixture
def store() -> Iterator[Any]:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/bucket", recursive=True)


class TestStores:
    def test_files_of_a_store_are_read_by_name_glob_and_folder(self, store: Any) -> None:
        for number in range(3):
            store.pipe(f"/bucket/data/part-{number}.jsonl", lines(f"p{number}", images=["a.png", "../b.png"]))
        store.pipe("/bucket/data/README.md", b"")
        for named in ("memory://bucket/data/*.jsonl", "memory://bucket/data/", "memory://bucket/data"):
            found = requests(named)
            assert [request.id for request in found] == ["part-0:1", "part-1:1", "part-2:1"]
            assert found[0].input is not None
            assert found[0].input.images == ["memory://bucket/data/a.png", "memory://bucket/b.png"]
        (one,) = requests("memory://bucket/data/part-1.jsonl")
        assert (one.id, one.images) == ("1", ("a.png", "../b.png"))

    def test_tables_and_archives_are_read_there_too(self, store: Any, tmp_path: Path) -> None:
        write_parquet(tmp_path / "a.parquet", {"prompt": ["a", "b"]})
        write_tar(tmp_path / "a.tar", {"0.png": png(), "0.json": b'{"prompt": "c"}'})
        for name in ("a.parquet", "a.tar"):
            store.pipe(f"/bucket/{name}", (tmp_path / name).read_bytes())
        store.pipe("/bucket/a.csv.gz", gzip.compress(b"prompt\nd\n"))
        assert asked(requests("memory://bucket/a.parquet")) == ["a", "b"]
        assert asked(requests("memory://bucket/a.tar")) == ["c"]
        assert asked(requests("memory://bucket/a.csv.gz")) == ["d"]

    @pytest.mark.parametrize(
        ("url", "said"),
        [("memory://bucket/none.jsonl", "cannot be read"),
         ("memory://bucket/none/*.jsonl", "there is no manifest in"),
         ("memory://bucket/file://etc/passwd", "is not the URL of an object"),
         ("s3://bucket/simplecache::file://x", "is not the URL of an object")],
    )  # fmt: skip
    def test_what_is_not_there_or_leads_elsewhere_is_refused(self, store: Any, url: str, said: str) -> None:
        store.pipe("/bucket/a.jsonl", lines("a"))
        with pytest.raises(ManifestError, match=said):
            requests(url)


class TestShares:
    @pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
    def test_what_is_not_a_share_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--shard 3/8"):
            read_share(text)
        assert read_share(" 3/8 ") == (2, 8)

    @pytest.mark.parametrize("form", ["files", "one", "few"])
    def test_shares_are_all_of_it_and_do_not_overlap(self, tmp_path: Path, form: str) -> None:
        count = {"files": 7, "one": 1, "few": 2}[form]
        for number in range(count):
            (tmp_path / f"{number}.jsonl").write_bytes(lines(*(f"{number}.{line}" for line in range(6))))
        named = tmp_path / "0.jsonl" if form == "one" else tmp_path
        whole = [request.id for request in list(Manifest(tmp_path / "0.jsonl")) if form == "one"] or [
            request.id for request in requests(named)
        ]
        shares = [requests(named, share=(share, 3)) for share in range(3)]
        assert sorted(request.id for share in shares for request in share) == sorted(whole)
        assert max(map(len, shares)) - min(map(len, shares)) <= (6 if form == "files" else 1)
        if form == "files":
            assert {request.id.partition(":")[0] for request in shares[1]} == {"1", "4"}
        assert opened(named, share=(1, 3)).stem.endswith(".2-of-3")

    def test_images_and_tables_are_shared_by_record(self, tmp_path: Path) -> None:
        for number in range(5):
            (tmp_path / f"{number}.png").write_bytes(png())
        assert [request.id for request in requests(tmp_path, ask="q", share=(1, 2))] == ["1.png", "3.png"]
        (tmp_path / "m.csv").write_text("prompt\na\nb\nc\n")
        assert [request.id for request in requests(tmp_path / "m.csv", share=(0, 2))] == ["1", "3"]


class TestResuming:
    def shards(self, folder: Path, contents: list[list[str]]) -> None:
        folder.mkdir(exist_ok=True)
        for path in folder.glob("*.parquet"):
            path.unlink()
        for number, prompts in enumerate(contents):
            write_parquet(folder / f"part-{number}.parquet", {"prompt": prompts}, row_group_size=2)

    def test_a_file_that_is_done_and_unchanged_is_not_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixano_vlm.inputs.parquet_rows import ParquetTable

        self.shards(tmp_path / "in", [[f"{shard}.{row}" for row in range(5)] for shard in range(6)])
        output, model = tmp_path / "out.jsonl", FakeModel()
        run(tmp_path, output, model, rows=opened(tmp_path / "in").rows, limit=17)
        read: list[str] = []
        values = ParquetTable.values

        def note(table: ParquetTable, *args: Any, **options: Any) -> Any:
            read.append(table.file.name)
            return values(table, *args, **options)

        monkeypatch.setattr(ParquetTable, "values", note)
        source = opened(tmp_path / "in")
        assert source.rows is not None
        source.rows.count()
        run(tmp_path, output, model, rows=source.rows, resume=True)
        assert model.asked == [f"{shard}.{row}" for shard in range(6) for row in range(5)]
        assert read == ["part-3.parquet", "part-4.parquet", "part-5.parquet"]

    def test_a_file_that_was_changed_is_asked_for_what_changed_alone(self, tmp_path: Path) -> None:
        contents = [[f"{shard}.{row}" for row in range(4)] for shard in range(3)]
        self.shards(tmp_path / "in", contents)
        output, model = tmp_path / "out.jsonl", FakeModel()
        run(tmp_path, output, model, rows=opened(tmp_path / "in").rows)
        contents[1][2] = "new"
        self.shards(tmp_path / "in", [*contents, ["more"]])
        before = len(model.asked)
        run(tmp_path, output, model, rows=opened(tmp_path / "in").rows, resume=True)
        assert model.asked[before:] == ["new", "more"]
        assert [json.loads(line)["id"] for line in output.read_text().splitlines()][-2:] == [
            "part-2:4",
            "part-3:1",
        ]

    def test_another_prompt_for_the_same_files_is_another_question(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        write_parquet(folder / "a.parquet", {"x": ["1", "2"]})
        output, model = tmp_path / "out.jsonl", FakeModel()
        run(tmp_path, output, model, rows=opened(folder, ask="A {x}?").rows)
        run(tmp_path, output, model, rows=opened(folder, ask="B {x}?").rows, resume=True)
        assert model.asked == ["A 1?", "A 2?", "B 1?", "B 2?"]

    def test_a_file_put_before_the_others_leaves_their_answers(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "b.jsonl").write_bytes(lines("b1", "b2"))
        output, model = tmp_path / "out.jsonl", FakeModel()
        run(tmp_path, output, model, rows=opened(folder / "*.jsonl").rows)
        (folder / "a.jsonl").write_bytes(lines("a1"))
        run(tmp_path, output, model, rows=opened(folder / "*.jsonl").rows, resume=True)
        assert model.asked == ["b1", "b2", "a1"]
        assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["a:1", "b:1", "b:2"]

    @given(
        sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), stops=st.lists(st.integers(1, 6), max_size=4),
        forms=st.sampled_from(["jsonl", "parquet"]), shuffle=st.none() | st.integers(0, 3),
    )  # fmt: skip
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_however_often_a_run_is_stopped_it_ends_as_if_it_had_not_been(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        sizes: list[int],
        stops: list[int],
        forms: str,
        shuffle: Any,
    ) -> None:
        import threading

        folder = tmp_path_factory.mktemp("shards")
        for number, size in enumerate(sizes):
            prompts = [f"{number}.{row}" for row in range(size)]
            if forms == "jsonl":
                (folder / f"{number}.jsonl").write_bytes(lines(*prompts))
            else:
                pa = pytest.importorskip("pyarrow")
                table = pa.table({"prompt": pa.array(prompts, pa.string())})
                pytest.importorskip("pyarrow.parquet").write_table(table, folder / f"{number}.parquet")
        model = FakeModel(window=3, shuffle=shuffle)
        for left in [*stops, None]:
            stop, done = threading.Event(), 0

            def count(_: Any, stop: Any = stop, left: Any = left) -> None:
                nonlocal done
                done += 1
                if done == left:
                    stop.set()

            rows = opened(folder / f"*.{forms}").rows
            if random.Random(done).random() < 0.5:
                assert rows is not None
                rows.count()
            run(folder, folder / "out.txt", model, rows=rows, resume=True, stop=stop, on_result=count)
        ids = [json.loads(line)["id"] for line in (folder / "out.txt").read_text().splitlines()]
        assert ids == [f"{number}:{row + 1}" for number, size in enumerate(sizes) for row in range(size)]
        assert len(model.asked) == len(ids)
