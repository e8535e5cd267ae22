"""The embedded model through the command, as a new user runs it: no network, no flags but its name."""

from __future__ import annotations

import json
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
    run = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert run["ended"] == "complete"
    assert run["model"]["architecture"] == "Idefics3ForConditionalGeneration"


def test_only_what_is_missing_is_done_when_going_on(
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
