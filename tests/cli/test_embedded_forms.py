"""Folders, OpenAI Batch files, flags and the dry run on real generations: those of the embedded model."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def examples(repository: Path) -> Path:
    return repository / "examples" / "shapes"


def test_a_folder_is_captioned_into_files_beside_its_pictures(
    cli: Callable[..., Any], examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for picture in sorted((examples / "images").glob("*.jpg"))[:6]:
        shutil.copy(picture, photos)
    command = ("generate", "photos", "--model", "shapes", "--prompt", "What do you see?", "--sidecar", "txt")
    assert cli(*command).code == 0
    written = {path.name: path.read_text() for path in photos.glob("*.txt")}
    assert len(written) == 6
    assert all(len(text) > 5 for text in written.values())
    assert "nothing is left to do" in cli(*command).err
    assert {path.name: path.read_text() for path in photos.glob("*.txt")} == written


def test_an_openai_batch_file_with_data_urls_goes_through_unchanged(
    cli: Callable[..., Any], examples: Path, tmp_path: Path
) -> None:
    chat = pytest.importorskip("openai.types.chat")
    requests = []
    for number, picture in enumerate(sorted((examples / "images").glob("*.jpg"))[:6]):
        url = "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode()
        content = [
            {"type": "text", "text": "What do you see?"},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        messages = [{"role": "user", "content": content}]
        body = {"model": "gpt", "messages": messages, "max_completion_tokens": 32, "temperature": 0}
        requests.append(
            {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        )
    (tmp_path / "batch.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    output = tmp_path / "answers.openai.jsonl"
    assert cli("generate", tmp_path / "batch.jsonl", "--model", "shapes", "-o", output).code == 0
    answers = lines(output)
    assert [answer["custom_id"] for answer in answers] == [f"r{number}" for number in range(6)]
    for answer in answers:
        completion = chat.ChatCompletion.model_validate(answer["response"]["body"], strict=True)
        assert completion.choices[0].message.content
        assert completion.choices[0].finish_reason == "stop"


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
    cli: Callable[..., Any], examples: Path, tmp_path: Path
) -> None:
    good = (examples / "manifest.jsonl").read_text().splitlines()[:40]
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
    ran = cli("generate", manifest, "--model", "shapes", "--dry-run", "--summary-json", dry)
    assert ran.code == 1
    assert ran.out.count("bad: ") == 7
    for number in range(6, 13):
        assert f"m.jsonl:{number}" in ran.out
    ran = cli("generate", manifest, "--model", "shapes", "-o", tmp_path / "o.jsonl", "--summary-json", done)
    assert ran.code == 1
    estimate, run = json.loads(dry.read_text()), json.loads(done.read_text())
    assert estimate["prompt_tokens"] == run["prompt_tokens"]
    assert estimate["total_tokens_estimated"] == pytest.approx(run["total_tokens"], rel=0.05)
