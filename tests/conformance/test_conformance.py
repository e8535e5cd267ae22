"""The suite as tests: a short form, and the whole of it behind a marker.

Architectures whose processors need torchvision are skipped where it is missing; `make test-models` has it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.batching.workload import draw_pictures, load, requests
from tests.conformance.running import Alone, compare, examine
from tests.conformance.unheard_of import write_unheard_of
from tests.tiny import ARCHITECTURES

# transformers 5.23 hands tensors to numpy in an old way in some processors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHORT = ("qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "gemma3", "idefics3", "mllama", "florence2")
"""The popular ones, and one of each way of batching."""

HEEDLESS = {"blip"}
"""Whose own `generate` heeds one end token alone, which random weights hardly ever choose."""


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


def check(name: str, folder: Path) -> None:
    missing = ARCHITECTURES[name].missing
    if missing:
        pytest.skip(f"{name} needs {', '.join(missing)}; `make test-models` has them")
    finding = examine(name, folder)
    assert not finding.failure
    assert not finding.wrong
    assert finding.runs
    assert finding.ended_early or name in HEEDLESS, "some answers end by an end token"


@pytest.mark.parametrize("name", SHORT)
def test_batching_changes_no_token_of_the_popular_architectures(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.models
@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(SHORT)))
def test_batching_changes_no_token_of_any_architecture(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


def test_an_architecture_that_nobody_has_heard_of_works_the_first_time(tmp_path: Path) -> None:
    path = write_unheard_of(tmp_path / "model")
    inputs = requests("llava", draw_pictures(tmp_path, 4), 12, longest=40)
    alone = Alone(path)
    wanted = [alone.answer(request) for request in inputs]
    model = load(path, max_batch_size=4)
    capabilities = model._require().capabilities
    assert capabilities.in_flight, capabilities.reason
    assert capabilities.shared_prefill, capabilities.reason
    assert not [difference for difference in compare(model, inputs, wanted) if difference]
