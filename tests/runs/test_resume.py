"""Runs that lose nothing: whatever happens to a run, it can be gone on with and ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.fakes import FakeDisk, FakeModel, PowerCut, run

from pixano_vlm.errors import GenerationError, OutputError, RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.models import GenerationSettings
from pixano_vlm.outputs import jsonl
from pixano_vlm.outputs.jsonl import journal_path
from pixano_vlm.runs.check import Checked, Finding, check_output

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)
OUT = Path("/nowhere/out.jsonl")
TIMES = int(os.environ.get("PIXANO_VLM_CASES", "1"))
"""How many times as many cases the property tests try; `make test-slow` asks for ten."""


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {i}", "id": f"r{i}", "metadata": {"n": i}} for i in range(count)]


def picture(path: Path, colour: tuple[int, int, int]) -> str:
    Image.new("RGB", (4, 4), colour).save(path)
    return path.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


class Run:
    """Repeated runs of one manifest into one output."""

    def __init__(self, folder: Path, lines: list[Any]) -> None:
        self.manifest = write(folder / "m.jsonl", lines)
        self.output = folder / "o.jsonl"
        self.lines = lines

    def __call__(self, model: FakeModel | None = None, **options: Any) -> FakeModel:
        write(self.manifest, self.lines)
        model = model or FakeModel()
        options = {"settings": GREEDY, "resume": True, **options}
        self.summary = run(self.manifest, self.output, model, **options)
        return model

    def assert_as_if_fresh(self, **options: Any) -> None:
        fresh = self.output.with_name("fresh.jsonl")
        run(self.manifest, fresh, FakeModel(), **{"settings": GREEDY, "overwrite": True, **options})
        assert self.output.read_bytes() == fresh.read_bytes()


# --- what counts as done ---


def test_a_finished_run_has_nothing_to_do_and_loads_no_model(folder: Path) -> None:
    job = Run(folder, numbered(5))
    job()
    model = job()
    assert (model.loads, model.asked) == (0, [])
    assert (job.summary.ok, job.summary.reused) == (0, 5)


def test_edited_prompts_replaced_images_and_changed_settings_are_asked_again_and_nothing_else(
    folder: Path,
) -> None:
    rng = random.Random(0)
    names = [picture(folder / f"p{i}.png", (i, 0, 0)) for i in range(100)]
    lines = [{"prompt": f"q{i}", "images": names[i % 100], "id": f"r{i}"} for i in range(300)]
    lines[10]["images"] = lines[20]["images"] = []  # so that two pictures are used by two records each
    job = Run(folder, lines)
    job(FakeModel(window=8, shuffle=1))
    edited = rng.sample(range(100, 200), 4)
    for i in edited[:3]:
        job.lines[i]["prompt"] = f"another {i}"
    job.lines[edited[3]]["max_new_tokens"] = 5
    for name in ("solo1.png", "solo2.png"):
        picture(folder / name, (9, 9, 9))
    job.lines[210]["images"], job.lines[220]["images"] = "solo1.png", "solo2.png"
    job()
    for name in ("solo1.png", "solo2.png"):
        picture(folder / name, (8, 8, 8))
    for i in edited[:3]:
        job.lines[i]["prompt"] = f"a third {i}"
    job.lines[edited[3]]["max_new_tokens"] = 6
    model = job()
    assert len(model.asked) == 6
    assert set(model.asked) == {f"a third {i}" for i in edited[:3]} | {f"q{edited[3]}", "q210", "q220"}
    job.assert_as_if_fresh()


def test_an_image_replaced_with_its_size_and_modification_time_kept_is_noticed(folder: Path) -> None:
    path = folder / "a.bmp"
    picture(path, (1, 2, 3))
    job = Run(folder, [{"prompt": "q", "images": "a.bmp"}])
    job()
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-5] ^= 0xFF
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(job().asked) == 1
    job.assert_as_if_fresh()


def test_an_image_that_was_only_touched_is_not_asked_again(folder: Path) -> None:
    picture(folder / "a.png", (1, 2, 3))
    job = Run(folder, [{"prompt": "q", "images": "a.png"}])
    job()
    os.utime(folder / "a.png", ns=(1, 1))
    assert job().asked == []


def test_an_image_that_moved_is_not_asked_again_and_its_new_path_is_written(folder: Path) -> None:
    picture(folder / "a.png", (1, 2, 3))
    job = Run(folder, [{"prompt": "q", "images": "a.png"}])
    job()
    (folder / "a.png").rename(folder / "b.png")
    job.lines[0]["images"] = "b.png"
    assert job().asked == []
    assert read(job.output)[0]["images"] == ["b.png"]


def test_an_image_inside_messages_counts_by_its_bytes_too(folder: Path) -> None:
    picture(folder / "a.png", (1, 2, 3))
    messages = [
        {"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "q"}]}
    ]
    job = Run(folder, [{"prompt": messages}])
    job()
    assert job().asked == []
    picture(folder / "a.png", (3, 2, 1))
    assert len(job().asked) == 1


def test_edited_metadata_and_ids_reuse_the_answer(folder: Path) -> None:
    job = Run(folder, numbered(6))
    job()
    job.lines[1]["metadata"] = {"new": True}
    job.lines[2]["id"] = "renamed"
    job.lines[3]["answer"] = "passed through"
    assert job().asked == []
    job.assert_as_if_fresh()


def test_inserted_removed_and_moved_lines_keep_their_answers(folder: Path) -> None:
    lines = [{"prompt": f"question {i}"} for i in range(40)]
    job = Run(folder, lines)
    job(FakeModel(window=5, shuffle=3))
    job.lines = [{"prompt": "new first"}, *reversed(lines[5:]), {"prompt": "new last"}, "", lines[0]]
    model = job()
    assert sorted(model.asked) == ["new first", "new last"]
    job.assert_as_if_fresh()


@pytest.mark.parametrize(
    "change",
    [
        {"settings": GenerationSettings(temperature=0, max_new_tokens=17)},
        {"fingerprint": "fake-2"},
        {"settings": GenerationSettings(temperature=0.5, max_new_tokens=16)},
    ],
)
def test_another_model_or_setting_does_every_record_again_but_those_that_set_it_themselves(
    folder: Path, change: dict[str, Any]
) -> None:
    lines = [*numbered(4), {"prompt": "own", "id": "own", "max_new_tokens": 3, "temperature": 0}]
    job = Run(folder, lines)
    job()
    model = job(**change)
    expected = 5 if "fingerprint" in change else 4
    assert len(model.asked) == expected
    job.assert_as_if_fresh(**change)


def test_a_changed_run_seed_redoes_sampled_records_only(folder: Path) -> None:
    job = Run(folder, [{"prompt": "sampled", "temperature": 1}, {"prompt": "greedy", "temperature": 0}])
    job()
    assert job(run_seed=7).asked == ["sampled"]


def test_equal_sampled_records_keep_answers_of_their_own_when_moved(folder: Path) -> None:
    lines = [{"prompt": "same", "temperature": 1} for _ in range(4)]
    job = Run(folder, lines)
    job()
    before = [line["generated_text"] for line in read(job.output)]
    assert len(set(before)) == 4
    job.lines = ["", *lines]
    assert job().asked == []
    assert sorted(line["generated_text"] for line in read(job.output)) == sorted(before)


def test_failed_records_are_kept_unless_asked_for(folder: Path) -> None:
    job = Run(folder, [*numbered(3), "not json"])
    job(FakeModel(script={"question 1": GenerationError("no luck.")}))
    assert [line["status"] for line in read(job.output)] == ["ok", "error", "ok", "error"]
    assert job().asked == []
    assert job.summary.reused_failed == 2
    assert job(retry_failed=True).asked == ["question 1"]
    assert [line["status"] for line in read(job.output)] == ["ok", "ok", "ok", "error"]
    job.assert_as_if_fresh()


def test_an_image_that_appears_is_tried_again(folder: Path) -> None:
    job = Run(folder, [{"prompt": "q", "images": "late.png"}])
    job()
    assert read(job.output)[0]["error"]["type"] == "ImageError"
    picture(folder / "late.png", (1, 1, 1))
    assert job().asked == ["q"]
    assert read(job.output)[0]["status"] == "ok"


def test_an_edit_that_makes_ids_equal_turns_the_second_into_an_error_and_back(folder: Path) -> None:
    job = Run(folder, numbered(4))
    job()
    job.lines[0]["id"] = "r2"
    assert job().asked == []
    assert [line["status"] for line in read(job.output)] == ["ok", "ok", "error", "ok"]
    job.lines[0]["id"] = "r0"
    assert job().asked == ["question 2"]
    job.assert_as_if_fresh()


def test_resuming_from_standard_input_reads_it_to_its_end_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from pixano_vlm.inputs.manifest import Manifest
    from pixano_vlm.runs.job import Job
    from pixano_vlm.runs.open import OpenOptions, open_output

    def go(lines: list[Any]) -> FakeModel:
        model = FakeModel()
        stream = io.BytesIO("".join(json.dumps(line) + "\n" for line in lines).encode())
        manifest = Manifest(None, stream=stream, settings=GREEDY)
        options = OpenOptions(resume=True)
        output = folder / "o.jsonl"
        with open_output(output, manifest, model="fake", fingerprint="f", options=options) as opened:
            Job(opened.remaining, model, opened.sink).run()
        return model

    go(numbered(3))
    assert go([{"prompt": "new"}, *numbered(3)]).asked == ["new"]
    assert len(read(folder / "o.jsonl")) == 4


def test_a_limit_leaves_the_other_answers_where_they_are(folder: Path) -> None:
    job = Run(folder, numbered(6))
    job(limit=2)
    assert len(read(job.output)) == 2
    assert job(limit=4).asked == ["question 2", "question 3"]
    assert len(job().asked) == 2
    assert job(limit=1).asked == []
    assert len(read(job.output)) == 6


# --- what is refused ---


def test_an_output_that_exists_is_refused_with_both_ways_out(folder: Path) -> None:
    job = Run(folder, numbered(1))
    job.output.write_text("precious")
    with pytest.raises(OutputError, match=r"--resume.*--overwrite"):
        job(resume=False)
    with pytest.raises(OutputError, match="has no journal"):
        job()
    assert job.output.read_text() == "precious"
    job(resume=False, overwrite=True)
    assert len(read(job.output)) == 1


def test_a_second_run_on_the_same_output_is_refused(folder: Path) -> None:
    job = Run(folder, numbered(3))
    seen: list[str] = []

    def second(_: Any) -> None:
        with pytest.raises(OutputError, match="another run is writing"):
            run(job.manifest, job.output, settings=GREEDY, resume=True)
        with pytest.raises(OutputError, match="another run is writing"):
            run(job.manifest, job.output, settings=GREEDY, overwrite=True)
        seen.append("refused")

    job(FakeModel(on_answer=second))
    assert len(seen) == 3
    job.assert_as_if_fresh()


def test_the_manifest_itself_is_refused_as_the_output(folder: Path) -> None:
    manifest = write(folder / "m.jsonl", numbered(1))
    with pytest.raises(OutputError, match="the manifest itself"):
        run(manifest, manifest, overwrite=True)
    assert len(read(manifest)) == 1


def test_a_damaged_line_in_the_output_is_asked_again(folder: Path) -> None:
    job = Run(folder, numbered(5))
    job()
    data = bytearray(job.output.read_bytes())
    data[data.index(b"r3") + 60] ^= 1
    job.output.write_bytes(data)
    assert job().asked == ["question 3"]
    job.assert_as_if_fresh()


def test_a_damaged_journal_is_never_believed(folder: Path) -> None:
    job = Run(folder, numbered(3))
    job()
    journal = journal_path(job.output)
    whole, text = journal.read_bytes(), job.output.read_bytes()
    for place in range(4096, 4096 + 92):
        data = bytearray(whole)
        data[place] ^= 0xFF
        journal.write_bytes(data)
        assert job().asked == ["question 0"]
        assert (job.summary.reused, job.summary.reused_failed) == (2, 0)
        assert job.output.read_bytes() == text
    journal.write_bytes(b"\0" * 5000)
    with pytest.raises(OutputError, match="has no journal"):
        job()
    assert job.output.read_bytes() == text


# --- the disk ---


def test_a_full_disk_ends_the_run_and_every_finished_result_is_kept(folder: Path) -> None:
    lines = numbered(40)
    manifest = write(folder / "m.jsonl", lines)
    for room in range(5000, 16000, 450):
        disk, first = FakeDisk(room=room), FakeModel(window=4, shuffle=0)
        written: list[str] = []
        with pytest.raises(RunError, match="Make room") as caught:
            run(
                manifest,
                OUT,
                first,
                disk=disk,
                settings=GREEDY,
                on_result=lambda r, written=written: written.append(r.request.id),
            )
        assert "No space left" in caught.value.message
        disk.room = None
        disk.kill()
        second = FakeModel()
        run(manifest, OUT, second, disk=disk, settings=GREEDY, resume=True)
        assert not {f"question {id[1:]}" for id in written} & set(second.asked)
        assert disk.text(OUT) == fresh_text(manifest)


def test_a_disk_without_room_for_ordering_says_so_and_keeps_every_result(folder: Path) -> None:
    manifest = write(folder / "m.jsonl", numbered(40))
    text = fresh_text(manifest)
    disk = FakeDisk(room=4096 + 40 * 96 + len(text) + len(text) // 2)
    with pytest.raises(RunError, match="manifest's order"):
        run(manifest, OUT, FakeModel(window=4, shuffle=0), disk=disk, settings=GREEDY)
    disk.room = None
    disk.kill()
    model = FakeModel()
    run(manifest, OUT, model, disk=disk, settings=GREEDY, resume=True)
    assert model.asked == []
    assert disk.text(OUT) == text


def test_a_replaced_line_that_cannot_be_removed_ends_a_whole_run_with_an_error_that_says_so(
    folder: Path,
) -> None:
    manifest, disk = write(folder / "m.jsonl", numbered(3)), Broken(errno.EROFS, 10_000)
    run(manifest, OUT, disk=disk, settings=GREEDY)
    disk.kill()
    write(folder / "m.jsonl", [{**numbered(1)[0], "prompt": "another"}, *numbered(3)[1:]])
    disk.after, disk.broken = 0, ("unlink",)
    with pytest.raises(RunError, match=r"replaced\.jsonl cannot be .* Read-only.*holds every result"):
        run(manifest, OUT, disk=disk, settings=GREEDY, resume=True)
    disk.kill()
    disk.broken = ()
    assert disk.text(OUT) == fresh_text(manifest)


@pytest.mark.parametrize("name", ["out.jsonl.new", "out.jsonl.replaced.jsonl.new"])
def test_what_a_killed_run_was_making_is_removed_by_the_next(folder: Path, name: str) -> None:
    manifest, disk = write(folder / "m.jsonl", numbered(3)), FakeDisk()
    run(manifest, OUT, disk=disk, settings=GREEDY)
    disk.open(OUT.with_name(name), create=True)
    disk.kill()
    run(manifest, OUT, disk=disk, settings=GREEDY, resume=True)
    assert not [path for path in disk.names if path.name.endswith(".new")]


def test_a_folder_that_cannot_be_synced_once_the_new_journal_is_there_loses_no_answer(folder: Path) -> None:
    """Lines that were written again for their records' new ids are kept, for the new journal points at them."""
    manifest, disk = write(folder / "m.jsonl", numbered(4)), Broken(errno.EIO, 10_000)
    run(manifest, OUT, disk=disk, settings=GREEDY)
    disk.kill()
    write(manifest, [{**line, "id": f"new {n}"} for n, line in enumerate(numbered(4))])
    disk.after, disk.broken = 0, ("sync_folder",)
    with pytest.raises(OutputError, match="Input/output error"):
        run(manifest, OUT, disk=disk, settings=GREEDY, resume=True)
    assert disk.fds == {}
    disk.kill()
    disk.broken, model = (), FakeModel()
    run(manifest, OUT, model, disk=disk, settings=GREEDY, resume=True)
    assert model.asked == []
    assert disk.text(OUT) == fresh_text(manifest)


def test_an_output_that_vanishes_is_put_back_and_the_run_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "SYNC_SECONDS", 0.0)
    job = Run(folder, numbered(20))

    def vanish(input: Any) -> None:
        if input.prompt == "question 10":
            job.output.unlink()

    with pytest.raises(RunError, match="put back"):
        job(FakeModel(on_answer=vanish))
    assert len(read(job.output)) >= 10
    assert "question 9" not in job().asked
    job.assert_as_if_fresh()


def test_a_folder_that_vanishes_ends_the_run_with_a_clear_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(jsonl, "SYNC_SECONDS", 0.0)
    manifest = write(folder / "m.jsonl", numbered(5))
    (folder / "sub").mkdir()
    model = FakeModel(on_answer=lambda _: shutil.rmtree(folder / "sub", ignore_errors=True))
    with pytest.raises(RunError, match="removed or replaced"):
        run(manifest, folder / "sub" / "o.jsonl", model)


class Broken(FakeDisk):
    """A disk on which an operation fails from some moment on."""

    def __init__(self, number: int, after: int, *operations: str) -> None:
        super().__init__()
        self.number, self.after, self.broken = number, after, operations

    def _step(self) -> bool:
        caller = sys._getframe(1).f_code.co_name.removesuffix("_some")
        if self.operations >= self.after and caller in self.broken:
            raise OSError(self.number, os.strerror(self.number))
        return super()._step()


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
@pytest.mark.parametrize("operation", ["write", "sync", "open", "rename", "truncate"])
def test_whatever_the_disk_refuses_and_whenever_nothing_finished_is_lost(
    folder: Path, number: int, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write(folder / "m.jsonl", numbered(6))
    monkeypatch.setattr(jsonl, "SYNC_SECONDS", 0.0)
    monkeypatch.setattr(jsonl, "SYNC_SHARE", float("inf"))
    expected = fresh_text(manifest)
    for after in range(0, 60, 3):
        disk, written = Broken(number, after, operation), []
        try:
            run(
                manifest, OUT, FakeModel(window=3, shuffle=5), disk=disk, settings=GREEDY,
                on_result=lambda result, written=written: written.append(result.request.input.prompt),
            )  # fmt: skip
        except (OutputError, RunError) as error:
            assert os.strerror(number) in error.message  # noqa: PT017 - it need not fail at all
        disk.broken = ()
        disk.kill()
        model = FakeModel()
        run(manifest, OUT, model, disk=disk, settings=GREEDY, resume=True)
        assert not set(written) & set(model.asked)
        assert disk.text(OUT) == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(folder: Path) -> None:
    manifest = write(folder / "m.jsonl", numbered(1))
    sealed = folder / "sealed"
    sealed.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        run(manifest, sealed / "o.jsonl")


def test_a_missing_folder_is_refused(folder: Path) -> None:
    manifest = write(folder / "m.jsonl", numbered(1))
    with pytest.raises(OutputError, match="Create the folder"):
        run(manifest, folder / "none" / "o.jsonl")


# --- interruption ---


def test_a_stop_keeps_what_is_done_and_the_next_run_continues(folder: Path) -> None:
    job, stop = Run(folder, numbered(20)), threading.Event()

    def halfway(input: Any) -> None:
        if input.prompt == "question 10":
            stop.set()

    first = job(FakeModel(window=3, on_answer=halfway), stop=stop)
    assert job.summary.interrupted
    assert job.summary.ok == len(first.asked) < 20
    second = job()
    assert not set(first.asked) & set(second.asked)
    job.assert_as_if_fresh()


@given(
    kills=st.lists(st.integers(0, 70) | st.integers(60, 110), max_size=6),
    window=st.integers(1, 6),
    shuffle=st.none() | st.integers(0, 99),
    seed=st.integers(0, 2**16),
    power=st.booleans(),
)
@settings(
    max_examples=150 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_result_is_asked_for_twice_once_a_kill_or_once_synced_a_power_cut_found_it_written(
    tmp_path: Path, kills: list[int], window: int, shuffle: int | None, seed: int, power: bool
) -> None:
    manifest = write(tmp_path / "m.jsonl", numbered(16))
    disk, done = FakeDisk(seed=seed), set()
    was = jsonl.SYNC_SECONDS, jsonl.SYNC_SHARE
    # A power cut takes what was not synced, so there each result is synced as it is written.
    jsonl.SYNC_SECONDS, jsonl.SYNC_SHARE = (0.0 if power else 1e6), float("inf")
    try:
        for when in [*kills, None]:
            disk.cut_at = None if when is None else disk.operations + when
            model = FakeModel(window=window, shuffle=shuffle)
            written: list[str] = []
            with contextlib.suppress(PowerCut):
                run(
                    manifest, OUT, model, disk=disk, settings=GREEDY, resume=True,
                    on_result=lambda result, written=written: written.append(result.request.input.prompt),
                )  # fmt: skip
            assert not done & set(model.asked)
            done |= set(written)
            disk.power_cut() if power else disk.kill()
        assert disk.text(OUT) == fresh_text(manifest)
    finally:
        jsonl.SYNC_SECONDS, jsonl.SYNC_SHARE = was


@pytest.mark.parametrize("power", [True, False], ids=["power_cut", "kill"])
def test_cut_anywhere_while_the_lines_are_put_in_order_a_run_has_nothing_left_to_do(
    folder: Path, power: bool
) -> None:
    manifest = write(folder / "m.jsonl", numbered(30))

    def one(cut_at: int | None, seed: int) -> tuple[FakeDisk, int]:
        disk, answered = FakeDisk(seed=seed, cut_at=cut_at), 0

        def on_result(_: Any) -> None:
            nonlocal answered
            answered = disk.operations

        with contextlib.suppress(PowerCut):
            run(
                manifest, OUT, FakeModel(window=5, shuffle=2), disk=disk, settings=GREEDY, on_result=on_result
            )
        return disk, answered

    whole, answered = one(None, 0)
    assert whole.operations - answered > 6
    # The first two operations after the last answer make it durable; from then on nothing may be lost.
    for cut_at in range(answered + 2, whole.operations + 1):
        for seed in range(12):
            disk, _ = one(cut_at, seed)
            disk.power_cut() if power else disk.kill()
            model = FakeModel()
            run(manifest, OUT, model, disk=disk, settings=GREEDY, resume=True)
            assert model.asked == []
            assert disk.text(OUT) == whole.text(OUT)


def test_an_interrupted_run_leaves_no_record_twice(folder: Path) -> None:
    job, stop = Run(folder, numbered(20)), threading.Event()
    fails = {f"question {i}": GenerationError("no.") for i in range(20)}
    job(FakeModel(script=fails))
    job(
        FakeModel(on_answer=lambda input: stop.set() if input.prompt == "question 9" else None),
        stop=stop,
        retry_failed=True,
    )
    assert job.summary.interrupted
    ids = [line["id"] for line in read(job.output)]
    assert len(ids) == len(set(ids)) < 20
    job(retry_failed=True)
    job.assert_as_if_fresh()


KILLED = """
import sys, time
from pathlib import Path
from tests.fakes import FakeModel, run
from pixano_vlm.models import GenerationSettings
run(Path(sys.argv[1]), Path(sys.argv[2]), FakeModel(window=6, shuffle=1, on_answer=lambda _: time.sleep(0.002)),
    settings=GenerationSettings(temperature=0, max_new_tokens=16), resume=True)
"""


def test_a_process_killed_again_and_again_ends_as_if_nothing_had_happened(folder: Path) -> None:
    rng = random.Random(7)
    job = Run(folder, [*numbered(250), "bad", *({"prompt": f"more {i}"} for i in range(50))])
    command = [sys.executable, "-c", KILLED, str(job.manifest), str(job.output)]
    lines, code = 0, None
    for kill in [True] * 6 + [False]:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        if kill:
            # From the moment that it writes, so that a slow machine does not spend its kills on imports.
            deadline = time.monotonic() + 20
            while not (job.output.exists() and job.output.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        before, lines = lines, job.output.read_bytes().count(b"\n")
        assert lines >= before
    assert code == 0
    job.assert_as_if_fresh()


def fresh_text(manifest: Path, **options: Any) -> bytes:
    disk = FakeDisk()
    run(manifest, OUT, FakeModel(), disk=disk, **{"settings": GREEDY, **options})
    return disk.text(OUT)


line = st.one_of(
    st.builds(
        lambda n, t: {"prompt": f"question {n}", "max_new_tokens": t}, st.integers(0, 8), st.integers(1, 2)
    ),
    st.builds(lambda n: {"prompt": f"question {n}", "id": f"id{n}"}, st.integers(0, 8)),
    st.sampled_from(["", "not json", '{"prompt": 5}', '{"id": "x", "prompt": ""}', "{}"]),
    st.just({"prompt": "fails"}),
)
interruption = st.tuples(st.sampled_from(["cut", "kill", "stop"]), st.integers(0, 90), st.booleans())
edit = st.lists(st.tuples(st.integers(0, 20), st.none() | line), max_size=2)


def findings(manifest: Path, disk: FakeDisk, *, is_complete: bool = False) -> list[Finding]:
    records = Manifest(manifest, settings=GREEDY)
    return list(check_output(OUT, records, Checked(), is_complete=is_complete, disk=disk))


@example(  # cut while the lines were put in order, which the next run finds in order
    lines=[{"prompt": "question 0", "id": "id0"}],
    interruptions=[(("stop", 0, False), [(0, None)]), (("cut", 10, False), [])],
    window=1,
    shuffle=None,
    seed=0,
    sync_each=False,
)
@given(
    lines=st.lists(line, max_size=14),
    interruptions=st.lists(st.tuples(interruption, edit), max_size=5),
    window=st.integers(1, 5),
    shuffle=st.none() | st.integers(0, 99),
    seed=st.integers(0, 2**16),
    sync_each=st.booleans(),
)
@settings(
    max_examples=400 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_manifest_and_interruptions_the_run_ends_as_if_nothing_had_happened(
    tmp_path: Path,
    lines: Any,
    interruptions: Any,
    window: int,
    shuffle: int | None,
    seed: int,
    sync_each: bool,
) -> None:
    manifest = tmp_path / "m.jsonl"
    disk, is_torn = FakeDisk(seed=seed), False
    was = jsonl.SYNC_SECONDS, jsonl.SYNC_SHARE
    jsonl.SYNC_SECONDS, jsonl.SYNC_SHARE = (0.0 if sync_each else 1e6), float("inf")
    try:
        for (how, when, retry), edits in interruptions:
            write(manifest, lines)
            stop, written = threading.Event(), []
            disk.cut_at = None if how == "stop" else disk.operations + when

            def on_result(
                result: Any, when: int = when, stop: Any = stop, how: str = how, written: Any = written
            ) -> None:
                written.append(result)
                if how == "stop" and len(written) * 6 > when:
                    stop.set()

            model = FakeModel(window=window, shuffle=shuffle, script={"fails": GenerationError("no.")})
            try:
                run(manifest, OUT, model, disk=disk, settings=GREEDY, resume=True, retry_failed=retry, stop=stop,
                    on_result=on_result)  # fmt: skip
            except PowerCut:
                disk.power_cut() if how == "cut" else disk.kill()
            else:
                disk.kill()
            is_torn |= how == "cut"
            if not is_torn and OUT in disk.names and journal_path(OUT) in disk.names:
                found = {finding.kind for finding in findings(manifest, disk)}
                assert found <= {"missing", "stale"}, "what a kill leaves is not damage"
            for place, new in edits:
                at = min(place, len(lines))
                lines = lines[:at] + ([] if new is None else [new]) + lines[at + 1 :]
        write(manifest, lines)
        script = {"fails": GenerationError("no.")}
        run(manifest, OUT, FakeModel(window=window, shuffle=shuffle, script=script), disk=disk, settings=GREEDY,
            resume=True)  # fmt: skip
        expected = FakeDisk()
        run(manifest, OUT, FakeModel(script=script), disk=expected, settings=GREEDY)
        assert disk.text(OUT) == expected.text(OUT)
        assert not [path for path in disk.names if path.name.endswith(".new")]
        assert journal_path(OUT) in disk.names
        assert findings(manifest, disk, is_complete=True) == []
    finally:
        jsonl.SYNC_SECONDS, jsonl.SYNC_SHARE = was
