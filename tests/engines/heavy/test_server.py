"""A real server on loopback: `vllm serve` with the embedded model. Needs vLLM: `make test-engines`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.ports import free_port

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.engines,
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
}


class Served:
    """`vllm serve`, which can be killed and started again."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.port = free_port()
        self.start()

    def start(self) -> None:
        # What `vllm serve` runs; the command itself does not start in vLLM's build for CPUs, which has another name.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL)]
        command += ["--served-model-name", "shapes", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--dtype", "float32", "--max-model-len", "256", "--max-num-seqs", "16", "--enforce-eager"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self, seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=2).close()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < until, self.log.read_text()[-3000:]
                time.sleep(0.5)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("server") / "log")
    try:
        served.wait()
        yield served
    finally:
        served.kill()


def config(folder: Path, port: int) -> None:
    """The example's, with the server's port."""
    example = (REPOSITORY / "examples" / "openai_server" / "models.yaml").read_text()
    assert "127.0.0.1:8000/v1" in example
    (folder / "models.yaml").write_text(example.replace("127.0.0.1:8000/v1", f"127.0.0.1:{port}/v1"))


def command(manifest: Path) -> list[str]:
    start = [sys.executable, "-m", "pixano_vlm", "generate", str(manifest), "--config", "models.yaml"]
    return [*start, "-m", "served", "-o", "out.jsonl", "--quiet"]


def answers(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def right(lines: list[dict[str, object]]) -> int:
    return sum(line["generated_text"] == line["metadata"]["answer"] for line in lines)  # type: ignore[index]


def test_96_records_sixteen_at_a_time_get_the_right_answers(server: Served, tmp_path: Path) -> None:
    config(tmp_path, server.port)
    subprocess.run(command(MANIFEST), cwd=tmp_path, env=ENVIRONMENT, check=True)
    assert len(answers(tmp_path)) == 96
    assert right(answers(tmp_path)) >= 90


def test_a_server_killed_in_mid_run_and_started_again_loses_nothing(server: Served, tmp_path: Path) -> None:
    asked = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
    with (tmp_path / "long.jsonl").open("w") as lines:
        for round in range(20):
            for record in asked:
                images = [str(MANIFEST.parent / image) for image in record["images"]]
                lines.write(json.dumps({**record, "id": f"{round}-{record['id']}", "images": images}) + "\n")
    config(tmp_path, server.port)
    run = subprocess.Popen(command(tmp_path / "long.jsonl"), cwd=tmp_path, env=ENVIRONMENT)
    output = tmp_path / "out.jsonl"
    while not output.exists() or output.read_bytes().count(b"\n") < 200:
        assert run.poll() is None
        time.sleep(0.05)
    server.kill()
    time.sleep(1)
    assert run.poll() is None
    server.start()
    assert run.wait(400) == 0
    lines = answers(tmp_path)
    assert [line["id"] for line in lines] == [f"{n}-{record['id']}" for n in range(20) for record in asked]
    assert all(line["status"] == "ok" for line in lines)
    assert right(lines) >= 20 * 90
