"""`generate` for people with folders and tables: what goes in, in which forms it comes out, and the dry run."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parent / "plugin.py"))
ASK = ("--prompt", "A {stem}?")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`photos` with five pictures, in the current folder."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(photos / f"{number}.jpg")
    return photos


def lines(path: str = "photos.outputs.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class TestFolder:
    def test_a_folder_and_a_prompt_are_a_run(self, cli: Callable[..., Any], folder: Path) -> None:
        assert cli("generate", "photos", *ECHO, *ASK).code == 0
        assert [(line["id"], line["generated_text"]) for line in lines()] == [
            (f"{number}.jpg", f"A {number}?") for number in range(5)
        ]
        said = json.loads(Path("photos.outputs.jsonl.run.json").read_text())
        assert said["settings"]["source"] == {"manifest": ["photos"], "prompt": "A {stem}?"}

    def test_it_is_resumed(self, cli: Callable[..., Any], folder: Path) -> None:
        assert cli("generate", "photos", *ECHO, *ASK, "--limit", "2").code == 0
        ran = cli("generate", "photos", *ECHO, *ASK, "--resume")
        assert ran.code == 0
        assert len(lines()) == 5

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["photos"], "is a folder"),
            (["photos", "--prompt", "{steem}"], "Did you mean {stem}?"),
            (["none", "--prompt", "x"], "there is no manifest none"),
            (["photos", "--prompt", "x", "--prompt-file", "y"], "both give a prompt"),
            (["photos/*.jpeg", "--prompt", "x"], "No file matches it"),
        ],
    )
    def test_what_is_missing_is_said_with_what_to_do(
        self, cli: Callable[..., Any], folder: Path, args: list[str], said: str
    ) -> None:
        ran = cli("generate", *args, *ECHO)
        assert ran.code == 2
        assert said in ran.err


class TestSidecars:
    def run(self, cli: Callable[..., Any], *args: str) -> Any:
        return cli("generate", "photos", *ECHO, "--sidecar", "txt", *args)

    def test_one_line_captions_a_folder_and_again_it_does_nothing(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        assert self.run(cli, *ASK).code == 0
        assert [(folder / f"{n}.txt").read_text() for n in range(5)] == [f"A {n}?\n" for n in range(5)]
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        ran = self.run(cli, *ASK)
        assert ran.code == 0
        assert "nothing is left to do" in ran.err
        assert "tokens/s" not in ran.err  # of a run that did nothing there is nothing to tell
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    def test_of_an_output_that_is_there_the_files_are_written_and_counted(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        cli("generate", "photos", *ECHO, *ASK)
        ran = self.run(cli, *ASK)
        assert re.search(r"files beside images +5\n", ran.err)
        assert (folder / "3.txt").read_text() == "A 3?\n"
        assert "beside" not in self.run(cli, *ASK).err

    def test_overwrite_does_them_again(self, cli: Callable[..., Any], folder: Path) -> None:
        self.run(cli, *ASK)
        assert self.run(cli, "--prompt", "B {stem}?", "--overwrite").code == 0
        assert (folder / "3.txt").read_text() == "B 3?\n"

    def test_a_file_of_somebody_else_stays_and_its_image_is_not_asked_about(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        (folder / "2.txt").write_text("by hand")
        assert self.run(cli, *ASK).code == 0
        assert (folder / "2.txt").read_text() == "by hand"
        assert [line["id"] for line in lines()] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
        assert self.run(cli, *ASK).code == 0
        assert (folder / "2.txt").read_text() == "by hand"

    def test_a_file_that_is_missing_is_written_from_the_output(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        self.run(cli, *ASK)
        (folder / "1.txt").unlink()
        assert self.run(cli, *ASK).code == 0
        assert (folder / "1.txt").read_text() == "A 1?\n"

    def test_json_holds_the_line(self, cli: Callable[..., Any], folder: Path) -> None:
        assert cli("generate", "photos", *ECHO, *ASK, "--sidecar", "json").code == 0
        assert json.loads((folder / "0.json").read_text()) == lines()[0]

    def test_two_images_with_one_file_are_an_error_for_the_second(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        Image.new("RGB", (8, 8)).save(folder / "0.png")
        assert self.run(cli, *ASK).code == 1
        assert "has its answer in" in lines()[1]["error"]["message"]
        assert (folder / "0.txt").read_text() == "A 0?\n"

    def test_an_interrupted_run_that_overwrites_is_resumed_as_one(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        from pixano_vlm.cli.shown import resume_command

        self.run(cli, *ASK)
        again = ("--prompt", "B {stem}?")
        self.run(cli, *again, "--overwrite", "--limit", "2")
        args = resume_command(["generate", "photos", "--sidecar", "txt", "--overwrite"])
        assert args.endswith("--overwrite --resume")
        assert self.run(cli, *again, "--overwrite", "--resume").code == 0
        assert [(folder / f"{n}.txt").read_text() for n in range(5)] == [f"B {n}?\n" for n in range(5)]


class TestForms:
    @pytest.fixture
    def manifest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        records = [
            {"prompt": 'one, "two"\nthree', "id": "a", "metadata": {"n": 1}},
            {"prompt": "fail"},
            {"prompt": "é" * 3},
        ]
        Path("m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def test_csv_is_read_by_a_reader_of_csv(self, cli: Callable[..., Any], manifest: None) -> None:
        assert cli("generate", "m.jsonl", *ECHO, "-o", "out.csv").code == 1
        with Path("out.csv").open(encoding="utf-8-sig", newline="") as file:
            first, second, third = csv.DictReader(file)
        assert (first["id"], first["generated_text"]) == ("a", 'one, "two"\nthree')
        assert json.loads(first["metadata"]) == {"n": 1}
        assert second["error_type"] == "GenerationError"
        assert third["generated_text"] == "ééé"
        assert len(lines("out.jsonl")) == 3

    def test_parquet_is_typed_and_in_row_groups(
        self, cli: Callable[..., Any], manifest: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        monkeypatch.setattr("pixano_vlm.outputs.tables.GROUP_ROWS", 2)
        assert cli("generate", "m.jsonl", *ECHO, "-o", "a.jsonl", "-o", "a.parquet").code == 1
        with parquet.ParquetFile("a.parquet") as file:
            assert file.num_row_groups == 2
            types = {field.name: str(field.type) for field in file.schema_arrow}
            table = file.read()
        assert types["prompt_tokens"] == "int64"
        assert types["flags"].startswith("list<")
        assert table.column("generated_text").to_pylist() == ['one, "two"\nthree', None, "ééé"]

    def test_parquet_is_read_by_pandas(self, cli: Callable[..., Any], manifest: None) -> None:
        pytest.importorskip("pyarrow")
        pandas = pytest.importorskip("pandas")
        cli("generate", "m.jsonl", *ECHO, "-o", "a.parquet")
        frame = pandas.read_parquet("a.parquet")
        assert frame["status"].tolist() == ["ok", "error", "ok"]
        assert frame["completion_tokens"].sum() == 4

    def test_openai_batch_output_is_read_by_openais_own_types(
        self, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat = pytest.importorskip("openai.types.chat")
        monkeypatch.chdir(tmp_path)
        requests = [
            {
                "custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions",
                "body": {"model": "gpt", "max_tokens": 5, "messages": [{"role": "user", "content": f"q{n}"}]},
            }
            for n in range(3)
        ]  # fmt: skip
        requests[1]["body"] = {"model": "gpt"}
        Path("batch.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
        assert cli("generate", "batch.jsonl", *ECHO, "-o", "answers.openai.jsonl").code == 1
        first, second, third = lines("answers.openai.jsonl")
        assert [first["custom_id"], second["custom_id"], third["custom_id"]] == ["r0", "r1", "r2"]
        completion = chat.ChatCompletion.model_validate(first["response"]["body"], strict=True)
        assert "q0" in completion.choices[0].message.content
        assert (
            completion.usage.total_tokens
            == completion.usage.prompt_tokens + completion.usage.completion_tokens
        )
        assert second["response"] is None
        assert second["error"]["code"] == "RecordError"

    def test_resuming_writes_them_again_whole(self, cli: Callable[..., Any], manifest: None) -> None:
        cli("generate", "m.jsonl", *ECHO, "-o", "a.csv", "--limit", "1")
        assert cli("generate", "m.jsonl", *ECHO, "-o", "a.csv").code == 2
        cli("generate", "m.jsonl", *ECHO, "-o", "a.csv", "--resume")
        with Path("a.csv").open(newline="") as file:
            assert len(list(csv.reader(file))) == 4

    def test_what_failed_is_told_with_the_first_of_its_kind_and_what_to_do(
        self, cli: Callable[..., Any], manifest: None
    ) -> None:
        ran = cli("generate", "m.jsonl", *ECHO, "-o", "a.jsonl")
        assert "the first GenerationError: m.jsonl:2: it was asked to fail.\n" in ran.err
        assert "hint: --retry-failed asks failed records again" in ran.err
        assert "the first" not in cli("generate", "m.jsonl", *ECHO, "-o", "b.jsonl", "--quiet").err

    def test_a_report_of_another_form_names_the_output_beside_it(
        self, cli: Callable[..., Any], manifest: None
    ) -> None:
        cli("generate", "m.jsonl", *ECHO, "-o", "a.parquet", "-o", "a.openai.jsonl")
        for name in ("a.parquet", "a.openai.jsonl"):
            ran = cli("report", name)
            assert (ran.code, "wrote: a.jsonl" in ran.err) == (2, True), ran.err

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["-o", "a.jsonl", "-o", "b.jsonl"], "both outputs of our own form"),
            (["-o", "-", "-o", "a.csv"], "beside standard output"),
            (["-o", "none/a.csv", "-o", "a.jsonl"], "there is no folder none"),
        ],
    )
    def test_outputs_that_do_not_go_together_are_refused(
        self, cli: Callable[..., Any], manifest: None, args: list[str], said: str
    ) -> None:
        ran = cli("generate", "m.jsonl", *ECHO, *args)
        assert ran.code == 2
        assert said in ran.err

    def test_a_table_is_not_written_over_itself(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("prompt\none\n")
        ran = cli("generate", tmp_path / "m.csv", *ECHO, "-o", tmp_path / "m.csv", "--overwrite")
        assert ran.code == 2
        assert "the manifest itself" in ran.err
        assert (tmp_path / "m.csv").read_text() == "prompt\none\n"


class TestDryRun:
    def test_bad_records_are_found_listed_and_nothing_is_written(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        good = [{"prompt": "one two", "images": [f"photos/{n}.jpg"]} for n in range(5)] * 6
        bad: list[Any] = [
            "not json",
            {"images": ["photos/0.jpg"]},
            {"prompt": "x", "images": ["photos/none.jpg"]},
            {"prompt": "x", "images": ["bad.jpg"]},
            {"prompt": "x", "max_new_tokens": -1},
            {"prompt": [{"role": "poet", "content": "x"}]},
            {"prompt": "x", "images": ["data:image/png;base64,AAAA"]},
        ]
        Path("bad.jpg").write_bytes(b"no picture")
        records = [*good[:10], *bad, *good[10:]]
        Path("m.jsonl").write_text(
            "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
        )
        before = sorted(Path().iterdir())
        ran = cli("generate", "m.jsonl", *ECHO, "--dry-run")
        assert ran.code == 1
        assert sorted(Path().iterdir()) == before
        found = [line for line in ran.out.splitlines() if line.startswith("bad: ")]
        assert [line.split()[1].rstrip(":") for line in found] == [f"m.jsonl:{n}" for n in range(11, 18)]
        assert "bad.jpg" in found[3]

    def test_its_figures_are_those_of_the_run(self, cli: Callable[..., Any], folder: Path) -> None:
        Path("m.jsonl").write_text(
            "".join(
                json.dumps({"prompt": "one two", "images": [f"photos/{n % 5}.jpg"]}) + "\n" for n in range(40)
            )
        )
        assert cli("generate", "m.jsonl", *ECHO, "--dry-run", "--summary-json", "dry.json").code == 0
        assert cli("generate", "m.jsonl", *ECHO, "--summary-json", "run.json").code == 0
        dry, run = (json.loads(Path(name).read_text()) for name in ("dry.json", "run.json"))
        assert dry["records_good"] == run["ok"]
        assert dry["images"] == run["images"]
        assert dry["total_tokens_estimated"] == run["total_tokens"]
        assert dry["records_timed"] == 40

    def test_only_the_first_20_are_listed(self, cli: Callable[..., Any], folder: Path) -> None:
        Path("m.jsonl").write_text("no\n" * 25)
        ran = cli("generate", "m.jsonl", *ECHO, "--dry-run")
        assert ran.out.count("bad: ") == 20
        assert "and 5 more" in ran.out


class TestTables:
    @pytest.fixture
    def tables(self, folder: Path) -> None:
        Path("q.csv").write_text("label,question,photo\nred,What?,photos/0.jpg\nblue,Who?,photos/1.jpg\n")

    NAMES = ("--prompt-column", "question", "--image-column", "photo")

    def read(self, path: str) -> list[dict[str, str]]:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def test_the_columns_of_a_csv_come_back_with_the_answers_beside_them(
        self, cli: Callable[..., Any], tables: None
    ) -> None:
        assert cli("generate", "q.csv", *ECHO, *self.NAMES, "-o", "answers.csv").code == 0
        first, second = self.read("answers.csv")
        assert list(first)[:5] == ["id", "label", "question", "photo", "generated_text"]
        assert [list(row.values())[:5] for row in (first, second)] == [
            ["1", "red", "What?", "photos/0.jpg", "What?"], ["2", "blue", "Who?", "photos/1.jpg", "Who?"],
        ]  # fmt: skip

    def test_the_answers_of_a_run_that_was_resumed_stand_beside_their_own_rows(
        self, cli: Callable[..., Any], tables: None
    ) -> None:
        args = ("generate", "q.csv", *ECHO, *self.NAMES, "-o", "answers.csv")
        assert cli(*args, "--limit", "1").code == 0
        Path("q.csv").write_text(
            "label,question,photo\ngreen,New?,photos/2.jpg\n" + Path("q.csv").read_text()[21:]
        )
        assert cli(*args, "--resume").code == 0
        assert [(row["label"], row["generated_text"]) for row in self.read("answers.csv")] == [
            ("green", "New?"), ("red", "What?"), ("blue", "Who?"),
        ]  # fmt: skip

    def test_a_table_beside_a_manifest_of_its_name_leaves_the_manifest_alone(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        Path("x.jsonl").write_text('{"prompt": "q", "metadata": {"n": 1}}\n')
        assert cli("generate", "x.jsonl", *ECHO, "-o", "x.csv").code == 0
        assert Path("x.jsonl").read_text().startswith('{"prompt"')
        assert len(lines("x.outputs.jsonl")) == 1
        assert self.read("x.csv")[0]["n"] == "1"
        assert cli("generate", "x.jsonl", *ECHO, "-o", "x.csv", "--resume").code == 0

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["q.csv"], "--prompt-column question"),
            (["q.csv", *NAMES, "-o", "a.xlsx"], "Did you mean a.csv?"),
            (["q.csv", *NAMES, "-o", "a.json"], "Did you mean a.jsonl?"),
            (["q.csv", *NAMES, "--shard", "3"], "--shard 3/8"),
            (["empty.csv"], "holds no records"),
            (["photos", "--prompt", ""], "the prompt is empty"),
        ],
    )
    def test_what_cannot_be_is_refused_and_leaves_nothing_behind(
        self, cli: Callable[..., Any], tables: None, args: list[str], said: str
    ) -> None:
        Path("empty.csv").write_text("prompt,image\n")
        before = sorted(Path().iterdir())
        ran = cli("generate", *args, *ECHO)
        assert (ran.code, said in ran.err) == (2, True), ran.err
        assert sorted(Path().iterdir()) == before

    def test_parts_of_several_files_are_runs_of_their_own(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        for number in range(4):
            Path(f"part-{number}.jsonl").write_text(json.dumps({"prompt": f"p{number}"}) + "\n")
        for share in ("1/2", "2/2"):
            assert cli("generate", "part-*.jsonl", *ECHO, "--shard", share).code == 0
        found = [[line["id"] for line in lines(f"records.{share}-of-2.outputs.jsonl")] for share in (1, 2)]
        assert found == [["part-0:1", "part-2:1"], ["part-1:1", "part-3:1"]]
