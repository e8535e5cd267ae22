"""Outputs in shards and as datasets: whole whatever was there, and whenever the writing is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.outputs.lines import Counted, failed, line

from pixano_vlm.errors import OutputError, UsageError
from pixano_vlm.outputs.exports import check_exports, split_outputs, write_exports
from pixano_vlm.outputs.forms import Answers, OutputForm, form_of
from pixano_vlm.outputs.shards import write_shards
from pixano_vlm.outputs.table_columns import Given
from pixano_vlm.records.output_line import OutputLine, as_line

parquet = pytest.importorskip("pyarrow.parquet")
ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parents[1] / "cli" / "plugin.py"))


class Killed(BaseException):
    """Nothing may catch it."""


def finished(folder: Path, lines: list[OutputLine]) -> Path:
    path = folder / "out.jsonl"
    path.write_bytes(b"".join(map(as_line, lines)))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def ids(folder: Path, pattern: str = "*.parquet") -> list[str]:
    return [id for path in sorted(folder.glob(pattern)) for id in parquet.read_table(path)["id"].to_pylist()]


class TestShards:
    @pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (3, [3]), (4, [4]), (9, [4, 4, 1])])
    def test_each_has_so_many_records_in_order(self, tmp_path: Path, count: int, sizes: list[int]) -> None:
        lines = [line(number) for number in range(count)]
        write_exports(finished(tmp_path, lines), [tmp_path / "part-{shard}.parquet"], shard_size=4)
        paths = sorted(tmp_path.glob("*.parquet"))
        assert [path.name for path in paths] == [f"part-{number:05}.parquet" for number in range(len(sizes))]
        assert [parquet.read_table(path).num_rows for path in paths] == sizes
        assert ids(tmp_path) == [f"r{number}" for number in range(count)]

    def test_all_have_the_columns_of_the_whole(self, tmp_path: Path) -> None:
        lines = [line(0), line(1, metadata={"late": 5}), failed(2)]
        write_exports(finished(tmp_path, lines), [tmp_path / "{shard}.parquet"], shard_size=1)
        schemas = [parquet.read_schema(path) for path in sorted(tmp_path.glob("*.parquet"))]
        assert len(schemas) == 3
        assert all(schema.equals(schemas[0]) for schema in schemas)
        assert str(schemas[0].field("late").type) == "int64"

    def test_what_the_input_gave_goes_with_its_record(self, tmp_path: Path) -> None:
        given = Given({"n": "int64"}, lambda: iter([(f"r{n}", {"n": n}, True) for n in range(5) if n != 2]))
        lines = [line(number) for number in range(5) if number != 2]
        write_exports(finished(tmp_path, lines), [tmp_path / "{shard}.csv"], given, shard_size=2)
        cells = [row.split(",")[:2] for path in sorted(tmp_path.glob("*.csv"))
                 for row in path.read_text(encoding="utf-8-sig").splitlines()[1:]]  # fmt: skip
        assert cells == [["r0", "0"], ["r1", "1"], ["r3", "3"], ["r4", "4"]]

    def test_shards_of_lines_are_the_output_taken_apart(self, tmp_path: Path) -> None:
        output = finished(tmp_path, [line(0, "é \ud83d"), line(1, "图"), failed(2)])
        write_exports(output, [tmp_path / "part-{shard}-of-{shards}.jsonl"], shard_size=2)
        paths = sorted(tmp_path.glob("part-*"))
        assert [path.name for path in paths] == ["part-00000-of-00002.jsonl", "part-00001-of-00002.jsonl"]
        assert b"".join(path.read_bytes() for path in paths) == output.read_bytes()

    def test_few_lines_are_held(self, tmp_path: Path) -> None:
        lines = Counted(3_000)
        path = tmp_path / "{shard}.csv"
        form = form_of(path)
        assert form is not None
        assert write_shards(form, Answers(lines, shard_size=1_000), path) == 3
        assert lines.most <= 4

    def test_those_that_have_become_too_many_are_removed_and_others_stay(self, tmp_path: Path) -> None:
        pattern = [tmp_path / "part-{shard}.parquet"]
        output = finished(tmp_path, [line(number) for number in range(9)])
        write_exports(output, pattern, shard_size=2)
        for other in ("part-00000.csv", "part-a.parquet", "my-part-00009.parquet"):
            (tmp_path / other).touch()
        write_exports(output, pattern, shard_size=5)
        assert names(tmp_path) == sorted(
            ["my-part-00009.parquet", "out.jsonl", "part-00000.csv", "part-00000.parquet", "part-00001.parquet",
             "part-a.parquet"]
        )  # fmt: skip

    @pytest.mark.parametrize("moment", range(9))
    def test_killed_at_any_moment_the_same_again_makes_them_right(
        self, tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pattern = [tmp_path / "part-{shard}-of-{shards}.parquet"]
        write_exports(finished(tmp_path, [line(number, "old") for number in range(6)]), pattern, shard_size=1)
        output = finished(tmp_path, [line(number, "new") for number in range(4)])
        steps = iter(range(100))

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def act(*args: Any, **options: Any) -> Any:
                if next(steps) == moment:
                    raise Killed
                return real(*args, **options)

            return act

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying(Path.replace))
            patch.setattr(Path, "unlink", dying(Path.unlink))
            patch.setattr(OutputForm, "write", dying(OutputForm.write))
            with pytest.raises(Killed):
                write_exports(output, pattern, shard_size=1)
        for path in tmp_path.glob("*.parquet"):
            parquet.read_table(path)  # never a half file under its name
        write_exports(output, pattern, shard_size=1)
        assert ids(tmp_path) == [f"r{number}" for number in range(4)]
        texts = [parquet.read_table(path)["generated_text"][0].as_py() for path in tmp_path.glob("*.parquet")]
        assert texts == ["new"] * 4

    @pytest.mark.parametrize(
        ("name", "own"),
        [
            ("out/part-{shard}.parquet", "out/part.jsonl"), ("{shard}.csv", "answers.jsonl"),
            ("a_{shard}_of_{shards}.openai.jsonl", "a.jsonl"), ("b.{shard}.jsonl", "b.jsonl"),
            ("captions.hf", "captions.jsonl"),
        ],
    )  # fmt: skip
    def test_the_output_beside_them_is_called_without_the_numbers(self, name: str, own: str) -> None:
        assert split_outputs([name], Path("d")) == (Path(own), (Path(name),))

    def test_a_size_without_shards_and_shards_that_are_there_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--shard-size goes with an output in shards"):
            check_exports([tmp_path / "a.parquet"], sources=[], replace=False, shard_size=5)
        (tmp_path / "part-00003.csv").touch()
        with pytest.raises(OutputError, match=r"part-00003\.csv exists"):
            check_exports([tmp_path / "part-{shard}.csv"], sources=[], replace=False)
        check_exports([tmp_path / "part-{shard}.csv"], sources=[], replace=True)


class TestDataset:
    def run(self, cli: Callable[..., Any], *args: str) -> Any:
        return cli("generate", "m.jsonl", *ECHO, "-o", "captions.hf", "--shard-size", "2", *args)

    @pytest.fixture
    def manifest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "m.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"Q {n}?"}) + "\n" for n in range(5)))
        return path

    def test_it_is_a_folder_with_shards_and_a_card(
        self, cli: Callable[..., Any], manifest: Path, tmp_path: Path
    ) -> None:
        assert self.run(cli).code == 0
        folder = tmp_path / "captions.hf"
        assert names(folder) == [
            "README.md", *(f"data/train-{number:05}-of-00003.parquet" for number in range(3))
        ]  # fmt: skip
        assert ids(folder / "data") == ["1", "2", "3", "4", "5"]
        card = (folder / "README.md").read_text(encoding="utf-8")
        front = card.split("---\n")[1]
        import yaml

        said = yaml.safe_load(front)
        assert said["configs"] == [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}
        ]
        assert (said["license"], said["size_categories"]) == ("unknown", ["n<1K"])
        assert "| model | echo |" in card
        assert "| records | 5 |" in card
        assert "*fill in*" in card
        assert "max_new_tokens" in card

    def test_resumed_what_its_owner_wrote_stays_and_the_figures_are_new(
        self, cli: Callable[..., Any], manifest: Path, tmp_path: Path
    ) -> None:
        self.run(cli)
        folder = tmp_path / "captions.hf"
        card = folder / "README.md"
        card.write_text(card.read_text().replace("license: unknown", "license: cc-by-4.0") + "\nMine.\n")
        (folder / ".gitattributes").write_text("mine")
        assert self.run(cli).code == 2  # it is there
        with manifest.open("a") as file:
            file.write('{"prompt": "Q 5?"}\n{"prompt": "Q 6?"}\n')
        assert self.run(cli, "--resume").code == 0
        assert ids(folder / "data") == ["1", "2", "3", "4", "5", "6", "7"]
        text = card.read_text()
        assert "license: cc-by-4.0" in text
        assert text.endswith("\nMine.\n")
        assert "| records | 7 |" in text
        assert (folder / ".gitattributes").read_text() == "mine"

    def test_a_card_of_somebody_elses_is_left_as_it_is(
        self, cli: Callable[..., Any], manifest: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "captions.hf"  # as a repository of the hub is cloned: without shards
        folder.mkdir()
        (folder / "README.md").write_text("# Mine\n")
        assert self.run(cli).code == 0
        assert (folder / "README.md").read_text() == "# Mine\n"
        assert len(ids(folder / "data")) == 5

    def test_a_file_of_that_name_is_refused_before_anything_runs(
        self, cli: Callable[..., Any], manifest: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "captions.hf").write_text("x")
        ran = self.run(cli, "--overwrite")
        assert ran.code == 2
        assert "captions.hf is a file" in ran.err


class TestChecked:
    """`pixano-vlm check` and a resumed run know shards and datasets as they know other forms."""

    @pytest.fixture
    def run(
        self, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., Any]:
        monkeypatch.chdir(tmp_path)
        Path("m.jsonl").write_text("".join(json.dumps({"prompt": f"Q {n}?"}) + "\n" for n in range(5)))
        outputs = ("-o", "out.jsonl", "-o", "part-{shard}.csv", "-o", "captions.hf", "--shard-size", "2")
        return lambda *args: cli("generate", "m.jsonl", *ECHO, *outputs, *args)

    def test_they_are_checked_record_by_record(
        self, cli: Callable[..., Any], run: Callable[..., Any]
    ) -> None:
        assert run().code == 0
        assert cli("check", "out.jsonl").code == 0
        Path("part-00002.csv").unlink()
        ran = cli("check", "out.jsonl")
        assert ran.code == 1
        assert "5" in ran.out + ran.err

    def test_a_shard_that_was_edited_is_not_replaced(self, run: Callable[..., Any]) -> None:
        run()
        with Path("part-00001.csv").open("a") as file:
            file.write("mine\n")
        refused = run("--resume")
        assert refused.code == 2
        assert "part-00001.csv was changed since the run wrote it" in refused.err
        assert run("--resume", "--force").code == 0
        assert "mine" not in Path("part-00001.csv").read_text()
