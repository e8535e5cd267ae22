"""Workers on Ray, against the same model alone. Needs an environment with Ray: `make test-engines`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.catalog import create_model, load_catalog, load_plugin, resolve_model
from pixano_vlm.errors import ConfigError, GenerationError, ModelLoadError
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMModel, VLMOutput

pytest.importorskip("ray")
from pixano_vlm.engines.ray import RayVLMModel, with_ray

pytestmark = [pytest.mark.engines, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[3]
MANIFEST = REPOSITORY / "examples" / "shapes" / "manifest.jsonl"

PLUGIN = '''
import os
from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model

@register_model("fatal")
class Fatal(VLMModel):
    """Ends its process on one prompt, as a crash of a native library does."""

    def load_model(self): pass

    def predict(self, input: VLMInput) -> VLMOutput:
        if input.prompt == "die":
            os._exit(1)
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=f"{input.prompt}!", usage=usage)
'''


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(REPOSITORY / "src")  # what Ray's workers start with
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def shapes() -> ModelDeploymentConfig:
    return resolve_model("shapes", load_catalog())


@pytest.fixture(scope="module")
def asked() -> list[tuple[str, VLMInput]]:
    records = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
    return [
        (
            record["id"],
            VLMInput(
                prompt=record["prompt"],
                images=[MANIFEST.parent / image for image in record["images"]],
                max_new_tokens=64,
                temperature=0,
            ),
        )
        for record in records
    ]


@pytest.fixture(scope="module")
def alone(shapes: ModelDeploymentConfig, asked: Any) -> dict[str, str]:
    model = create_model(shapes)
    model.load_model()
    return texts(model, asked)


def texts(model: VLMModel, asked: Any) -> dict[str, str]:
    answers = list(model.stream(asked))
    assert len(answers) == len({key for key, _ in answers})
    return {key: answer.generated_text for key, answer in answers}


@pytest.fixture(scope="class")
def two(shapes: ModelDeploymentConfig) -> Iterator[RayVLMModel]:
    model = with_ray(shapes, create_model, workers=2)
    model.load_model()
    yield model
    model.unload()


class TestTwoWorkers:
    def test_they_give_the_answers_of_one_model(self, two: RayVLMModel, asked: Any, alone: Any) -> None:
        assert texts(two, asked) == alone

    def test_the_fingerprint_is_the_models_own(self, two: RayVLMModel, shapes: ModelDeploymentConfig) -> None:
        assert two.fingerprint() == create_model(shapes).fingerprint()

    def test_a_killed_workers_records_are_done_again_exactly_once(
        self, two: RayVLMModel, asked: Any, alone: Any
    ) -> None:
        import ray

        many = [(f"{round}/{key}", input) for round in range(8) for key, input in asked]
        answers = []
        for answer in two.stream(many):
            answers.append(answer)
            if len(answers) == 100:
                ray.kill(two._hands[0].actor)
        assert sorted(key for key, _ in answers) == sorted(key for key, _ in many)
        assert all(answer.generated_text == alone[key.split("/")[1]] for key, answer in answers)

    def test_a_stream_left_in_the_middle_leaves_nothing_behind(
        self, two: RayVLMModel, asked: Any, alone: Any
    ) -> None:
        stream = two.stream(asked)
        next(stream)
        stream.close()
        assert texts(two, asked) == alone


def test_a_record_that_kills_its_workers_is_that_records_error(tmp_path: Path) -> None:
    """With a plugin's class, which the workers cannot import."""
    (tmp_path / "fatal.py").write_text(PLUGIN)
    load_plugin(str(tmp_path / "fatal.py"))
    model = with_ray(resolve_model("fatal", load_catalog()), create_model, workers=2)
    model.load_model()
    prompts = [f"p{n}" for n in range(200)]
    prompts[70] = "die"
    answers = dict(
        model.stream((n, VLMInput(prompt=prompt, max_new_tokens=1)) for n, prompt in enumerate(prompts))
    )
    model.unload()
    assert [n for n, answer in answers.items() if isinstance(answer, GenerationError)] == [70]
    assert sum(isinstance(answer, VLMOutput) for answer in answers.values()) == 199


def test_more_than_there_is_is_refused(shapes: ModelDeploymentConfig) -> None:
    with pytest.raises(ConfigError, match="workers of 1 CPUs each"):
        with_ray(shapes, create_model, workers=4096).load_model()
    with pytest.raises(ConfigError, match="2 GPUs each"):
        with_ray(shapes, create_model, workers=1, gpus_per_worker=2).load_model()


def test_a_model_that_cannot_be_loaded_is_told_as_such(tmp_path: Path) -> None:
    config = ModelDeploymentConfig(
        name="none", model_params={"path": str(tmp_path), "local_files_only": True}
    )
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        with_ray(config, create_model).load_model()


def test_a_running_cluster_is_joined_by_its_address(
    shapes: ModelDeploymentConfig, asked: Any, alone: Any
) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    start = [
        ray,
        "start",
        "--head",
        "--port=6399",
        "--node-ip-address=127.0.0.1",
        "--include-dashboard=false",
    ]
    subprocess.run(start, check=True, capture_output=True)
    try:
        model = with_ray(shapes, create_model, address="127.0.0.1:6399", workers=2)
        model.load_model()
        assert texts(model, asked) == alone
        assert model.describe()["ray"] == "127.0.0.1:6399"
        model.unload()
    finally:
        subprocess.run([ray, "stop", "--force"], check=True, capture_output=True)
