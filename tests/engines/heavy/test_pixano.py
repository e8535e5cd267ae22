"""The Pixano server, both ways. Needs an environment with it and Ray: `make test-engines`."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.engines.ports import free_port

pytest.importorskip("pixano_inference")
from pixano_inference.models import (
    ModelClassRegistry,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
    register_model,
)

from pixano_vlm import VLMInput as OurInput
from pixano_vlm.engines.pixano.adopted import adopt
from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.models import ModelDeploymentConfig

pytestmark = pytest.mark.engines

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = REPOSITORY / "examples" / "pixano_server"
MANIFEST = REPOSITORY / "examples" / "shapes" / "manifest.jsonl"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY / "src"),
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ADDRESS": "local",  # not the cluster that a run before this one may have left word of
}


def generate(folder: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pixano_vlm", "generate", *map(str, args), "-o", "out.jsonl", "--quiet"]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


class TestTheirModelsHere:
    def test_the_documented_example_runs_under_the_command(self, tmp_path: Path) -> None:
        plugin = EXAMPLES / "their_model.py"
        done = generate(tmp_path, MANIFEST, "--plugin", plugin, "--model", "theirs")
        assert done.returncode == 0, done.stderr
        asked = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
        assert [line["generated_text"] for line in lines(tmp_path)] == [
            f"{record['prompt']} ({len(record['images'])} pictures)" for record in asked
        ]

    def test_so_it_does_in_workers_on_ray(self, tmp_path: Path) -> None:
        plugin = EXAMPLES / "their_model.py"
        done = generate(
            tmp_path, MANIFEST, "--plugin", plugin, "--model", "theirs", "--ray", "--workers", "1"
        )
        assert done.returncode == 0, done.stderr
        assert [line["status"] for line in lines(tmp_path)] == ["ok"] * 96

    def test_a_list_names_it(self) -> None:
        command = [sys.executable, "-m", "pixano_vlm", "list", "--plugin", EXAMPLES / "their_model.py"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert "theirs" in done.stdout

    def test_their_image_reader_opens_what_the_run_admits(self, tmp_path: Path) -> None:
        """Left alone it opens no local file at all."""
        (tmp_path / "sizes.py").write_text(SIZES)
        done = generate(tmp_path, MANIFEST, "--plugin", "sizes.py", "--model", "sizes")
        assert done.returncode == 0, done.stderr
        for line in lines(tmp_path):
            with Image.open(MANIFEST.parent / line["images"][0]) as picture:
                assert line["generated_text"] == f"{picture.width}x{picture.height}"
        elsewhere = ["--image-root", str(tmp_path), "--overwrite"]
        assert (
            generate(tmp_path, MANIFEST, "--plugin", "sizes.py", "--model", "sizes", *elsewhere).returncode
            == 1
        )

    def test_max_batch_size_go_to_predict_batch_together(self, counted: type[Counted]) -> None:
        model = adopted(counted, max_batch_size=4)
        answers = dict(model.stream((n, ask(f"p{n}")) for n in range(10)))
        assert [answers[n].generated_text for n in range(10)] == [f"p{n}" for n in range(10)]
        assert counted.sizes == [4, 4, 2]

    def test_one_bad_record_fails_alone(self, counted: type[Counted]) -> None:
        model = adopted(counted, max_batch_size=4)
        answers = dict(model.stream((n, ask("bad" if n == 2 else f"p{n}")) for n in range(8)))
        assert [n for n, answer in answers.items() if isinstance(answer, VLMError)] == [2]
        assert "no bad ones" in str(answers[2])

    def test_a_setting_that_they_do_not_know_is_refused(self, counted: type[Counted]) -> None:
        with pytest.raises(GenerationError, match="knows no top_p, stop"):
            adopted(counted).predict(ask("p", top_p=0.9, stop=["."]))

    def test_messages_are_not_changed(self, counted: type[Counted]) -> None:
        messages = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
        before = json.dumps(messages)
        adopted(counted).predict(ask(messages))
        assert json.dumps(messages) == before


SIZES = '''
from pixano_inference.models import UsageInfo, VLMModel, VLMOutput, register_model
from pixano_inference.utils.media import convert_string_to_image

@register_model("sizes")
class Sizes(VLMModel):
    """Says how large its first picture is."""

    def load_model(self):
        pass

    def predict(self, input):
        width, height = convert_string_to_image(input.images[0]).size
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=f"{width}x{height}", usage=usage)
'''


class Counted(VLMModel):
    """Repeats its prompt, notes the sizes of its batches, and spoils the messages that it is given."""

    sizes: list[int]

    def load_model(self) -> None:
        pass

    def predict(self, input: VLMInput) -> VLMOutput:
        if input.prompt == "bad":
            raise ValueError("no bad ones")
        if isinstance(input.prompt, list):
            input.prompt[0]["content"].clear()
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=str(input.prompt), usage=usage)

    def predict_batch(self, inputs: list[VLMInput]) -> list[VLMOutput]:
        self.sizes.append(len(inputs))
        return super().predict_batch(inputs)


@pytest.fixture
def counted() -> Iterator[type[Counted]]:
    Counted.sizes = []
    register_model("counted")(Counted)
    yield Counted
    del ModelClassRegistry._registry["counted"]


def adopted(cls: type[VLMModel], **params: Any) -> Any:
    return adopt(cls)(ModelDeploymentConfig(name="m", model_class="counted", model_params=params))


def ask(prompt: Any, **settings: Any) -> OurInput:
    return OurInput(prompt=prompt, max_new_tokens=8, temperature=0, **settings)


# --- our models in their server ---

BATCHES = """
import os
from pixano_vlm.engines.pixano.served import TransformersServed

class Counted(TransformersServed):
    def predict_batch(self, inputs):
        with open({log!r}, "a") as log:
            print(len(inputs), file=log)
        return super().predict_batch(inputs)
"""


class Server:
    """`pixano-inference` with the example's configuration, the sizes of its batches noted on the way."""

    def __init__(self, folder: Path) -> None:
        self.log, self.batches = folder / "log", folder / "batches"
        (folder / "counted_model.py").write_text(BATCHES.format(log=str(self.batches)))
        example = (EXAMPLES / "models.py").read_text()
        assert 'model_class="TransformersVLMModel"' in example
        config = example.replace('model_class="TransformersVLMModel"', "model_class=Counted")
        (folder / "models.py").write_text(
            f"{config}\n".replace(
                "import pixano_vlm\n", "import pixano_vlm\nfrom counted_model import Counted\n"
            )
        )
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).with_name("pixano-inference")), "--port", str(port)]
        path = os.pathsep.join([str(REPOSITORY / "src"), str(folder)])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(folder / "models.py")],
                cwd=folder,
                env={**ENVIRONMENT, "PYTHONPATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float = 300) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                self.get("/v1/ready")
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < until, self.log.read_text()[-3000:]
                time.sleep(0.5)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def ask(self, **body: Any) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{self.url}/v1/inference/vlm",
            data=json.dumps({"model": "shapes", "maxNewTokens": 64, "temperature": 0, **body}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def record(number: int) -> dict[str, Any]:
    """A record of the example's manifest, its pictures as data URLs, and its right answer."""
    entry = json.loads(MANIFEST.read_text().splitlines()[number])
    pictures = [(MANIFEST.parent / image).read_bytes() for image in entry["images"]]
    urls = [f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}" for data in pictures]
    return {"prompt": entry["prompt"], "images": urls, "right": entry["metadata"]["answer"]}


def asked_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": entry["prompt"], "images": entry["images"]}


class TestOurModelsThere:
    def test_the_server_lists_the_model_and_how_it_is_called(self, server: Server) -> None:
        (model,) = server.get("/v1/models")
        assert (model["name"], model["capability"]) == ("shapes", "vlm")
        assert model["interface"]["prompt"] == ["text", "messages"]

    def test_an_image_and_a_question_get_the_right_answer(self, server: Server) -> None:
        entry = record(0)
        status, answer = server.ask(**asked_of(entry))
        assert status == 200
        assert answer["data"]["generatedText"] == entry["right"]
        usage = answer["data"]["usage"]
        assert usage["totalTokens"] == usage["promptTokens"] + usage["completionTokens"] > 0

    def test_the_example_client_gets_an_answer(self, server: Server) -> None:
        script = (EXAMPLES / "ask.py").read_text()
        assert "http://127.0.0.1:7463" in script
        done = subprocess.run(
            [sys.executable, "-"],
            input=script.replace("http://127.0.0.1:7463", server.url).replace(
                "__file__", repr(str(EXAMPLES / "ask.py"))
            ),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip()

    def test_several_at_once_are_one_batch(self, server: Server) -> None:
        server.batches.unlink(missing_ok=True)
        entries = [record(number) for number in range(12)]
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda entry: server.ask(**asked_of(entry)), entries))
        assert [status for status, _ in answers] == [200] * 12
        right = sum(
            answer["data"]["generatedText"] == entry["right"]
            for (_, answer), entry in zip(answers, entries, strict=True)
        )
        assert right >= 11
        sizes = Counter(map(int, server.batches.read_text().split()))
        assert sum(size * count for size, count in sizes.items()) == 12
        assert max(sizes) >= 6

    def test_a_bad_image_is_told_and_does_not_fail_its_neighbours(self, server: Server) -> None:
        entries: list[dict[str, Any]] = [asked_of(record(0)) for _ in range(5)]
        entries[2]["images"] = ["data:image/jpeg;base64,AAAA"]
        entries[4]["images"] = ["/etc/hostname"]
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda entry: server.ask(**entry), entries))
        assert [status for status, _ in answers] == [200, 200, 422, 200, 422]
        assert "image" in answers[2][1]["error"]["message"]
        assert "Local-path media is disabled" in answers[4][1]["error"]["message"]
