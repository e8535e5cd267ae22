"""What holds for every engine: each key is answered once, a bad input fails alone, and inputs are taken as needed.

An engine without an example here fails. Packages that are not installed with the tests have stand-ins; the engines
over the real ones are in `heavy`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.engines.scripted_server import ScriptedServer
from tests.engines.served import config as served_config
from tests.engines.stand_ins import TheirModel, install_pixano, install_ray, install_vllm
from tests.fakes import FakeModel

import pixano_vlm.engines
from pixano_vlm.engines.base import EngineModel
from pixano_vlm.engines.openai.model import OpenAIVLMModel
from pixano_vlm.engines.pixano.adopted import AdoptedModel, adopt
from pixano_vlm.engines.ray.model import RayVLMModel, with_ray
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.engines.vllm.model import VLLMVLMModel
from pixano_vlm.errors import ModelLoadError, VLMError
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMModel, VLMOutput
from pixano_vlm.models.registry import BUILT_IN_CLASSES
from pixano_vlm.models.samples import answers_of
from pixano_vlm.shapes import MODEL_DIR

# Event loops and connections that are given up with a test's model: their packages' affair.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Make = Callable[[pytest.MonkeyPatch, ExitStack], Callable[..., VLMModel]]
"""Makes what makes a model; parameters change what it answers."""


def transformers(patch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[..., VLMModel]:
    return lambda **params: TransformersVLMModel(
        ModelDeploymentConfig(
            name="m", model_params={"path": str(MODEL_DIR), "dtype": "float32", "max_batch_size": 4, **params}
        )
    )


def served(patch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[..., VLMModel]:
    pytest.importorskip("openai")
    server = stack.enter_context(ScriptedServer())
    return lambda **params: OpenAIVLMModel(served_config(server.url, **params))


def in_vllm(patch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[..., VLMModel]:
    install_vllm(patch)
    return lambda **params: VLLMVLMModel(
        ModelDeploymentConfig(name="m", model_params={"path": str(MODEL_DIR), "max_batch_size": 4, **params})
    )


class Opening(FakeModel):
    """A model of a worker: opens the images that it is asked about."""

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__()
        self.config = config


def on_ray(patch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[..., VLMModel]:
    install_ray(patch)
    return lambda **params: with_ray(
        ModelDeploymentConfig(name="m", model_class="TransformersVLMModel", model_params=params),
        Opening,
        workers=2,
    )


def adopted(patch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[..., VLMModel]:
    install_pixano(patch)
    return lambda **params: adopt(TheirModel)(ModelDeploymentConfig(name="m", model_params=params))


EXAMPLES: dict[type[VLMModel], tuple[Make, dict[str, Any]]] = {
    TransformersVLMModel: (transformers, {"processor_kwargs": {"do_image_splitting": False}}),
    OpenAIVLMModel: (served, {"model": "other"}),
    VLLMVLMModel: (in_vllm, {"engine_args": {"max_model_len": 64}}),
    RayVLMModel: (on_ray, {"path": "other"}),
    AdoptedModel: (adopted, {"path": "other"}),
}
"""Engine -> what makes a model that runs on it, and a parameter that may change its answers."""
MOST_AHEAD = 600
"""Inputs that an engine may take before it has answered any."""


def engines() -> set[type[VLMModel]]:
    """Every class of this package that is a model, those that only others derive from left out."""
    for module in pkgutil.walk_packages(pixano_vlm.engines.__path__, "pixano_vlm.engines."):
        if not module.name.endswith(".served"):  # our models in another server: no engine of ours
            importlib.import_module(module.name)
    found, waiting = set(), [VLMModel]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("pixano_vlm.engines.") and kind is not EngineModel:
            found.add(kind)
    return {kind for kind in found if "theirs" not in kind.__dict__}


@pytest.fixture(params=EXAMPLES, ids=lambda kind: kind.__name__)
def make(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., VLMModel]]:
    with ExitStack() as stack:
        yield EXAMPLES[request.param][0](monkeypatch, stack)


@pytest.fixture
def model(make: Callable[..., VLMModel]) -> Iterator[VLMModel]:
    model = make()
    model.load_model()
    yield model
    model.unload()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def ask(image: Path, number: int = 0, **settings: Any) -> VLMInput:
    return VLMInput(
        **{"prompt": f"Q {number}?", "images": [image], "max_new_tokens": 2, "temperature": 0, **settings}
    )


def test_every_engine_has_an_example() -> None:
    assert engines() == set(EXAMPLES)
    assert {kind.__name__ for kind in EXAMPLES} >= set(BUILT_IN_CLASSES)


def test_each_key_is_answered_once_and_a_bad_input_fails_alone(model: VLMModel, image: Path) -> None:
    inputs = {n: ask(image, n) for n in range(12)}
    inputs[3] = inputs[8] = ask(image.with_name("gone.png"))
    before = {key: input.model_copy(deep=True) for key, input in inputs.items()}
    answers = list(model.stream(iter(inputs.items())))
    assert sorted(key for key, _ in answers) == sorted(inputs)
    for key, answer in answers:
        if key in (3, 8):
            assert isinstance(answer, VLMError)
            assert "gone.png" in str(answer)
            continue
        assert isinstance(answer, VLMOutput), answer
        usage = answer.usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
        assert answer.generation_config["max_new_tokens"] == 2
    assert inputs == before


def test_an_input_of_several_samples_is_answered_once_with_all_of_them(model: VLMModel, image: Path) -> None:
    several = ask(image, 1, n=3, temperature=1.0, seed=5)
    inputs = [(0, ask(image)), (1, several), (2, ask(image.with_name("gone.png"), n=2, temperature=1.0))]
    found = dict(answers_of(model, inputs))
    assert len(found) == 3
    assert isinstance(found[0], VLMOutput)
    assert found[0].samples is None
    assert isinstance(found[1], VLMOutput)
    assert len(found[1].samples or []) == 3
    assert found[1].generated_text in {sample.generated_text for sample in found[1].samples or []}
    assert isinstance(found[2], VLMError)


def test_one_input_is_a_stream_of_one(model: VLMModel, image: Path) -> None:
    ((_, answer),) = model.stream([(0, ask(image))])
    assert isinstance(answer, VLMOutput)
    assert model.predict(ask(image)) == answer
    with pytest.raises((VLMError, FileNotFoundError), match=r"gone\.png"):
        model.predict(ask(image.with_name("gone.png")))


def test_inputs_are_taken_as_they_are_needed_and_what_is_left_is_forgotten(
    model: VLMModel, image: Path
) -> None:
    taken = count()

    def endless() -> Iterator[tuple[int, VLMInput]]:
        for number in taken:
            yield number, ask(image, number)

    answers = model.stream(endless())
    first = [key for key, _ in islice(answers, 3)]
    assert len(set(first)) == 3
    answers.close()  # type: ignore[attr-defined]  # every engine's is a generator
    assert next(taken) <= MOST_AHEAD
    assert [key for key, _ in model.stream([("again", ask(image))])] == ["again"]


def test_no_inputs_give_no_answers(model: VLMModel) -> None:
    assert list(model.stream([])) == []


def test_what_is_not_loaded_says_so(make: Callable[..., VLMModel], image: Path) -> None:
    model = make()
    if isinstance(model, EngineModel):
        with pytest.raises(ModelLoadError, match="is not loaded"):
            list(model.stream([(0, ask(image))]))


def test_it_is_loaded_and_unloaded_as_often_as_wanted(make: Callable[..., VLMModel], image: Path) -> None:
    model = make()
    model.unload()
    texts = []
    for _ in range(2):
        model.load_model()
        model.load_model()
        texts.append(model.predict(ask(image)).generated_text)
        model.unload()
        model.unload()
    assert texts[0] == texts[1]


def test_its_fingerprint_needs_no_loading_and_tells_other_answers(
    make: Callable[..., VLMModel], request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["make"]
    assert make().fingerprint() == make().fingerprint() != make(**EXAMPLES[kind][1]).fingerprint()


def test_it_describes_itself_in_plain_values(model: VLMModel) -> None:
    facts = model.describe()
    assert facts
    assert all(isinstance(value, str | int | float | bool | None) for value in facts.values())
    assert all(isinstance(notice, str) for notice in model.notices())
