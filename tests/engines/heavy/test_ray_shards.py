"""Two workers on Ray read 40 shards between them. Needs an environment with Ray: `make test-engines`."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from pixano_vlm import generate
from pixano_vlm.catalog import create_model, load_catalog, load_plugin, resolve_model

pytest.importorskip("ray")
pytest.importorskip("pyarrow")
import pyarrow as arrow
import pyarrow.parquet as parquet

from pixano_vlm.engines.ray.model import with_ray
from pixano_vlm.inputs.parquet_rows import ParquetTable

pytestmark = [pytest.mark.engines, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[3]
FILES, ROWS = 40, 50
MARK = f"PIXANO_VLM_TEST={os.getpid()}"

PLUGIN = '''
import os
import time
from pathlib import Path
from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model
from pixano_vlm.media.images import load_image

@register_model("sized")
class Sized(VLMModel):
    """Tells the size of an image, and takes down which process was asked what."""

    def load_model(self): pass

    def fingerprint(self): return "sized"

    def predict(self, input: VLMInput) -> VLMOutput:
        time.sleep(0.002)
        log = Path(os.environ["SIZED_LOG"]) / str(os.getpid())
        with log.open("a") as lines:
            lines.write(f"{input.prompt}\\n")
        width, height = load_image(input.images[0], self.limits).size
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=f"{input.prompt}: {width} x {height}", usage=usage)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards, with images in them; one id is there twice, in different files, and one row has no prompt."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "in").mkdir()
    (folder / "log").mkdir()
    for part in range(FILES):
        rows = []
        for row in range(ROWS):
            data = io.BytesIO()
            Image.new("RGB", (1 + part, 1 + row), "red").save(data, "PNG")
            id = None if row % 7 == 0 else "twice" if (part, row) in ((5, 8), (30, 1)) else f"{part}-{row}"
            prompt = None if (part, row) == (12, 3) else f"shard {part} row {row}"
            rows.append({"id": id, "prompt": prompt, "image": {"bytes": data.getvalue(), "path": None}})
        parquet.write_table(arrow.Table.from_pylist(rows), folder / "in" / f"part-{part:03}.parquet")
    (folder / "sized.py").write_text(PLUGIN)
    return folder


@pytest.fixture(scope="module", autouse=True)
def environment(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
        patch.setenv("SIZED_LOG", str(folder / "log"))
        patch.setenv(*MARK.split("="))
        yield


def start(folder: Path, output: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "pixano_vlm",
        "generate",
        str(folder / "in"),
        "--model",
        "sized",
        "--quiet",
    ]
    return subprocess.Popen([*command, "--plugin", str(folder / "sized.py"), "-o", str(output), *flags])


@pytest.fixture(scope="module")
def expected(folder: Path) -> bytes:
    assert start(folder, folder / "local.jsonl").wait() == 1  # two records have errors
    written = (folder / "local.jsonl").read_bytes()
    errors = [line["id"] for line in map(json.loads, written.splitlines()) if line["status"] == "error"]
    assert errors == ["12-3", "twice"]
    return written


RAY = ("--ray", "--workers", "2")


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


def wait_for(is_so: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)


def lines_in(output: Path) -> int:
    return output.read_bytes().count(b"\n") if output.exists() else 0


def test_they_take_whole_shards_and_nobody_reads_all(
    folder: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (folder / "log").iterdir():
        file.unlink()
    load_plugin(str(folder / "sized.py"))
    read = []
    values = ParquetTable.values
    monkeypatch.setattr(
        ParquetTable, "values", lambda self, *a, **k: read.append(self.file.name) or values(self, *a, **k)
    )
    model = with_ray(resolve_model("sized", load_catalog()), create_model, workers=2)
    try:
        generate(folder / "in", model=model, output=tmp_path / "out.jsonl").finish()
    finally:
        model.unload()
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    assert set(read) <= {
        "part-005.parquet",
        "part-030.parquet",
    }  # for the words about the id that is there twice
    asked = {
        file.name: Counter(line.split()[1] for line in file.read_text().splitlines(keepends=True))
        for file in (folder / "log").iterdir()
    }
    assert len(asked) == 2
    shared = set.intersection(*map(set, asked.values()))
    assert len(shared) <= 4  # at the end, what is left of a shard is shared out
    assert all(len(shards) > FILES // 5 for shards in asked.values())
    assert sum(sum(shards.values()) for shards in asked.values()) >= FILES * ROWS - 2


def test_a_worker_that_is_killed_costs_nothing(folder: Path, expected: bytes, tmp_path: Path) -> None:
    run = start(folder, tmp_path / "out.jsonl", *RAY)
    wait_for(lambda: lines_in(tmp_path / "out.jsonl") >= 300, "no 300 lines")
    assert len(workers()) == 2
    os.kill(workers()[0], signal.SIGKILL)
    assert run.wait() == 1
    assert (tmp_path / "out.jsonl").read_bytes() == expected


@pytest.mark.parametrize("then", [RAY, ()], ids=["ray", "local"])
def test_a_run_that_is_killed_is_resumed_on_ray_or_without(
    folder: Path, expected: bytes, tmp_path: Path, then: tuple[str, ...]
) -> None:
    output = tmp_path / "out.jsonl"
    run = start(folder, output, *RAY)
    wait_for(lambda: lines_in(output) >= 300, "no 300 lines")
    run.kill()
    run.wait()
    wait_for(lambda: not workers(), "its workers have not ended")
    assert 300 <= lines_in(output) < FILES * ROWS
    assert start(folder, output, *then, "--resume").wait() == 1
    assert output.read_bytes() == expected
