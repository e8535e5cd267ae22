"""Real servers on loopback with the embedded model: 96 records each, one that is killed and started again, and images
that a server may choke on.

Each server is tried where its package is: vLLM's, `transformers serve`, and llama.cpp's (xllamacpp, started by
`scripts/llama_server.py`). `make test-servers` has all three.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.engines.ports import free_port

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.slow,
    # vLLM leaves its sockets to the garbage collector, which may come to those of the tests before during these.
    pytest.mark.filterwarnings("ignore:.*Context.__del__:pytest.PytestUnraisableExceptionWarning"),
]

REPOSITORY = Path(__file__).parents[3]
MODEL = REPOSITORY / "src" / "pixano_vlm" / "shapes" / "model"
MANIFEST = REPOSITORY / "examples" / "shapes" / "manifest.jsonl"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY / "src"),
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Kind:
    """One kind of server."""

    command: tuple[str, ...]
    """`{port}` is where it is to listen."""
    model: str
    """The name by which it is asked for the model."""
    right: int
    """Answers of 96 that are right, at least: one converts the model, and resizes images, in its own way."""
    is_here: bool
    health: str = "/v1/models"


# What `vllm serve` runs; the command itself does not start in vLLM's build for CPUs, which has another name.
VLLM = (
    sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL),
    "--served-model-name", "shapes", "--host", "127.0.0.1", "--port", "{port}", "--dtype", "float32",
    "--max-model-len", "256", "--max-num-seqs", "16", "--enforce-eager",
)  # fmt: skip
TRANSFORMERS = (
    str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", "{port}",
    "--device", "cpu",
)  # fmt: skip
LLAMA_CPP = (sys.executable, str(REPOSITORY / "scripts" / "llama_server.py"), "--port", "{port}")

KINDS = {
    "vllm": Kind(VLLM, "shapes", 90, find_spec("vllm") is not None),
    "transformers": Kind(
        TRANSFORMERS,
        str(MODEL),
        90,
        find_spec("fastapi") is not None and find_spec("vllm") is None,
        "/health",
    ),
    "llama.cpp": Kind(LLAMA_CPP, "shapes", 80, find_spec("xllamacpp") is not None, "/health"),
}


class Served:
    """A server, which can be killed and started again."""

    def __init__(self, kind: Kind, log: Path) -> None:
        self.kind, self.log, self.port = kind, log, free_port()
        self.start()

    def start(self) -> None:
        command = [part.replace("{port}", str(self.port)) for part in self.kind.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self, seconds: float = 300) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.kind.health}", timeout=2).close()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < until, self.log.read_text()[-3000:]
                time.sleep(0.5)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def run(self, manifest: Path, *flags: str) -> subprocess.Popen[bytes]:
        # The address without /v1, as it is often typed.
        asked = [
            "--base-url",
            f"http://127.0.0.1:{self.port}",
            "--server-model",
            self.kind.model,
            "-m",
            "shapes",
        ]
        command = [
            sys.executable,
            "-m",
            "pixano_vlm",
            "generate",
            str(manifest),
            *asked,
            "--temperature",
            "0",
        ]
        return subprocess.Popen(
            [*command, "-o", "out.jsonl", "--quiet", *flags], cwd=manifest.parent, env=ENVIRONMENT,
            stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kind = KINDS[request.param]
    if not kind.is_here:
        pytest.skip(f"{request.param} is not in this environment")
    served = Served(kind, tmp_path_factory.mktemp("server") / "log")
    try:
        served.wait()
        yield served
    finally:
        served.kill()


def write(folder: Path, rounds: int) -> tuple[Path, list[str]]:
    """The examples so many times over, and their ids."""
    asked = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
    records = []
    for round in range(rounds):
        for record in asked:
            images = [str(MANIFEST.parent / image) for image in record["images"]]
            records.append(
                {**record, "id": f"{round}-{record['id']}", "images": images, "max_new_tokens": 16}
            )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder / "manifest.jsonl", [record["id"] for record in records]


def answers(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def right(lines: list[dict[str, object]]) -> int:
    return sum(line["generated_text"] == line["metadata"]["answer"] for line in lines)  # type: ignore[index]


def test_96_records_get_the_right_answers_with_their_counts(server: Served, tmp_path: Path) -> None:
    manifest, ids = write(tmp_path, 1)
    run = server.run(manifest)
    _, said = run.communicate()
    assert run.returncode == 0, said.decode()
    lines = answers(tmp_path)
    assert [line["id"] for line in lines] == ids
    assert right(lines) >= server.kind.right
    assert all(line["usage"]["prompt_tokens"] > 16 for line in lines)  # type: ignore[index]  # the image's are in it
    assert all(0 < line["usage"]["completion_tokens"] <= 16 for line in lines)  # type: ignore[index]
    assert {line["finish_reason"] for line in lines} <= {"stop", "length"}


def test_one_that_is_killed_in_mid_run_and_started_again_loses_nothing(
    server: Served, tmp_path: Path
) -> None:
    manifest, ids = write(tmp_path, 3)
    run = server.run(manifest)
    output = tmp_path / "out.jsonl"
    while not output.exists() or output.read_bytes().count(b"\n") < 60:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    server.kill()
    time.sleep(1)
    assert run.poll() is None
    server.start()
    _, said = run.communicate(timeout=500)
    assert run.returncode == 0, said.decode()
    lines = answers(tmp_path)
    assert [line["id"] for line in lines] == ids
    assert all(line["status"] == "ok" for line in lines)
    assert right(lines) >= 3 * server.kind.right


def test_a_prompt_that_is_too_long_is_its_records_error_and_a_webp_is_read(
    server: Served, tmp_path: Path
) -> None:
    from PIL import Image

    record = json.loads(MANIFEST.read_text().splitlines()[0])
    Image.open(MANIFEST.parent / record["images"][0]).save(tmp_path / "a.webp", lossless=True)
    plain = {"prompt": record["prompt"], "images": ["a.webp"], "max_new_tokens": 16}
    records = [{**plain, "id": f"r{n}"} for n in range(6)]
    records[3]["prompt"] = "what is this? " * 4000
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    run = server.run(manifest)
    _, said = run.communicate()
    lines = answers(tmp_path)
    assert len({line["generated_text"] for line in lines if line["id"] != "r3"}) == 1
    if server.kind.model == "shapes":  # `transformers serve` knows no limit
        assert run.returncode == 1, said.decode()
        assert [line["id"] for line in lines if line["status"] == "error"] == ["r3"]
        assert "400" in lines[3]["error"]["message"]  # type: ignore[index]
