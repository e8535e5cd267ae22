"""`pixano-vlm ask`: only the answer on standard output, and no file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PLUGIN = str(Path(__file__).parent / "plugin.py")
ECHO = ("--model", "echo", "--plugin", PLUGIN)

Ask = Callable[..., Any]


@pytest.fixture
def ask(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`ask` in a folder with two images, of a model that answers with the question and how many images it has."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(name)
    return lambda *args: cli("ask", *args, *(() if "--model" in args else ECHO))


def test_the_answer_alone_is_on_standard_output_and_nothing_is_written(ask: Ask, tmp_path: Path) -> None:
    ran = ask("a.jpg", "What is this?")
    assert (ran.code, ran.out) == (0, "What is this?\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jpg", "b.jpg"]


def test_several_questions_are_several_answers_in_their_order(ask: Ask) -> None:
    assert ask("a.jpg", "one?", "two?").out == "one?\ntwo?\n"


def test_several_images_are_asked_about_together_or_each_by_itself(ask: Ask) -> None:
    together = json.loads(ask("a.jpg", "b.jpg", "What differs?", "--json").out)
    assert together["images"] == ["a.jpg", "b.jpg"]
    each = [
        json.loads(line)
        for line in ask("a.jpg", "b.jpg", "What?", "Why?", "--each", "--json").out.splitlines()
    ]
    assert [(line["images"], line["prompt"]) for line in each] == [
        (["a.jpg"], "What?"), (["a.jpg"], "Why?"), (["b.jpg"], "What?"), (["b.jpg"], "Why?"),
    ]  # fmt: skip


def test_a_question_may_come_from_standard_input(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is\nthis?\n"))
    assert ask("a.jpg", "-").out == "What is\nthis?\n"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + "A" * 60_000,
        "https://example.org/a.jpg?signature=" + "f" * 4_000,
        "https://example.org/a.jpg?size=9",
    ],
    ids=["data", "signed", "query"],
)
def test_a_url_is_an_image_however_long_it_is(ask: Ask, url: str) -> None:
    ran = ask(url, "What is this?")
    assert (ran.code, ran.out) == (0, "What is this?\n")
    behind = ask("a.jpg", "What?", url)
    assert "is an image behind a question" in behind.err
    assert max(map(len, behind.err.splitlines())) < 400


def test_what_cannot_be_answered_is_told_and_exits_1(ask: Ask) -> None:
    ran = ask("a.jpg", "fail", "and this?")
    assert (ran.code, ran.out) == (1, "and this?\n")
    assert "it was asked to fail" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["a.jpg"], "there is no question."),
        (["What is this?"], "there is no image to ask about."),
        (["c.jpg", "What?"], "there is no image c.jpg.\nhint: Did you mean"),
        (["a.jpg", "What?", "b.jpg"], "b.jpg is an image behind a question."),
        ([".", "What?"], ". is a folder."),
        (["*.png", "What?"], "no file matches *.png."),
        (["a.jpg", " "], "the question is empty."),
        (["a.jpg", "What?", "--system", ""], "--system: the text is empty."),
    ],
)
def test_wrong_use_is_one_message(ask: Ask, args: list[str], said: str) -> None:
    ran = ask(*args)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert ran.out == ""


class TestWhichModel:
    def models(self, *here: str) -> str:
        """Two models of which those named are on this machine."""
        entries = []
        for name in ("near", "far"):
            folder = Path(name)
            folder.mkdir(exist_ok=True)
            if name in here:
                (folder / "model.safetensors").touch()
            entries.append(f"{{name: {name}, model_class: echo, model_params: {{path: ./{name}}}}}")
        Path("my.yaml").write_text(f"models: [{', '.join(entries)}]")
        return "my.yaml"

    def test_the_only_one_on_this_machine_is_asked(
        self, ask: Ask, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pixano_vlm.catalog.resolve.built_in_configs", lambda: Path("my.yaml"))
        self.models("near")
        ran = cli("ask", "a.jpg", "What?", "--plugin", PLUGIN)
        assert (ran.code, ran.out) == (0, "What?\n")
        assert "model: near" in ran.err

    @pytest.mark.parametrize("here", [(), ("near", "far")])
    def test_none_or_several_need_a_choice(
        self, ask: Ask, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...]
    ) -> None:
        monkeypatch.setattr("pixano_vlm.catalog.resolve.built_in_configs", lambda: Path("my.yaml"))
        self.models(*here)
        ran = cli("ask", "a.jpg", "What?", "--plugin", PLUGIN)
        assert ran.code == 2
        assert "--model says which model to ask." in ran.err
        assert all(name in ran.err for name in here)
