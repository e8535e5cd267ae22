"""What is seen of a run without opening its output: the first answers; and what it can be asked to say besides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parent / "plugin.py"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(photos / f"{number}.jpg")
    return photos


def lines(path: str = "photos.outputs.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class TestFirstAnswers:
    def test_the_summary_shows_the_first_three_with_their_images(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        err = cli("generate", "photos", *ECHO, "--prompt", "A {stem}?").err
        assert "0.jpg: A 0?\n1.jpg: A 1?\n2.jpg: A 2?\n" in err
        assert "3.jpg" not in err

    def test_one_record_prints_its_whole_answer(self, cli: Callable[..., Any], folder: Path) -> None:
        long = "word " * 200
        err = cli("generate", "photos/0.jpg", *ECHO, "--prompt", long, "-o", "o.jsonl").err
        assert f"0.jpg: {long.strip()}\n" in err

    def test_of_several_a_long_one_is_shortened(self, cli: Callable[..., Any], folder: Path) -> None:
        err = cli("generate", "photos", *ECHO, "--prompt", "word\n" * 200).err
        assert "0.jpg: word word" in err
        assert "wo...\n" in err

    def test_failed_records_and_quiet_runs_show_none(self, cli: Callable[..., Any], folder: Path) -> None:
        assert "0.jpg:" not in cli("generate", "photos", *ECHO, "--prompt", "fail").err
        assert cli("generate", "photos", *ECHO, "--prompt", "x", "--quiet", "-o", "q.jsonl").err == ""

    def test_answers_on_standard_output_are_not_said_twice(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        assert "0.jpg: x" not in cli("generate", "photos", *ECHO, "--prompt", "x", "-o", "-").err


class TestWithPrompt:
    def test_each_line_says_what_was_asked(self, cli: Callable[..., Any], folder: Path) -> None:
        cli("generate", "photos", *ECHO, "--prompt", "A {stem}?", "--with-prompt")
        assert [line["prompt"] for line in lines()] == [f"A {n}?" for n in range(5)]

    def test_without_it_no_line_does(self, cli: Callable[..., Any], folder: Path) -> None:
        cli("generate", "photos", *ECHO, "--prompt", "A {stem}?")
        assert all("prompt" not in line for line in lines())

    def test_messages_come_as_they_were_with_data_urls_shortened(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        image = {"type": "image", "image": "data:image/png;base64," + "A" * 500}
        asked = [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}]
        Path("m.jsonl").write_text(
            json.dumps({"prompt": asked}) + "\n" + json.dumps({"prompt": "fail"}) + "\n"
        )
        cli("generate", "m.jsonl", *ECHO, "--with-prompt", "--system", "Be brief.")
        first, failed = lines("m.outputs.jsonl")
        assert first["prompt"][0]["content"][1] == {"type": "text", "text": "What?"}
        assert len(json.dumps(first["prompt"])) < 300
        assert failed["prompt"] == "fail"

    def test_a_resumed_run_keeps_its_lines(self, cli: Callable[..., Any], folder: Path) -> None:
        args = ("generate", "photos", *ECHO, "--prompt", "x", "--with-prompt")
        cli(*args, "--limit", "2")
        assert cli(*args, "--resume").code == 0
        assert [line["prompt"] for line in lines()] == ["x"] * 5


class TestSystem:
    def asked(self, cli: Callable[..., Any], *records: dict[str, Any], args: tuple[str, ...]) -> list[Any]:
        Path("m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        assert cli("generate", "m.jsonl", *ECHO, *args, "--overwrite").code == 0
        return [line["generated_text"] for line in lines("m.outputs.jsonl")]

    def test_a_string_gets_a_system_turn_before_it(self, cli: Callable[..., Any], folder: Path) -> None:
        (text,) = self.asked(cli, {"prompt": "What?"}, args=("--system", "Be brief."))
        assert text == str([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}])

    def test_a_template_does_too(self, cli: Callable[..., Any], folder: Path) -> None:
        cli("generate", "photos", *ECHO, "--prompt", "A {stem}?", "--system", "Be brief.")
        assert "Be brief." in lines()[0]["generated_text"]
        assert "A 0?" in lines()[0]["generated_text"]

    def test_a_records_own_system_turn_wins(self, cli: Callable[..., Any], folder: Path) -> None:
        own = [{"role": "system", "content": "Be long."}, {"role": "user", "content": "What?"}]
        (text,) = self.asked(cli, {"prompt": own}, args=("--system", "Be brief."))
        assert text == str(own)

    def test_another_one_is_another_question_when_the_run_is_resumed(
        self, cli: Callable[..., Any], folder: Path
    ) -> None:
        args = ("generate", "photos", *ECHO, "--prompt", "x")
        cli(*args, "--system", "one")
        assert cli(*args, "--system", "one", "--resume").code == 0
        assert "one" in lines()[0]["generated_text"]
        cli(*args, "--system", "two", "--resume", "--force")
        assert all("two" in line["generated_text"] for line in lines())

    @pytest.mark.parametrize("flag", ["--system", "--prompt"])
    def test_an_empty_one_is_refused(self, cli: Callable[..., Any], folder: Path, flag: str) -> None:
        given = {"--prompt": "x", "--system": "y", flag: " "}
        ran = cli("generate", "photos", *ECHO, *(part for pair in given.items() for part in pair))
        assert ran.code == 2
        assert f"{flag}: the {'text' if flag == '--system' else 'prompt'} is empty." in ran.err
