"""How many tokens fit beside the weights, as the system counts what is free."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pixano_vlm.engines.transformers import device
from pixano_vlm.engines.transformers.device import CPU_SHARE, MOST_TOKENS, tokens_that_fit

CPU = torch.device("cpu")
GIB = 2**30


def group(folder: Path, limit: str, used: int, files: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - files}\nfile {files}\ninactive_file {files}\n")
    return folder


def test_a_container_has_what_its_limit_leaves_and_the_files_it_has_read_do_not_count(tmp_path: Path) -> None:
    assert device._left_in_group(group(tmp_path, str(4 * GIB), used=3 * GIB, files=2 * GIB)) == 3 * GIB


@pytest.mark.parametrize("limit", ["max", "", "many"])
def test_a_group_without_a_limit_has_all_that_the_machine_has(limit: str, tmp_path: Path) -> None:
    assert device._left_in_group(group(tmp_path, limit, used=GIB, files=0)) == float("inf")
    assert device._left_in_group(tmp_path / "none") == float("inf")


def test_tokens_share_what_is_free_with_the_states_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_available", lambda: 8.0 * GIB)
    monkeypatch.setattr(device, "_left_in_group", lambda: 4.0 * GIB)
    share = int(CPU_SHARE * 4 * GIB)
    assert tokens_that_fit(CPU, token_bytes=2**20) == share // 2**20
    assert tokens_that_fit(CPU, token_bytes=2**20, beside=share // 2) == share // 2 // 2**20
    assert tokens_that_fit(CPU, token_bytes=2**20, beside=2 * share) == 1, "one record runs all the same"
    assert tokens_that_fit(CPU, token_bytes=1) == MOST_TOKENS
    assert tokens_that_fit(CPU, token_bytes=0) == MOST_TOKENS


def test_this_machine_has_memory() -> None:
    assert device._available() > 2**20
