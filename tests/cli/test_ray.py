"""The flags of `--ray`: what they ask for, and what is said where Ray is missing. No Ray runs here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.models import ModelDeploymentConfig, VLMModel

pytestmark = pytest.mark.once

MANIFEST = "examples/shapes/manifest.jsonl"


@pytest.fixture
def generate(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, repository: Path, tmp_path: Path
) -> Callable[..., Any]:
    monkeypatch.chdir(repository)
    return lambda *args: cli("generate", *args, "--model", "shapes", "-o", tmp_path / "out.jsonl")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `with_ray` is called with; the model then runs here."""
    calls: list[dict[str, Any]] = []

    def with_ray(config: ModelDeploymentConfig, create: Callable[..., VLMModel], **pool: Any) -> VLMModel:
        calls.append({"model": config.name, **pool})
        return create(config)

    monkeypatch.setattr("pixano_vlm.engines.ray.model.with_ray", with_ray)
    return calls


def test_without_ray_it_says_what_to_install(
    generate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = generate(MANIFEST, "--ray", "--workers", "2")
    assert ran.code == 3
    assert "hint: Run: pip install 'pixano-vlm[ray]'" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("args", "address", "workers", "gpus"),
    [
        ([MANIFEST, "--ray"], None, 1, None),
        (["--ray", MANIFEST], None, 1, None),
        ([MANIFEST, "--ray", "--workers", "2"], None, 2, None),
        ([MANIFEST, "--ray", "10.0.0.1:6379", "--workers", "64"], "10.0.0.1:6379", 64, None),
        (["--ray", "head.example:6379", MANIFEST], "head.example:6379", 1, None),
        ([MANIFEST, "--ray=auto", "--gpus-per-worker", "0.5"], "auto", 1, 0.5),
    ],
)
def test_the_address_may_be_left_out(
    generate: Callable[..., Any],
    asked: list[dict[str, Any]],
    args: list[str],
    address: str | None,
    workers: int,
    gpus: float | None,
) -> None:
    assert generate(*args, "--limit", "1").code == 0
    assert asked == [{"model": "shapes", "address": address, "workers": workers, "gpus_per_worker": gpus}]


def test_the_run_file_holds_the_command_as_it_was_given(
    generate: Callable[..., Any], asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    generate(MANIFEST, "--limit", "1", "--ray", "--workers", "2")
    command = json.loads((tmp_path / "out.jsonl.run.json").read_text())["command"]
    assert command[command.index("--ray") + 1] == "--workers"


@pytest.mark.parametrize("flags", [["--workers", "2"], ["--gpus-per-worker", "1"]])
def test_workers_without_ray_are_refused(generate: Callable[..., Any], flags: list[str]) -> None:
    ran = generate(MANIFEST, *flags)
    assert ran.code == 2
    assert flags[0] in ran.err
    assert "--ray" in ran.err
