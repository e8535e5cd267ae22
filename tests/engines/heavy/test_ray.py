"""Workers on Ray, against the same model alone. Needs an environment with Ray: `make test-engines`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.engines.ports import free_port

from pixano_vlm.catalog import create_model, load_catalog, load_plugin, resolve_model
from pixano_vlm.errors import ConfigError, GenerationError, ImageError, ModelLoadError
from pixano_vlm.models import Limits, ModelDeploymentConfig, VLMInput, VLMModel, VLMOutput

pytest.importorskip("ray")
from pixano_vlm.engines.ray.model import RayVLMModel, with_ray

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


MARK = f"PIXANO_VLM_TEST={os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """What Ray's workers start with: where the project is, and by what they are known as these tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
        patch.setenv(*MARK.split("="))
        yield


def workers() -> list[int]:
    """The processes of these tests' workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = (process / "cmdline").read_bytes().startswith(b"ray::Worker")
            if is_worker and MARK.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended
    return sorted(found)


STORED = '''
import io
import fsspec
from PIL import Image
from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model
from pixano_vlm.media.images import load_image

@register_model("stored")
class Stored(VLMModel):
    """Tells the size of a picture; puts one into a store that only its own process has."""

    def load_model(self):
        file = io.BytesIO()
        Image.new("RGB", (3, 2)).save(file, "PNG")
        fsspec.filesystem("memory").pipe_file("/bucket/a.png", file.getvalue())

    def predict(self, input: VLMInput) -> VLMOutput:
        width, height = load_image(input.images[0], self.limits).size
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=f"{width} x {height}", usage=usage)
'''


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

    def test_a_killed_workers_records_are_asked_again_exactly_once(
        self, two: RayVLMModel, asked: Any, alone: Any
    ) -> None:
        many = [(f"{round}/{key}", input) for round in range(8) for key, input in asked]
        answers = []
        for answer in two.stream(many):
            answers.append(answer)
            if len(answers) == 100:
                os.kill(workers()[0], signal.SIGKILL)
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


def test_a_worker_takes_what_the_config_says_and_the_flags_go_over_it(shapes: ModelDeploymentConfig) -> None:
    import ray

    config = shapes.model_copy(update={"num_cpus": 0.5, "num_gpus": 4})
    model = with_ray(config, create_model, workers=2, gpus_per_worker=0)
    model.load_model()
    try:
        assert ray.cluster_resources()["CPU"] - ray.available_resources()["CPU"] == 1
        facts = model.describe()
        assert (facts["workers"], facts["cpus_per_worker"], facts["gpus_per_worker"]) == (2, 0.5, 0)
    finally:
        model.unload()
    with pytest.raises(ConfigError, match="4 GPUs each"):
        with_ray(config, create_model, workers=1).load_model()


def test_on_a_machine_with_gpus_what_a_worker_takes_must_be_said(shapes: ModelDeploymentConfig) -> None:
    model = with_ray(shapes, create_model)
    with pytest.raises(ConfigError, match="nothing says how many") as caught:
        model._check_room({"CPU": 8, "GPU": 2})
    assert "--gpus-per-worker 1" in str(caught.value)
    with_ray(shapes, create_model, gpus_per_worker=0)._check_room({"CPU": 8, "GPU": 2})


def test_more_than_there_is_is_refused(shapes: ModelDeploymentConfig) -> None:
    with pytest.raises(ConfigError, match="workers of 1 CPUs each"):
        with_ray(shapes, create_model, workers=4096).load_model()
    with pytest.raises(ConfigError, match="2 GPUs each"):
        with_ray(shapes, create_model, workers=1, gpus_per_worker=2).load_model()


def test_a_cluster_that_is_not_there_is_told_at_once(shapes: ModelDeploymentConfig) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ModelLoadError, match=f"cannot reach {address}: .*refused") as caught:
        with_ray(shapes, create_model, address=address).load_model()
    assert "ray start --head" in str(caught.value)


def test_a_model_that_cannot_be_loaded_is_told_as_such(tmp_path: Path) -> None:
    config = ModelDeploymentConfig(
        name="none", model_params={"path": str(tmp_path), "local_files_only": True}
    )
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        with_ray(config, create_model).load_model()


def test_images_in_a_store_are_read_in_the_workers(tmp_path: Path) -> None:
    (tmp_path / "stored.py").write_text(STORED)
    load_plugin(str(tmp_path / "stored.py"))
    model = with_ray(resolve_model("stored", load_catalog()), create_model)
    model.load_model()
    input = VLMInput(prompt="q", images=["memory://bucket/a.png"], max_new_tokens=1)
    assert model.predict(input).generated_text == "3 x 2"
    model.limits = Limits(allow_urls=False)
    with pytest.raises(ImageError, match="not allowed"):
        model.predict(input)
    model.unload()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "manifest.jsonl"
    records = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
    with path.open("w") as lines:
        for round in range(20):
            for record in records:
                images = [str(MANIFEST.parent / image) for image in record["images"]]
                lines.write(json.dumps(record | {"id": f"{round}/{record['id']}", "images": images}) + "\n")
    return path


@pytest.fixture(scope="module")
def expected(manifest: Path) -> bytes:
    output = manifest.with_name("local.jsonl")
    assert start(manifest, output).wait() == 0
    return output.read_bytes()


class TestCommand:
    """`generate --ray` on 1,920 records, held against the file that a run without Ray writes."""

    def test_it_writes_the_same_file(self, manifest: Path, expected: bytes, tmp_path: Path) -> None:
        run = start(manifest, tmp_path / "out.jsonl", "--ray", "--workers", "2")
        assert run.wait() == 0
        assert (tmp_path / "out.jsonl").read_bytes() == expected

    def test_it_does_though_a_worker_is_killed(self, manifest: Path, expected: bytes, tmp_path: Path) -> None:
        run = start(manifest, tmp_path / "out.jsonl", "--ray", "--workers", "2")
        wait_for_lines(tmp_path / "out.jsonl", 200)
        assert len(workers()) == 2
        os.kill(workers()[0], signal.SIGKILL)
        assert run.wait() == 0
        assert (tmp_path / "out.jsonl").read_bytes() == expected

    @pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -9)])
    def test_stopped_and_resumed_it_writes_the_same_file(
        self, manifest: Path, expected: bytes, tmp_path: Path, stop: int, code: int
    ) -> None:
        output = tmp_path / "out.jsonl"
        run = start(manifest, output, "--ray", "--workers", "2")
        wait_for_lines(output, 200)
        run.send_signal(stop)
        assert run.wait() == code
        wait_for(lambda: not workers(), "its workers have not ended")
        assert 200 <= len(output.read_bytes().splitlines()) < 1920
        assert start(manifest, output, "--ray", "--workers", "2", "--resume").wait() == 0
        assert output.read_bytes() == expected

    def test_a_running_cluster_is_joined_by_its_address(
        self, manifest: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", "token")  # whatever this machine has of its own
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        address = f"127.0.0.1:{free_port()}"
        with running_cluster(address):
            run = start(manifest, tmp_path / "out.jsonl", "--ray", address, "--workers", "2")
            assert run.wait() == 0
        assert (tmp_path / "out.jsonl").read_bytes() == expected
        facts = json.loads((tmp_path / "out.jsonl.run.json").read_text())["model"]
        assert (facts["ray"], facts["workers"]) == (address, 2)


@contextmanager
def running_cluster(address: str) -> Iterator[None]:
    """A cluster of this machine, in a folder of its own: what is noted there leads no other Ray to it."""
    host, port = address.split(":")
    ray = str(Path(sys.executable).with_name("ray"))
    # In /tmp, for sockets must have short paths.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        flags = [f"--port={port}", f"--node-ip-address={host}", f"--temp-dir={folder}"]
        with subprocess.Popen(
            [ray, "start", "--head", *flags, "--include-dashboard=false", "--block"],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as cluster:
            try:
                assert cluster.stdout is not None
                assert any(b"Ray runtime started" in line for line in cluster.stdout)
                yield
            finally:
                os.killpg(cluster.pid, signal.SIGKILL)  # not `ray stop`, which stops every Ray on the machine


def start(manifest: Path, output: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pixano_vlm", "generate", str(manifest), "--model", "shapes"]
    return subprocess.Popen(
        [*command, "--temperature", "0", "--quiet", "-o", str(output), *flags], cwd=output.parent
    )


def wait_for_lines(output: Path, count: int) -> None:
    wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") >= count, f"no {count} lines")


def wait_for(is_so: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)
