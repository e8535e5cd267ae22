"""Every engine whose package is not there says which extra installs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
models:
  - {name: in-vllm, model_class: VLLMVLMModel, model_params: {path: .}}
  - {name: served, model_class: OpenAIVLMModel, model_params: {base_url: 'http://127.0.0.1:1/v1'}}
"""


@pytest.mark.parametrize(
    ("module", "flags", "code"),
    [
        ("vllm", ["-m", "in-vllm"], 3),
        ("openai", ["-m", "served"], 3),
        ("pixano_inference", ["--plugin", "examples/pixano_server/their_model.py", "-m", "theirs"], 2),
    ],
)
def test_it_names_the_package_and_the_command_that_installs_it(
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    repository: Path,
    module: str,
    flags: list[str],
    code: int,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(repository)
    (tmp_path / "models.yaml").write_text(CONFIG)
    manifest = "examples/shapes/manifest.jsonl"
    ran = cli(
        "generate", manifest, "--config", tmp_path / "models.yaml", *flags, "-o", tmp_path / "out.jsonl"
    )
    assert ran.code == code
    assert module in ran.err
    extra = module.removesuffix("_inference")
    assert f"Run: pip install 'pixano-vlm[{extra}]'" in ran.err
    assert "Traceback" not in ran.err
