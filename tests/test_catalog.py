"""The catalog: config files, names, plugins, and where weights are."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pixano_vlm.catalog import (
    built_in_configs,
    create_model,
    load_catalog,
    load_plugin,
    resolve_model,
    resolve_path,
    user_configs,
    weights_on_disk,
)
from pixano_vlm.errors import (
    ConfigError,
    DuplicateModelError,
    PixanoVLMError,
    PluginError,
    UnknownModelError,
)
from pixano_vlm.models import ModelDeploymentConfig, VLMModel

Write = Callable[[str, str], Path]
Table = dict[str, dict[str, Any]]

PLUGIN = """
from pixano_vlm.models import UsageInfo, VLMModel, VLMOutput, register_model


@register_model("{name}")
class Echo(VLMModel):
    def load_model(self):
        pass

    def predict(self, input):
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=str(input.prompt), usage=usage)
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_text(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write_text


@pytest.fixture(scope="module")
def table() -> Table:
    """What a run found of each architecture: docs/reference/models.json."""
    file = Path(__file__).parents[1] / "docs" / "reference" / "models.json"
    types: Table = json.loads(file.read_text(encoding="utf-8"))["types"]
    return types


def config_error(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_catalog([file])
    return str(caught.value)


class TestBuiltInModels:
    def test_there_are_at_least_25_and_each_says_what_it_is(self) -> None:
        models = list(load_catalog())
        assert len(models) >= 25
        for model in models:
            assert len(model.description) > 15, model.name

    def test_a_name_is_short_and_lower_case(self) -> None:
        for name in load_catalog().names():
            assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name), name

    def test_every_path_is_a_hugging_face_id_but_the_embedded_ones(self) -> None:
        for model in load_catalog():
            path = model.model_params["path"]
            assert re.fullmatch(r"[\w.-]+/[\w.-]+|package:[\w.]+/\w+", path), path

    def test_no_two_names_stand_for_the_same_weights(self) -> None:
        paths = [model.model_params["path"].lower() for model in load_catalog()]
        assert len(set(paths)) == len(paths)

    def test_the_popular_families_are_there(self) -> None:
        names = " ".join(load_catalog().names())
        families = (
            "shapes", "smolvlm", "qwen2.5-vl", "qwen3-vl", "llava-1.5", "llava-v1.6", "llava-onevision",
            "internvl3", "gemma-3", "paligemma2", "idefics3", "pixtral", "mistral-small", "florence-2",
            "blip2",
        )  # fmt: skip
        for family in families:
            assert family in names, family

    def test_transformers_knows_every_architecture_or_the_description_names_the_release_that_does(
        self,
    ) -> None:
        import transformers
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as known

        for model in load_catalog():
            needed = re.search(r"transformers ([\d.]+\d)", model.description)
            lacking = needed is not None and Version(transformers.__version__) < Version(needed[1])
            assert (model.architecture in known) is not lacking, model.name

    def test_every_architecture_runs_and_is_exact_as_the_table_of_models_found(self, table: Table) -> None:
        for model in load_catalog():
            found = table[model.architecture]
            assert found["runs"], model.name
            assert found["exact"], model.name

    def test_the_description_says_when_torchvision_is_needed(self, table: Table) -> None:
        # Its checkpoint names another processor than its architecture's own.
        needed = {name: found["torchvision"] for name, found in table.items()} | {"pixtral-12b": True}
        for model in load_catalog():
            expected = needed.get(model.name, needed[model.architecture])
            assert ("torchvision" in model.description) == expected, model.name

    def test_each_says_how_large_it_is_and_under_which_license(self) -> None:
        for model in load_catalog():
            assert model.parameters, model.name
            assert model.memory_gb == 2 * model.parameters, "bfloat16: two bytes a parameter"
            assert re.fullmatch(r"[A-Z][\w.-]+( [\w.()'-]+)*|see the model card", model.license), model.name

    def test_the_parameters_are_those_that_the_name_says(self) -> None:
        """A name counts its language model, or all of it, rounded: never less than there is by much."""
        effective = {
            "gemma-3n-e2b-it": "it counts no embeddings of single layers",
            "gemma-4-e2b-it": "it counts no embeddings of single layers",
            "llama-4-scout-17b-16e-instruct": "it counts the active parameters of one token",
        }
        compared = 0
        for model in load_catalog():
            said = re.search(r"-(\d+(?:\.\d+)?)([bm])\b", model.name)
            if said is None or model.name in effective:
                continue
            assert model.parameters is not None
            billions = float(said[1]) * (1 if said[2] == "b" else 0.001)
            assert 0.85 * billions <= model.parameters <= 2.2 * billions, model.name
            # A large language model dwarfs the encoder beside it.
            assert billions < 4 or model.parameters <= 1.25 * billions, model.name
            compared += 1
        assert compared > 40

    def test_the_embedded_model_is_as_large_as_its_file(self) -> None:
        shapes = load_catalog().get("shapes")
        assert shapes is not None
        assert shapes.memory_gb is not None
        file = Path(resolve_path(shapes.model_params["path"]), "model.safetensors")
        assert file.stat().st_size == pytest.approx(2e9 * shapes.memory_gb, rel=0.05), "it is in float32"

    def test_greedy_is_the_default_of_every_one(self) -> None:
        assert all(model.generation.temperature == 0 for model in load_catalog())


class TestConfigFiles:
    @pytest.mark.parametrize("key", ["license", "licence"])
    def test_both_spellings_of_license_are_read(self, write: Write, key: str) -> None:
        file = write("my.yaml", f"models: [{{name: mine, {key}: MIT, model_params: {{path: me/mine}}}}]")
        mine = load_catalog([file]).get("mine")
        assert mine is not None
        assert mine.license == "MIT"
        assert mine.model_dump()["license"] == "MIT"

    def test_one_license_is_given_not_two(self, write: Write) -> None:
        file = write(
            "my.yaml", "models: [{name: mine, license: MIT, licence: BSD, model_params: {path: a/b}}]"
        )
        assert "licence" in config_error(file)

    def test_a_file_adds_models_to_the_built_in_ones(self, write: Write) -> None:
        file = write("my.yaml", "models: [{name: mine, model_params: {path: me/mine}}]")
        catalog = load_catalog([file])
        assert catalog.get("mine") is not None
        assert catalog.get("shapes") is not None

    def test_a_folder_adds_every_yaml_file_in_it(self, write: Write, tmp_path: Path) -> None:
        write("all/a.yaml", "models: [{name: a}]")
        write("all/b.yml", "models: [{name: b}]")
        write("all/c.txt", "not a config")
        assert load_catalog([tmp_path / "all"]).names()[-2:] == ["a", "b"]

    def test_a_relative_path_starts_at_the_file(self, write: Write, tmp_path: Path) -> None:
        file = write("sub/my.yaml", "models: [{name: mine, model_params: {path: ../weights}}]")
        mine = load_catalog([file]).get("mine")
        assert mine is not None
        assert mine.model_params["path"] == str((tmp_path / "weights").resolve())

    def test_a_relative_adapter_starts_at_the_file_too(self, write: Write, tmp_path: Path) -> None:
        file = write("sub/my.yaml", "models: [{name: mine, model_params: {path: a/b, adapter: ./lora}}]")
        mine = load_catalog([file]).get("mine")
        assert mine is not None
        assert mine.model_params["adapter"] == str(tmp_path / "sub" / "lora")

    def test_a_file_that_is_named_twice_is_read_once(self, write: Write, tmp_path: Path) -> None:
        file = write("my.yaml", "models: [{name: mine}]")
        assert load_catalog([file, tmp_path]).names()[-1] == "mine"

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        assert "there is no config file" in config_error(tmp_path / "none.yaml")

    def test_an_empty_folder_is_an_error(self, tmp_path: Path) -> None:
        assert "no config file" in config_error(tmp_path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("models:\n  - name: a\n    descripton: b\n", "my.yaml:3: model 'a': unknown key 'descripton'."),
            (
                "models:\n  - name: a\n    generation:\n      temperatur: 0\n",
                "my.yaml:4: model 'a': unknown key",
            ),
            (
                "models:\n  - name: a\n    generation: {temperature: -1}\n",
                "my.yaml:3: model 'a': generation.temp",
            ),
            ("models:\n  - description: a\n", "my.yaml:2: model 0: the key 'name' is missing."),
            ("models:\n  - just text\n", "my.yaml:2: an entry under `models` is a mapping"),
            ("models:\n  - name: a\n    name: b\n", "my.yaml:3: the key 'name' stands here twice."),
            ("modles: []\nmodels: []\n", "my.yaml:1: unknown key 'modles'."),
            ("models: [\n", "my.yaml:2: not YAML"),
            ("models:\n  name: a\n", "a mapping with a list under `models`"),
            ("", "a mapping with a list under `models`"),
            ("- 1\n", "a mapping with a list under `models`"),
            ("models: [{name: 3}]\n", "my.yaml:1: model 3: name must be a string, not 3"),
        ],
    )
    def test_a_mistake_is_told_with_its_line_and_key(self, write: Write, text: str, said: str) -> None:
        assert said in config_error(write("my.yaml", text))

    def test_an_unknown_key_comes_with_the_nearest_known_one(self, write: Write) -> None:
        said = config_error(write("my.yaml", "models:\n  - name: a\n    descripton: b\n"))
        assert "Did you mean 'description'?" in said

    def test_a_file_that_is_not_text_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "my.yaml"
        file.write_bytes(b"\xff\xfe\x00")
        assert "cannot be read" in config_error(file)

    def test_a_second_model_under_a_taken_name_is_refused_with_both_places(self, write: Write) -> None:
        file = write("my.yaml", "models: [{name: shapes}]")
        with pytest.raises(
            DuplicateModelError, match=r"my\.yaml:1 is already registered by .*shapes\.yaml:\d+"
        ):
            load_catalog([file])


class TestTheUsersOwnConfigFiles:
    """They are read without being named; `load_catalog` in the tests above reads none, by the environment."""

    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.delenv("PIXANO_VLM_CONFIG")
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        return tmp_path

    def test_there_need_be_none(self, home: Path) -> None:
        (home / ".config" / "pixano-vlm").mkdir(parents=True)
        assert user_configs() == []
        assert "shapes" in load_catalog().names()

    def test_those_in_the_folder_of_configurations_are_read(self, home: Path, write: Write) -> None:
        write(".config/pixano-vlm/a.yaml", "models: [{name: mine}]")
        assert load_catalog().names()[-1] == "mine"

    def test_that_folder_may_be_another(
        self, home: Path, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("other/pixano-vlm/a.yml", "models: [{name: mine}]")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "other"))
        assert load_catalog().names()[-1] == "mine"

    def test_the_environment_names_others_instead(
        self, home: Path, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(".config/pixano-vlm/a.yaml", "models: [{name: not-read}]")
        first, second = write("b.yaml", "models: [{name: b}]"), write("c/c.yaml", "models: [{name: c}]")
        monkeypatch.setenv("PIXANO_VLM_CONFIG", os.pathsep.join([str(first), str(second.parent)]))
        assert load_catalog().names()[-2:] == ["b", "c"]
        assert load_catalog().get("not-read") is None

    def test_a_mistake_in_one_is_told_as_in_any_other(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIXANO_VLM_CONFIG", "none.yaml")
        with pytest.raises(ConfigError, match=r"there is no config file none\.yaml"):
            load_catalog()


class TestNames:
    def test_a_registered_name_comes_first(self) -> None:
        catalog = load_catalog()
        assert resolve_model("shapes", catalog) is catalog.get("shapes")

    def test_a_folder_with_a_config_runs_as_it_is(self, write: Write, tmp_path: Path) -> None:
        write("checkpoint/config.json", "{}")
        model = resolve_model(str(tmp_path / "checkpoint"), load_catalog())
        assert model.model_params == {"path": str(tmp_path / "checkpoint")}
        assert model.model_class == "TransformersVLMModel"

    def test_a_folder_without_one_is_not_a_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownModelError, match=r"no config\.json"):
            resolve_model(str(tmp_path), load_catalog())

    def test_a_hugging_face_id_runs_as_it_is(self) -> None:
        assert resolve_model("someone/some-model", load_catalog()).model_params == {
            "path": "someone/some-model"
        }

    def test_a_registered_class_runs_under_its_own_name(self, write: Write, classes: None) -> None:
        load_plugin(str(write("plug.py", PLUGIN.format(name="my-vlm"))))
        assert resolve_model("my-vlm", load_catalog()).model_class == "my-vlm"

    def test_an_unknown_name_comes_with_the_nearest_and_what_to_do(self) -> None:
        with pytest.raises(UnknownModelError) as caught:
            resolve_model("smolvlm-256m-instuct", load_catalog())
        assert "smolvlm-256m-instruct" in caught.value.message
        assert caught.value.hint is not None
        assert "--config" in caught.value.hint
        assert "--plugin" in caught.value.hint

    @pytest.mark.parametrize("name", ["./none", "/no/such/folder", "~/none-at-all"])
    def test_a_path_that_leads_nowhere_is_told_as_a_folder(self, name: str) -> None:
        with pytest.raises(UnknownModelError, match="there is no folder"):
            resolve_model(name, load_catalog())

    def test_the_engines_class_alone_is_not_a_model(self) -> None:
        with pytest.raises(UnknownModelError):
            resolve_model("TransformersVLMModel", load_catalog())


class TestCreating:
    def test_a_model_is_an_instance_of_its_class_with_its_config(self, write: Write, classes: None) -> None:
        load_plugin(str(write("plug.py", PLUGIN.format(name="my-vlm"))))
        model = create_model(
            ModelDeploymentConfig(name="mine", model_class="my-vlm", model_params={"path": "x"})
        )
        assert isinstance(model, VLMModel)
        assert model.config.model_params == {"path": "x"}

    def test_an_unknown_class_lists_those_there_are(self) -> None:
        with pytest.raises(UnknownModelError, match="TransformersVLMModel"):
            create_model(ModelDeploymentConfig(name="mine", model_class="TransformerVLMModel"))

    def test_a_class_of_another_capability_is_refused(self, classes: None) -> None:
        from pixano_vlm.models import InferenceModel, register_model

        @register_model("other")
        class Other(InferenceModel):
            def load_model(self) -> None: ...
            def predict(self, input: object) -> None: ...

        with pytest.raises(ConfigError, match="not a vision-language model"):
            create_model(ModelDeploymentConfig(name="mine", model_class="other"))

    def test_a_refused_parameter_comes_with_the_nearest_known_one(self, classes: None) -> None:
        from pydantic import BaseModel, ConfigDict

        from pixano_vlm.models import VLMInput, VLMOutput, register_model

        class Params(BaseModel):
            model_config = ConfigDict(extra="forbid")
            path: str
            revision: str | None = None

        @register_model("strict")
        class Strict(VLMModel):
            params_class = Params

            def __init__(self, config: ModelDeploymentConfig) -> None:
                super().__init__(config)
                self.params = Params(**config.model_params)

            def load_model(self) -> None: ...
            def predict(self, input: VLMInput) -> VLMOutput: ...

        params = {"path": "a/b", "revison": "main"}
        with pytest.raises(ConfigError) as caught:
            create_model(ModelDeploymentConfig(name="mine", model_class="strict", model_params=params))
        assert str(caught.value) == (
            "model 'mine' (strict): unknown parameter 'revison'. Did you mean 'revision'?"
        )
        with pytest.raises(ConfigError, match="the parameter 'path' is missing"):
            create_model(ModelDeploymentConfig(name="mine", model_class="strict"))


class TestPlugins:
    def test_a_file_registers_its_classes_and_is_run_once(self, write: Write, classes: None) -> None:
        file = write("plug.py", PLUGIN.format(name="once"))
        assert load_plugin(str(file)) is load_plugin(str(file))

    def test_a_module_is_imported_by_its_name(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: None
    ) -> None:
        write("my_plugin_module.py", PLUGIN.format(name="from-a-module"))
        monkeypatch.syspath_prepend(tmp_path)
        load_plugin("my_plugin_module")
        assert resolve_model("from-a-module", load_catalog())
        del sys.modules["my_plugin_module"]

    @pytest.mark.parametrize("spec", ["no/such/plugin.py", "plugin.py", "no_such_module", "no_such.module"])
    def test_one_that_is_not_there_is_named(self, spec: str) -> None:
        with pytest.raises(PluginError, match=re.escape(spec)):
            load_plugin(spec)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("x = 1\nimport not_installed_at_all\n", "plug.py:2: ModuleNotFoundError: No module named"),
            ("x = 1\n\ny = x / 0\n", "plug.py:3: ZeroDivisionError: division by zero"),
            ("x = (\n", "plug.py:1: SyntaxError: '(' was never closed"),
            ("import sys\nsys.exit(5)\n", "plug.py:2: SystemExit: 5"),
            ("import json\njson.loads('{')\n", "plug.py:2: JSONDecodeError"),
        ],
    )
    def test_a_failure_names_the_plugins_own_line(self, write: Write, text: str, said: str) -> None:
        with pytest.raises(PluginError) as caught:
            load_plugin(str(write("plug.py", text)))
        assert said in str(caught.value)

    def test_a_failed_one_can_be_mended_and_loaded_again(self, write: Write, classes: None) -> None:
        with pytest.raises(PluginError):
            load_plugin(str(write("plug.py", "1 / 0")))
        load_plugin(str(write("plug.py", PLUGIN.format(name="mended"))))

    def test_two_plugins_that_claim_one_name_are_told_so(self, write: Write, classes: None) -> None:
        load_plugin(str(write("a/plug.py", PLUGIN.format(name="same") + "# the first\n")))
        with pytest.raises(DuplicateModelError, match="same"):
            load_plugin(str(write("b/plug.py", PLUGIN.format(name="same"))))


class TestWeights:
    def model(self, path: str, **params: str) -> ModelDeploymentConfig:
        return ModelDeploymentConfig(name="m", model_params={"path": path, **params})

    def test_a_class_without_a_path_has_none(self) -> None:
        assert weights_on_disk(ModelDeploymentConfig(name="m")) is None

    def test_a_model_on_a_server_has_none_here(self) -> None:
        config = ModelDeploymentConfig(name="m", model_class="OpenAIVLMModel", model_params={"path": "a/b"})
        assert weights_on_disk(config) is None

    def test_a_folder_has_them_when_it_holds_safetensors(self, write: Write, tmp_path: Path) -> None:
        assert weights_on_disk(self.model(str(tmp_path))) is False
        write("model.safetensors", "")
        assert weights_on_disk(self.model(str(tmp_path))) is True

    def test_a_folder_that_misses_a_shard_does_not(self, write: Write, tmp_path: Path) -> None:
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        write("model.safetensors.index.json", json.dumps(index))
        write("model-1.safetensors", "")
        assert weights_on_disk(self.model(str(tmp_path))) is False
        write("model-2.safetensors", "")
        assert weights_on_disk(self.model(str(tmp_path))) is True

    def test_the_hubs_cache_is_read_by_revision(self, write: Write, tmp_path: Path) -> None:
        write("models--a--b/refs/main", "c0ffee")
        write("models--a--b/snapshots/c0ffee/model.safetensors", "")
        assert weights_on_disk(self.model("a/b", cache_dir=str(tmp_path))) is True
        assert weights_on_disk(self.model("a/b", cache_dir=str(tmp_path), revision="c0ffee")) is True
        assert weights_on_disk(self.model("a/b", cache_dir=str(tmp_path), revision="v2")) is False
        assert weights_on_disk(self.model("a/c", cache_dir=str(tmp_path))) is False

    def test_a_model_with_an_adapter_needs_that_too(self, write: Write, tmp_path: Path) -> None:
        write("base/model.safetensors", "")
        write("models--me--lora/refs/main", "c0ffee")
        base, cache = str(tmp_path / "base"), str(tmp_path)
        for adapter in (str(tmp_path / "lora"), "me/lora"):
            assert weights_on_disk(self.model(base, adapter=adapter, cache_dir=cache)) is False
        write("lora/adapter_model.safetensors", "")
        write("models--me--lora/snapshots/c0ffee/adapter_model.safetensors", "")
        for adapter in (str(tmp_path / "lora"), "me/lora"):
            assert weights_on_disk(self.model(base, adapter=adapter, cache_dir=cache)) is True

    def test_the_layout_is_the_one_that_huggingface_hub_reads(self, write: Write, tmp_path: Path) -> None:
        from huggingface_hub import try_to_load_from_cache

        write("models--a--b/refs/main", "c0ffee")
        write("models--a--b/snapshots/c0ffee/model.safetensors", "")
        assert isinstance(try_to_load_from_cache("a/b", "model.safetensors", cache_dir=tmp_path), str)

    def test_a_package_path_becomes_the_folder_inside_the_package(self) -> None:
        assert Path(resolve_path("package:pixano_vlm/models")).name == "models"
        assert resolve_path("someone/some-model") == "someone/some-model"

    @pytest.mark.parametrize("path", ["package:not_there/x", "package:pixano_vlm/not-there", "package:/x"])
    def test_a_package_path_that_leads_nowhere_is_an_error(self, path: str) -> None:
        with pytest.raises(ConfigError):
            resolve_path(path)
        assert weights_on_disk(self.model(path)) is False


def test_the_built_in_files_are_all_read() -> None:
    assert len(list(built_in_configs().glob("*.yaml"))) > 10


def test_every_error_of_the_catalog_exits_with_2() -> None:
    for kind in (ConfigError, DuplicateModelError, PluginError, UnknownModelError):
        assert issubclass(kind, PixanoVLMError)
        assert kind.exit_code == 2
