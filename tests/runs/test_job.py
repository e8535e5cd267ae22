"""A job answers every request exactly once, whatever the model does, and starts no more than it must."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeModel

from pixano_vlm.errors import GenerationError, ManifestError, ModelLoadError, RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.models import GenerationSettings, UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_vlm.outputs.stream import StreamSink
from pixano_vlm.records.result import Result
from pixano_vlm.runs.job import Job
from pixano_vlm.runs.open import open_output
from pixano_vlm.runs.remaining import AllRemaining

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)


def manifest_of(lines: Iterable[Any]) -> Manifest:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return Manifest(None, stream=io.BytesIO(text.encode()), settings=GREEDY)


def questions(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}"} for i in range(count)]


class JobOf:
    """A run into a text stream."""

    def __init__(self, lines: Iterable[Any]) -> None:
        self.stream = io.StringIO()
        self.sink = StreamSink("fake", self.stream)
        self.manifest = manifest_of(lines)

    def __call__(self, model: Any, *, on_result: Any = None, **options: Any) -> Any:
        with self.sink:
            return Job(AllRemaining(self.manifest), model, self.sink, **options).run(on_result)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


class Odd(FakeModel):
    """A model whose stream is a function of the test."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self.odd = stream

    def stream(self, inputs: Iterable[tuple[Any, VLMInput]]) -> Iterator[tuple[Any, Any]]:
        return self.odd(self, inputs)


@pytest.mark.parametrize(("window", "shuffle"), [(1, None), (7, 0), (7, 1), (50, 2)])
def test_answers_in_any_order_are_written_in_the_manifests(window: int, shuffle: int | None) -> None:
    job = JobOf([*questions(20), "bad", *questions(5)])
    summary = job(FakeModel(window=window, shuffle=shuffle))
    assert [line["id"] for line in job.lines] == [str(i) for i in range(1, 27)]
    assert (summary.ok, summary.failed, dict(summary.errors)) == (25, 1, {"RecordError": 1})


def test_an_ok_line_is_an_output_and_its_keys_stand_in_the_documented_order() -> None:
    job = JobOf([{"prompt": "q", "id": "a", "x": 1}, "bad"])
    job(FakeModel())
    keys = [
        "id",
        "status",
        "generated_text",
        "usage",
        "generation_config",
        "finish_reason",
        "parsed",
        "error",
        "flags",
        "attempts",
        "model",
        "images",
        "metadata",
    ]
    assert [list(line) for line in job.lines] == [keys, keys]
    ok, bad = job.lines
    VLMOutput.model_validate({key: ok[key] for key in VLMOutput.model_fields if key in ok})
    assert (ok["model"], ok["images"], ok["metadata"], ok["error"]) == ("fake", [], {"x": 1}, None)
    assert bad["error"]["type"] == "RecordError"


def test_the_counts_are_sums_over_the_outputs() -> None:
    job = JobOf(questions(3))
    summary = job(FakeModel()).to_dict()
    assert summary["prompt_tokens"] == sum(line["usage"]["prompt_tokens"] for line in job.lines) == 6
    assert summary["completion_tokens"] == 6
    assert summary["total_tokens"] == 12
    assert summary["tokens_per_record"] == 2


def test_a_manifest_of_bad_lines_loads_no_model() -> None:
    def load() -> VLMModel:
        raise AssertionError("loaded")

    assert JobOf(["bad"] * 3)(load).failed == 3


def test_bad_lines_before_a_model_that_cannot_be_loaded_are_written() -> None:
    def load() -> VLMModel:
        raise ModelLoadError("no weights.")

    job = JobOf(["bad", *questions(1)])
    with pytest.raises(ModelLoadError):
        job(load)
    assert len(job.lines) == 1


def test_an_answer_that_never_comes_is_an_error_record() -> None:
    def forgetful(model: Odd, inputs: Any) -> Iterator[Any]:
        for key, input in inputs:
            if key != 1:
                yield key, model.predict(input)

    job = JobOf(questions(3))
    job(Odd(forgetful))
    assert [line["status"] for line in job.lines] == ["ok", "error", "ok"]
    assert "ended without answering" in job.lines[1]["error"]["message"]
    assert job.lines[1]["error"]["type"] == "GenerationError"


def test_a_second_answer_and_one_to_an_unknown_key_change_nothing() -> None:
    def chatty(model: Odd, inputs: Any) -> Iterator[Any]:
        for key, input in inputs:
            yield 999, model.predict(input)
            yield key, model.predict(input)
            yield key, GenerationError("again")

    job = JobOf(questions(3))
    assert job(Odd(chatty)).ok == 3
    assert len(job.lines) == 3


def test_a_failure_of_one_record_is_its_own() -> None:
    job = JobOf(questions(3))
    summary = job(FakeModel(window=3, script={"question 1": GenerationError("no.", hint="Try.")}))
    assert [line["status"] for line in job.lines] == ["ok", "error", "ok"]
    assert job.lines[1]["error"] == {"type": "GenerationError", "message": "standard input:2: no. Try."}
    assert summary.failed == 1


def test_a_bug_in_the_model_ends_the_run_with_everything_written() -> None:
    job = JobOf(questions(5))
    with pytest.raises(RunError, match=r"ZeroDivisionError.*--resume"):
        job(FakeModel(script={"question 3": ZeroDivisionError("oops")}))
    assert len(job.lines) == 3


def test_an_answer_that_is_not_json_is_an_error_record() -> None:
    def odd(model: Odd, inputs: Any) -> Iterator[Any]:
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        for key, _ in inputs:
            config = [{"x": float("nan")}, {"x": object()}, {}][key]
            yield key, VLMOutput(generated_text="\ud800", usage=usage, generation_config=config)

    job = JobOf(questions(3))
    summary = job(Odd(odd))
    assert [line["status"] for line in job.lines] == ["error", "error", "ok"]
    assert (summary.ok, summary.failed) == (1, 2)


def test_a_manifest_that_breaks_is_not_blamed_on_the_model(tmp_path: Path) -> None:
    class Breaking(io.BytesIO):
        def readline(self, *args: Any) -> bytes:
            if self.tell() > 40:
                raise OSError(5, "Input/output error")
            return super().readline(*args)

    text = b'{"prompt": "a question"}\n' * 5
    manifest = Manifest(None, stream=Breaking(text), settings=GREEDY)
    with pytest.raises(ManifestError, match="Input/output"):
        Job(AllRemaining(manifest), FakeModel(), StreamSink("fake", io.StringIO())).run()


def test_no_more_requests_are_taken_than_the_model_asks_for() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for i in range(10**9):
            taken.append(i)
            yield json.dumps({"prompt": f"question {i}"})

    class Lazy(io.RawIOBase):
        def __init__(self) -> None:
            self.lines = endless()

        def readline(self, size: int | None = -1) -> bytes:
            return next(self.lines).encode() + b"\n"

    stop = threading.Event()
    manifest = Manifest(None, stream=Lazy(), settings=GREEDY)  # type: ignore[arg-type]

    def at_100(result: Result) -> None:
        if result.request.index == 100:
            stop.set()

    sink = StreamSink("fake", io.StringIO())
    summary = Job(AllRemaining(manifest), FakeModel(window=4), sink, stop=stop).run(at_100)
    assert summary.interrupted
    assert len(taken) <= 110


def test_a_slow_first_record_bounds_what_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamSink, "MAX_WAITING", 10)
    most = 0

    def slow_first(model: Odd, inputs: Any) -> Iterator[Any]:
        held: Any = None
        for key, input in inputs:
            if key == 0:
                held = key, model.predict(input)
            else:
                yield key, model.predict(input)
        if held is not None:
            yield held

    job = JobOf(questions(100))

    def count(_: Result) -> None:
        nonlocal most
        most = max(most, len(job.sink._waiting))

    summary = job(Odd(slow_first), on_result=count)
    assert summary.ok == 100
    assert most <= 11
    assert [line["id"] for line in job.lines] == [str(i) for i in range(1, 101)]


def test_a_stop_lets_what_is_in_flight_finish_or_drops_it() -> None:
    stop = threading.Event()

    def slow(model: Odd, inputs: Any) -> Iterator[Any]:
        batch = list(inputs) if stop.is_set() else [next(inputs) for _ in range(10)]
        stop.set()
        for key, input in batch:
            time.sleep(0.02)
            yield key, model.predict(input)

    job = JobOf(questions(20))
    summary = job(Odd(slow), stop=stop, grace=5)
    assert (summary.ok, summary.interrupted) == (10, True)
    stop.clear()
    job = JobOf(questions(20))
    summary = job(Odd(slow), stop=stop, grace=0.05)
    assert 1 <= summary.ok < 10
    assert summary.interrupted


def test_ctrl_c_inside_the_model_is_a_stop(tmp_path: Path) -> None:
    def interrupted(model: Odd, inputs: Any) -> Iterator[Any]:
        for key, input in inputs:
            if key == 2:
                raise KeyboardInterrupt
            yield key, model.predict(input)

    job = JobOf(questions(5))
    assert job(Odd(interrupted)).interrupted
    assert len(job.lines) == 2


def test_a_closed_stream_ends_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    remaining = AllRemaining(manifest_of(questions(3)))
    with pytest.raises(RunError, match="Broken pipe"):
        Job(remaining, FakeModel(), StreamSink("fake", Closed())).run()


def test_a_device_is_written_as_a_stream() -> None:
    with open_output(Path("/dev/null"), manifest_of(questions(2)), model="fake", fingerprint="f") as opened:
        assert Job(opened.remaining, FakeModel(), opened.sink).run().ok == 2


def test_records_import_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = (
        "import sys, pixano_vlm.runs.run, pixano_vlm.inputs.preflight, "
        "pixano_vlm.outputs.run_file, pixano_vlm.media.http; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
