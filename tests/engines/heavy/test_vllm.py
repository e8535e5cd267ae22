"""vLLM in process, held against vLLM by hand. Needs an environment with vLLM: `make test-engines`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")
pytestmark = [pytest.mark.engines, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[3]
MODEL = REPOSITORY / "src" / "pixano_vlm" / "shapes" / "model"
MANIFEST = REPOSITORY / "examples" / "shapes" / "manifest.jsonl"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY / "src"),
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",
}

CONFIG = f"""
models:
  - name: shapes-vllm
    model_class: VLLMVLMModel
    model_params:
      path: {MODEL}
      dtype: float32
      max_batch_size: 16
      engine_args: {{enforce_eager: true, max_model_len: 256}}
"""


def peer(way: str, rounds: int) -> dict[str, Any]:
    script = Path(__file__).with_name("vllm_peer.py")
    done = subprocess.run(
        [sys.executable, str(script), way, str(MODEL), str(MANIFEST), str(rounds)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def generate(tmp_path: Path, config: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "models.yaml").write_text(config)
    command = [sys.executable, "-m", "pixano_vlm", "generate", str(MANIFEST), "--config", "models.yaml"]
    return subprocess.run(
        [*command, "-m", "shapes-vllm", "-o", "out.jsonl", *flags],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_gives_the_tokens_that_vllm_gives_by_hand_in_no_more_than_its_time() -> None:
    ours, theirs = peer("engine", 5), peer("direct", 5)
    assert ours["tokens"] == theirs["tokens"]
    assert min(ours["seconds"]) <= 1.05 * min(theirs["seconds"])


def test_the_command_runs_it_and_answers_are_right(tmp_path: Path) -> None:
    done = generate(tmp_path, CONFIG)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    right = sum(line["generated_text"] == line["metadata"]["answer"] for line in lines)
    assert len(lines) == 96
    assert right >= 90


def test_a_misspelt_engine_argument_is_told_with_the_nearest(tmp_path: Path) -> None:
    done = generate(tmp_path, CONFIG.replace("enforce_eager", "enforce_eagre"))
    assert done.returncode == 2
    assert "Did you mean 'enforce_eager'?" in done.stderr
