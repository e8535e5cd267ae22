"""Each tiny checkpoint loads as any other does, and answers differently when its prompt or its picture does.

These are the assumptions of every test that compares the engine with `tests.tiny.reference`: a model that
always says the same would make any engine look exact.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.tiny import ARCHITECTURES, build
from tests.tiny.reference import generate_alone
from transformers import AutoModelForImageTextToText, AutoProcessor

# transformers 5.23 hands tensors to numpy in an old way in some processors (PaliGemma, GLM-4V).
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

PROMPTS = ("What colour is the largest shape?", "Describe the image.", "0 1 2 3 5")
PICTURES = 4
Loaded = tuple[Any, Any]


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """A picture of noise in blocks, different for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    """The model and processor of an architecture, built and loaded once a session."""
    cache: dict[str, Loaded] = {}
    folder = tmp_path_factory.mktemp("tiny")

    def load(name: str) -> Loaded:
        if name not in cache:
            path = build(name, folder / name)
            cache[name] = (
                AutoModelForImageTextToText.from_pretrained(path),
                AutoProcessor.from_pretrained(path),
            )
        return cache[name]

    return load


@pytest.fixture(scope="session")
def answer(loaded: Callable[[str], Loaded]) -> Callable[[str, str, int], tuple[int, ...]]:
    """`answer(name, prompt, seed)`: the tokens about one picture of its seed, generated once a session."""

    @cache
    def tokens(name: str, prompt: str, seed: int) -> tuple[int, ...]:
        return tuple(generate_alone(*loaded(name), prompt, [picture(seed)]))

    return tokens


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(params=ARCHITECTURES)
def name(request: pytest.FixtureRequest) -> str:
    """Each architecture that this environment can build; the others are skipped with what they need."""
    builder = ARCHITECTURES[request.param]
    if builder.missing:
        pytest.skip(f"{builder.name} needs {' and '.join(builder.missing)}")
    return builder.name


def test_the_answer_depends_on_the_image(
    name: str, answer: Callable[[str, str, int], tuple[int, ...]]
) -> None:
    """At least two of four pictures get different answers to the same prompt."""
    first = answer(name, PROMPTS[0], 0)
    assert any(answer(name, PROMPTS[0], seed) != first for seed in range(1, PICTURES))


def test_the_answer_depends_on_the_prompt(
    name: str, answer: Callable[[str, str, int], tuple[int, ...]]
) -> None:
    """At least two of three prompts get different answers about the same picture."""
    if not ARCHITECTURES[name].prompts:
        pytest.skip(f"{name} takes no prompt")
    first = answer(name, PROMPTS[0], 0)
    assert any(answer(name, prompt, 0) != first for prompt in PROMPTS[1:])


def test_the_answer_has_several_tokens(name: str, answer: Callable[[str, str, int], tuple[int, ...]]) -> None:
    """Answers do not repeat one token, and none is longer than asked."""
    answers = [answer(name, PROMPTS[0], seed) for seed in range(PICTURES)]
    assert all(1 <= len(found) <= 16 for found in answers)
    assert len({token for found in answers for token in found}) > PICTURES


def test_a_prompt_without_an_image(name: str, loaded: Callable[[str], Loaded]) -> None:
    """An architecture that is said to take text alone does."""
    if ARCHITECTURES[name].min_images:
        pytest.skip(f"{name} wants a picture")
    assert generate_alone(*loaded(name), PROMPTS[0], max_new_tokens=4)


def test_the_checkpoint_has_the_template_it_is_said_to_have(
    name: str, loaded: Callable[[str], Loaded]
) -> None:
    """`chat` tells what was saved."""
    _, processor = loaded(name)
    assert ARCHITECTURES[name].chat == bool(getattr(processor, "chat_template", None))


def test_two_images_of_different_sizes(name: str, loaded: Callable[[str], Loaded]) -> None:
    """An architecture that is said to take several pictures does, and the second one counts."""
    if ARCHITECTURES[name].max_images == 1:
        pytest.skip(f"{name} takes one picture")
    model, processor = loaded(name)
    answers = {
        tuple(generate_alone(model, processor, PROMPTS[0], [picture(0), picture(seed, 88, 48)]))
        for seed in range(1, PICTURES)
    }
    assert len(answers) > 1


def test_some_answers_end_early(loaded: Callable[[str], Loaded]) -> None:
    """The end token is generated now and then, so that tests of early ends have something to see."""
    model, processor = loaded("idefics3")
    answers = [generate_alone(model, processor, PROMPTS[0], [picture(seed)], 24) for seed in range(12)]
    ended = [answer[-1] == processor.tokenizer.eos_token_id for answer in answers]
    assert any(ended)
    assert not all(ended)


def test_the_same_seed_builds_the_same_weights(tmp_path: Path) -> None:
    """A checkpoint is told by its name and seed."""
    folders = [build("idefics3", tmp_path / str(index), seed) for index, seed in enumerate((0, 0, 1))]
    first, again, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == again
    assert first != other
