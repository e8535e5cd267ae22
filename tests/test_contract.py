"""The documented contract of `pixano_vlm.models`: names, fields, defaults, errors, and the example."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pixano_vlm.errors import (
    DuplicateModelError,
    GenerationError,
    ImageError,
    PluginError,
    RunError,
    UnknownModelError,
)
from pixano_vlm.models import (
    GenerationSettings,
    InferenceModel,
    Limits,
    ModelDeploymentConfig,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
    register_model,
)
from pixano_vlm.models.generation import DEFAULT_GENERATION
from pixano_vlm.models.registry import CLASSES, ClassRegistry, ModelRegistry

USAGE = UsageInfo(prompt_tokens=1, completion_tokens=2, total_tokens=3)

pytestmark = pytest.mark.usefixtures("classes")


def required(model: Any) -> set[str]:
    return {name for name, field in model.model_fields.items() if field.is_required()}


def defaults(model: Any) -> dict[str, Any]:
    return {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in model.model_fields.items()
        if not field.is_required()
    }


class TestTypes:
    def test_usage_info_requires_its_three_counts(self) -> None:
        assert required(UsageInfo) == {"prompt_tokens", "completion_tokens", "total_tokens"}

    def test_vlm_input_requires_a_prompt_and_max_new_tokens(self) -> None:
        assert required(VLMInput) == {"prompt", "max_new_tokens"}

    def test_vlm_inputs_defaults_are_the_documented_ones_and_what_was_added_is_open(self) -> None:
        known = defaults(VLMInput)
        assert known.pop("images") is None
        assert known.pop("temperature") == 1.0
        assert set(known.values()) == {None}

    def test_vlm_output_requires_the_text_and_the_usage(self) -> None:
        assert required(VLMOutput) == {"generated_text", "usage"}
        assert defaults(VLMOutput) == {
            "generation_config": {}, "finish_reason": None, "parsed": None, "reasoning": None, "confidence": None,
            "probabilities": None, "logprobs": None, "field_confidence": None, "regions": None, "image_sizes": None,
            "samples": None, "agreement": None, "reasoning_tokens": None,
        }  # fmt: skip

    def test_a_prompt_is_a_string_or_a_list_of_messages(self) -> None:
        messages = [{"role": "user", "content": "hello"}]
        assert VLMInput(prompt=messages, max_new_tokens=1).prompt == messages
        assert VLMInput(prompt="hello", images=["a.jpg", Path("b.jpg")], max_new_tokens=1).images

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"prompt": "a"},
            {"prompt": 3, "max_new_tokens": 1},
            {"prompt": "a", "max_new_tokens": 0},
            {"prompt": "a", "max_new_tokens": 1, "temperature": -0.1},
            {"prompt": "a", "max_new_tokens": 1, "temperature": float("nan")},
            {"prompt": "a", "max_new_tokens": 1, "images": "a.jpg"},
            {"prompt": "a", "max_new_tokens": 1, "max_tokens": 2},
            {"prompt": "a", "max_new_tokens": 1, "top_p": 0},
            {"prompt": "a", "max_new_tokens": 1, "seed": -1},
        ],
    )
    def test_bad_data_raises_pydantics_validation_error(self, values: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            VLMInput(**values)

    @pytest.mark.parametrize("kind", [UsageInfo, VLMOutput, ModelDeploymentConfig])
    def test_so_do_the_other_types(self, kind: Any) -> None:
        with pytest.raises(ValidationError):
            kind(nonsense=1)

    def test_a_generation_config_is_not_shared_between_outputs(self) -> None:
        first, second = (VLMOutput(generated_text="a", usage=USAGE) for _ in range(2))
        first.generation_config["a"] = 1
        assert second.generation_config == {}


class TestSettings:
    def test_the_nearer_settings_win_and_open_ones_are_filled(self) -> None:
        near, far = GenerationSettings(temperature=0), GenerationSettings(temperature=1, top_k=5)
        assert near.over(far) == GenerationSettings(temperature=0, top_k=5)

    def test_the_defaults_are_the_documented_ones(self) -> None:
        assert GenerationSettings(max_new_tokens=128, temperature=1.0) == DEFAULT_GENERATION


class TestClasses:
    def test_the_documented_example_runs_as_it_stands(self) -> None:
        class Weights:
            def generate(self, prompt: Any, images: Any) -> str:
                return f"{prompt} {images}"

        def load_weights(path: str) -> Weights:
            assert path == "some/where"
            return Weights()

        @register_model("my-vlm")
        class MyVLM(VLMModel):
            def load_model(self):  # type: ignore[no-untyped-def]
                self.model = load_weights(self.config.model_params["path"])

            def predict(self, input: VLMInput) -> VLMOutput:
                text = self.model.generate(input.prompt, input.images)
                return VLMOutput(generated_text=text, usage=USAGE, generation_config={"a": 1})

        params = {"path": "some/where"}
        config = ModelDeploymentConfig(
            name="mine", capability="vlm", model_class="my-vlm", model_params=params
        )
        model = CLASSES.get("my-vlm")(config)
        model.load_model()
        answer = model.predict(VLMInput(prompt="hello", images=["a.jpg"], max_new_tokens=5))
        assert answer.generated_text == "hello ['a.jpg']"
        assert model.config is config
        assert model.model_name == "mine"
        assert model.metadata == {"model_name": "mine", "capability": "vlm", "model_class": "my-vlm"}
        model.unload()
        assert not hasattr(model, "model")

    def test_the_bases_are_abstract(self) -> None:
        config = ModelDeploymentConfig(name="a")
        assert issubclass(VLMModel, InferenceModel)
        assert VLMModel.capability_name == "vlm"
        assert InferenceModel.__abstractmethods__ == {"load_model", "predict"}
        assert VLMModel.__abstractmethods__ == {"load_model", "predict"}
        with pytest.raises(TypeError):
            VLMModel(config)  # type: ignore[abstract]


class Scripted(VLMModel):
    """Raises the exceptions and gives the outputs it is told, one a prompt."""

    script: dict[str, Any]

    def load_model(self) -> None: ...

    def predict(self, input: VLMInput) -> VLMOutput:
        step = self.script.get(str(input.prompt))
        if isinstance(step, Exception):
            raise step
        return VLMOutput(generated_text=str(input.prompt), usage=USAGE)


class TestStream:
    def model(self, **script: Any) -> Scripted:
        model = Scripted(ModelDeploymentConfig(name="scripted"))
        model.script = script
        return model

    def inputs(self, prompts: Any) -> Iterator[tuple[str, VLMInput]]:
        return ((prompt, VLMInput(prompt=prompt, max_new_tokens=1)) for prompt in prompts)

    def test_each_key_is_answered_exactly_once(self) -> None:
        answers = list(self.model().stream(self.inputs("abc")))
        assert [(key, answer.generated_text) for key, answer in answers if isinstance(answer, VLMOutput)] == [
            ("a", "a"),
            ("b", "b"),
            ("c", "c"),
        ]

    def test_a_failed_input_is_answered_with_its_error_and_the_rest_continue(self) -> None:
        error = ImageError("not a picture.")
        answers = dict(self.model(b=error).stream(self.inputs("abc")))
        assert answers["b"] is error
        assert isinstance(answers["c"], VLMOutput)

    def test_whatever_a_class_raises_is_that_records_error(self) -> None:
        answers = dict(self.model(b=ZeroDivisionError("oh")).stream(self.inputs("abc")))
        assert isinstance(answers["b"], GenerationError)
        assert "ZeroDivisionError: oh" in str(answers["b"])

    def test_a_run_error_ends_the_stream(self) -> None:
        stream = self.model(b=RunError("gone.")).stream(self.inputs("abc"))
        next(stream)
        with pytest.raises(RunError):
            next(stream)

    def test_inputs_are_taken_lazily(self) -> None:
        taken = count()

        def endless() -> Iterator[tuple[int, VLMInput]]:
            for number in taken:
                yield number, VLMInput(prompt="a", max_new_tokens=1)

        assert len(list(islice(self.model().stream(endless()), 10))) == 10
        assert next(taken) <= 11

    def test_the_limits_are_the_default_ones_until_set(self) -> None:
        assert self.model().limits == Limits()

    def test_a_fingerprint_tells_parameters_apart(self) -> None:
        prints = {
            Scripted(ModelDeploymentConfig(name="a", model_params={"path": path})).fingerprint()
            for path in "ab"
        }
        assert len(prints) == 2


class TestRegistry:
    def test_without_a_name_a_class_is_registered_under_its_own(self) -> None:
        @register_model()
        class Called(Scripted): ...

        @register_model
        class Bare(Scripted): ...

        assert CLASSES.get("Called") is Called
        assert CLASSES.get("Bare") is Bare

    def test_a_second_class_under_a_taken_name_is_an_error(self) -> None:
        @register_model("taken")
        class First(Scripted): ...

        with pytest.raises(DuplicateModelError, match="'taken' is already registered by"):

            @register_model("taken")
            class Second(Scripted): ...

        assert CLASSES.get("taken") is First

    def test_a_class_that_is_defined_again_takes_its_own_place_and_one_of_another_module_does_not(
        self,
    ) -> None:
        text = "@register_model('renewed')\nclass Renewed(Scripted): ..."

        def define(module: str) -> object:
            names = {"__name__": module, "register_model": register_model, "Scripted": Scripted}
            exec(text, names)
            return names["Renewed"]

        earlier, latest = define("first"), define("first")
        assert earlier is not latest
        assert CLASSES.get("renewed") is latest
        with pytest.raises(DuplicateModelError, match=r"'renewed' is already registered by first\.Renewed"):
            define("second")
        assert CLASSES.get("renewed") is latest

    def test_the_packages_own_class_cannot_be_replaced(self) -> None:
        with pytest.raises(DuplicateModelError, match="this package's own"):
            register_model("TransformersVLMModel")(Scripted)

    def test_an_unknown_name_lists_what_there_is_and_the_nearest(self) -> None:
        with pytest.raises(UnknownModelError) as caught:
            CLASSES.get("TransformerVLM")
        assert "TransformersVLMModel" in caught.value.message
        assert caught.value.hint is not None
        assert "Did you mean 'TransformersVLMModel'?" in caught.value.hint

    def test_only_models_can_be_registered(self) -> None:
        with pytest.raises(TypeError, match="InferenceModel"):
            register_model("thing")(int)  # type: ignore[type-var]

    def test_an_installed_package_brings_classes_by_entry_point(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[test.models]\ntheir-vlm = their_module:Theirs\nbroken = no_such_module\n"
        )
        (tmp_path / "their_module.py").write_text(
            "from pixano_vlm.models import VLMModel\n"
            "class Theirs(VLMModel):\n"
            "    def load_model(self): ...\n"
            "    def predict(self, input): ...\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        registry = ClassRegistry(group="test.models")
        assert registry.names() == ["broken", "their-vlm"]
        assert registry.get("their-vlm").__name__ == "Theirs"
        with pytest.raises(PluginError, match="no_such_module"):
            registry.get("broken")

    @pytest.mark.parametrize("was_enabled", [True, False])
    def test_no_garbage_is_looked_for_while_an_engine_is_imported_and_only_then(
        self, was_enabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "an_engine.py").write_text(
            "import gc\nraise ImportError(f'collected: {gc.isenabled()}')\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        registry = ClassRegistry({"AnEngine": "an_engine"})
        assert gc.isenabled()
        if not was_enabled:
            gc.disable()
        try:
            with pytest.raises(ImportError, match="collected: False"):
                registry.get("AnEngine")
            assert gc.isenabled() == was_enabled
        finally:
            gc.enable()

    def test_a_model_registry_keeps_the_order_and_the_source(self) -> None:
        registry = ModelRegistry()
        for name in ("b", "a"):
            registry.add(ModelDeploymentConfig(name=name), f"{name}.yaml:1")
        assert registry.names() == ["b", "a"]
        assert registry.source("a") == "a.yaml:1"
        assert len(registry) == 2
        assert registry.get("c") is None
        with pytest.raises(DuplicateModelError, match=r"already registered by b\.yaml:1"):
            registry.add(ModelDeploymentConfig(name="b"), "c.yaml:1")
