"""The embedded model through the command, as a new user runs it: no network, no flags but its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_load_tells_what_it_is(cli: Callable[..., Any]) -> None:
    facts = json.loads(cli("load", "shapes", "--json").out)
    assert facts["class"] == "TransformersVLMModel"
    assert facts["architecture"] == "Idefics3ForConditionalGeneration"
    assert facts["parameters"] > 1_000_000
    for fact in (
        "dtype",
        "device",
        "memory_bytes",
        "load_seconds",
        "chat_template",
        "context_length",
        "image_token",
    ):
        assert facts[fact] is not None, fact


def test_generate_answers_every_record(cli: Callable[..., Any], repository: Path, tmp_path: Path) -> None:
    """Greedy, from its config; with usage, and the run's file of facts beside the output."""
    output = tmp_path / "out.jsonl"
    ran = cli(
        "generate",
        repository / "examples/shapes/manifest.jsonl",
        "--model",
        "shapes",
        "--limit",
        "8",
        "-o",
        output,
    )
    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 8
    for line in lines:
        assert line["status"] == "ok"
        assert line["model"] == "shapes"
        assert line["generation_config"]["temperature"] == 0
        assert (
            line["usage"]["total_tokens"]
            == line["usage"]["prompt_tokens"] + line["usage"]["completion_tokens"]
        )
        assert line["metadata"]["answer"]
    (shown,) = re.findall(r'^\{"id": .*"status": .*$', (repository / "README.md").read_text(), re.MULTILINE)
    example = json.loads(shown)
    (answered,) = [line for line in lines if line["id"] == example["id"]]
    assert abs(answered["confidence"] - example["confidence"]) < 1e-3, "its last digits are the machine's"
    assert {**answered, "confidence": None} == {**example, "confidence": None}, "the README shows one of them"
    run = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert run["ended"] == "complete"
    assert run["model"]["architecture"] == "Idefics3ForConditionalGeneration"


def test_only_what_is_missing_is_done_when_resuming(
    cli: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    manifest, output = repository / "examples/shapes/manifest.jsonl", tmp_path / "out.jsonl"
    summary = tmp_path / "summary.json"
    cli("generate", manifest, "--model", "shapes", "--limit", "3", "-o", output)
    before = output.read_text()
    ran = cli(
        "generate",
        manifest,
        "--model",
        "shapes",
        "--limit",
        "5",
        "-o",
        output,
        "--resume",
        "--summary-json",
        summary,
    )
    assert ran.code == 0, ran.err
    assert output.read_text().startswith(before)
    counts = json.loads(summary.read_text())
    assert (counts["ok"], counts["reused"]) == (2, 3)
    assert "done before" in ran.err


def test_ten_bad_lines_of_a_hundred_are_ten_errors_in_their_places(
    cli: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    pictures = repository / "examples" / "shapes" / "images"
    good = sorted(pictures.iterdir())[0]
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    empty = tmp_path / "empty.png"
    empty.touch()
    bad = {
        3: ("{not json", "JSON"),
        14: (json.dumps({"prompt": "a", "images": ["missing.jpg"]}), "missing.jpg"),
        25: (json.dumps({"prompt": "a", "images": ["cut.jpg"]}), "cut.jpg"),
        36: (json.dumps({"images": [str(good)]}), "prompt"),
        47: (json.dumps({"prompt": 7}), "prompt"),
        58: (json.dumps({"prompt": "a", "max_new_tokens": 0}), "max_new_tokens"),
        69: (json.dumps({"prompt": "a", "images": ["empty.png"]}), "empty.png"),
        80: (json.dumps({"prompt": [{"role": "robot", "content": "a"}]}), "robot"),
        91: (json.dumps(["a"]), "object"),
        100: (json.dumps({"prompt": "a", "images": [str(tmp_path)]}), "folder"),
    }
    lines = [
        bad[n][0] if n in bad else json.dumps({"prompt": "How many shapes are there?", "images": [str(good)]})
        for n in range(1, 101)
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    output = tmp_path / "out.jsonl"
    ran = cli("generate", manifest, "--model", "shapes", "-o", output)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    answers = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(answers) == 100
    for number, answer in enumerate(answers, start=1):
        assert (answer["status"] == "error") == (number in bad)
        if number in bad:
            assert f"m.jsonl:{number}" in answer["error"]["message"]
            assert bad[number][1] in answer["error"]["message"]
        else:
            assert answer["generated_text"] == answers[0]["generated_text"]
