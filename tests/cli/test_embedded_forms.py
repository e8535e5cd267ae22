"""Folders, OpenAI Batch files, flags and the dry run on real generations: those of the embedded model."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.shapes.make_examples import make_examples

pytestmark = pytest.mark.once


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def examples(repository: Path) -> Path:
    return repository / "examples" / "shapes"


@pytest.fixture(scope="session")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 50 drawn pictures."""
    folder = tmp_path_factory.mktemp("fifty")
    make_examples(folder, pictures=50, per_picture=1, seed=5)
    return folder / "images"


def test_a_folder_is_captioned_into_files_beside_its_images(
    cli: Callable[..., Any], fifty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = shutil.copytree(fifty, tmp_path / "photos")
    command = ("generate", "photos", "--model", "shapes", "--prompt", "What do you see?", "--sidecar", "txt")
    command = (*command, "--temperature", "0")
    assert cli(*command).code == 0
    written = {path.name: path.read_text() for path in photos.glob("*.txt")}
    assert sorted(Path(name).stem for name in written) == [f"{n:03}" for n in range(1, 51)]
    assert all(len(text) > 5 for text in written.values())
    answers = {Path(line["id"]).stem: line["generated_text"] for line in lines(Path("photos.outputs.jsonl"))}
    assert {Path(name).stem: text.rstrip("\n") for name, text in written.items()} == answers

    times = {path: path.stat().st_mtime_ns for path in photos.iterdir()}
    assert "nothing is left to do" in cli(*command).err
    assert {path: path.stat().st_mtime_ns for path in photos.iterdir()} == times

    for path in photos.glob("*.txt"):
        path.write_text("by somebody else")
    ran = cli(*command, "--overwrite", "--summary-json", "summary.json")
    assert ran.code == 0
    assert json.loads(Path("summary.json").read_text())["ok"] == 50
    assert {path.name: path.read_text() for path in photos.glob("*.txt")} == written


def test_an_openai_batch_file_with_data_urls_goes_through_unchanged(
    cli: Callable[..., Any], fifty: Path, tmp_path: Path
) -> None:
    chat = pytest.importorskip("openai.types.chat")
    requests = []
    for number, picture in enumerate(sorted(fifty.iterdir())):
        kind = "png" if picture.suffix == ".png" else "jpeg"
        url = f"data:image/{kind};base64," + base64.b64encode(picture.read_bytes()).decode()
        content = [
            {"type": "text", "text": "What do you see?"},
            {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        ]
        messages = [{"role": "user", "content": content}]
        body = {
            "model": "gpt-4o-mini", "messages": messages, "max_completion_tokens": 32, "temperature": 0,
            "response_format": {"type": "text"}, "user": "somebody", "n": 1, "logprobs": False,
        }  # fmt: skip
        requests.append(
            {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        )
    (tmp_path / "batch.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    output = tmp_path / "answers.openai.jsonl"
    assert cli("generate", tmp_path / "batch.jsonl", "--model", "shapes", "-o", output).code == 0
    answers = lines(output)
    assert [answer["custom_id"] for answer in answers] == [f"r{number}" for number in range(50)]
    for answer in answers:
        assert set(answer) == {"id", "custom_id", "response", "error"}
        assert (answer["response"]["status_code"], answer["error"]) == (200, None)
        completion = chat.ChatCompletion.model_validate(answer["response"]["body"], strict=True)
        assert not completion.model_extra
        assert completion.choices[0].message.content
        assert completion.choices[0].finish_reason == "stop"
        assert completion.usage is not None
        assert completion.usage.completion_tokens > 0


def test_flags_are_found_on_real_answers_and_a_normal_one_has_none(
    cli: Callable[..., Any], examples: Path, tmp_path: Path
) -> None:
    asked = {"prompt": "What do you see?", "images": [str(examples / "images" / "001.jpg")], "temperature": 0}
    records = [
        asked,
        {**asked, "max_new_tokens": 2},
        {**asked, "stop": ["a", "e", "i", "o", "u", "t"]},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    output = tmp_path / "out.jsonl"
    cli("generate", tmp_path / "m.jsonl", "--model", "shapes", "-o", output)
    normal, cut, empty = (line["flags"] for line in lines(output))
    assert normal == []
    assert cut == ["cut_off"]
    assert "empty" in empty


def test_a_dry_run_finds_the_bad_records_and_comes_close_to_the_run(
    cli: Callable[..., Any], examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixano_vlm.engines.transformers.model import TransformersVLMModel

    good = (examples / "manifest.jsonl").read_text().splitlines()
    bad: list[Any] = [
        "not json",
        {"images": ["images/001.jpg"]},
        {"prompt": "x", "images": ["images/none.jpg"]},
        {"prompt": "x", "images": ["broken.jpg"]},
        {"prompt": "x", "max_new_tokens": 0},
        {"prompt": "word " * 20_000},
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}]},
    ]
    records = [*good[:5], *(b if isinstance(b, str) else json.dumps(b) for b in bad), *good[5:]]
    (tmp_path / "images").symlink_to(examples / "images")
    (tmp_path / "broken.jpg").write_bytes((examples / "images" / "001.jpg").read_bytes()[:200])
    manifest, dry, done = tmp_path / "m.jsonl", tmp_path / "dry.json", tmp_path / "done.json"
    manifest.write_text("".join(record + "\n" for record in records))
    asked: list[int] = []
    stream = TransformersVLMModel.stream

    def counted(self: TransformersVLMModel, inputs: Any) -> Any:
        for key, answer in stream(self, inputs):
            asked.append(key)
            yield key, answer

    with monkeypatch.context() as patch:
        patch.setattr(TransformersVLMModel, "stream", counted)
        ran = cli("generate", manifest, "--model", "shapes", "--dry-run", "--summary-json", dry)
    assert ran.code == 1
    # The model ran on those that were timed, and on no other.
    assert len(asked) == json.loads(dry.read_text())["records_timed"]
    assert ran.out.count("bad: ") == 7
    for number in range(6, 13):
        assert f"m.jsonl:{number}" in ran.out
    ran = cli("generate", manifest, "--model", "shapes", "-o", tmp_path / "o.jsonl", "--summary-json", done)
    assert ran.code == 1
    estimate, run = json.loads(dry.read_text()), json.loads(done.read_text())
    assert estimate["prompt_tokens"] == run["prompt_tokens"]
    assert estimate["total_tokens_estimated"] == pytest.approx(run["total_tokens"], rel=0.05)
