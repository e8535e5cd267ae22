"""The library's front door: whatever is given, one call is a whole run, the same as the command line's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import FakeModel

from pixano_vlm import RunEvents, VLMInput, VLMModel, generate
from pixano_vlm.errors import OutputError, RunError, UsageError
from pixano_vlm.models import ModelDeploymentConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    lines = [{"prompt": f"question {n}", "images": [f"photos/{n}.png"]} for n in range(3)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "t.csv").write_text("prompt,image\nquestion 0,photos/0.png\nquestion 1,photos/1.png\n")
    return tmp_path


def texts(run: Any) -> list[str | None]:
    return [result.text for result in sorted(run, key=lambda result: result.request.index)]


def test_a_manifest_its_records_as_mappings_and_as_inputs_are_answered_alike(folder: Path) -> None:
    images = [str(folder / "photos" / f"{n}.png") for n in range(3)]
    of_file = texts(generate(folder / "m.jsonl", FakeModel(), max_new_tokens=9))
    mappings = [{"prompt": f"question {n}", "images": [images[n]]} for n in range(3)]
    inputs = [VLMInput(prompt=f"question {n}", images=[images[n]], max_new_tokens=9) for n in range(3)]
    assert texts(generate(mappings, FakeModel(), max_new_tokens=9)) == of_file
    assert texts(generate(inputs, FakeModel())) == of_file
    assert len(set(of_file)) == 3


def test_a_folder_a_list_of_images_and_a_table_take_a_prompt_or_bring_theirs(folder: Path) -> None:
    of_folder = texts(generate(folder / "photos", FakeModel(), prompt="What?", temperature=0))
    names = [folder / "photos" / f"{n}.png" for n in range(3)]
    assert texts(generate(names, FakeModel(), prompt="What?", temperature=0)) == of_folder
    assert generate(folder / "t.csv", FakeModel()).finish().ok == 2


def test_images_in_memory_are_answered_as_their_files(folder: Path) -> None:
    path = folder / "photos" / "1.png"
    of_file, of_bytes, of_image = (
        texts(generate([{"prompt": "q", "images": [image]}], FakeModel()))
        for image in (path, path.read_bytes(), Image.open(path))
    )
    assert of_file == of_bytes
    assert of_image != [None]


def test_a_models_own_settings_hold_for_inputs_that_leave_them_open() -> None:
    model = FakeModel()
    model.config = ModelDeploymentConfig(name="fake", generation={"temperature": 0, "max_new_tokens": 7})  # type: ignore[arg-type]  # pydantic makes it
    used = [
        result.output.generation_config
        for result in generate([VLMInput(prompt="a", max_new_tokens=3), {"prompt": "b"}], model)
        if result.output is not None
    ]
    assert [(u["max_new_tokens"], u["temperature"]) for u in used] == [(3, 0), (7, 0)]
    assert texts(generate([{"prompt": "b"}], model, temperature=0.5, run_seed=1)) != texts(
        generate([{"prompt": "b"}], model)
    )


def test_an_output_is_resumed_by_records_given_in_python(folder: Path) -> None:
    output = folder / "o.jsonl"
    records = [{"prompt": f"question {n}"} for n in range(4)]
    assert generate(records[:2], FakeModel(), output=output).finish().ok == 2
    model = FakeModel()
    summary = generate(iter(records), model, output=output, resume=True).finish()
    assert (summary.reused, summary.ok, model.asked) == (2, 2, ["question 2", "question 3"])
    with pytest.raises(OutputError, match="exists"):
        generate(records, FakeModel(), output=output).finish()


def test_records_are_taken_lazily_and_whoever_stops_taking_results_stops_the_run() -> None:
    taken: list[int] = []

    def endless() -> Iterator[dict[str, str]]:
        for number in range(10**9):
            taken.append(number)
            yield {"prompt": f"question {number}"}

    run = generate(endless(), FakeModel(window=4))
    for result in run:
        if result.request.index == 20:
            break
    assert len(taken) < 1_000
    stopped = generate(endless(), FakeModel(window=4))
    for result in stopped:
        if result.request.index == 20:
            stopped.stop()
    assert stopped.summary.interrupted


def test_a_model_that_was_loaded_stays_loaded_and_another_is_loaded_once_and_unloaded() -> None:
    loaded, fresh = FakeModel(), FakeModel()
    loaded.load_model()
    for model in (loaded, fresh):
        assert generate([{"prompt": "a"}], model).finish().ok == 1
    assert (loaded.loads, loaded.is_loaded) == (1, True)
    assert (fresh.loads, fresh.is_loaded) == (1, False)


def test_events_say_how_far_a_run_is(folder: Path) -> None:
    heard: list[Any] = []

    class Heard(RunEvents):
        def opened(self, count: int | None, notice: str | None) -> None:
            heard.append(("opened", count, notice))

        def loading(self, model: str) -> None:
            heard.append(("loading", model))

        def loaded(self, model: VLMModel) -> None:
            heard.append("loaded")

    generate(folder / "m.jsonl", FakeModel(), events=Heard()).finish()
    assert heard == [("opened", 3, None), ("loading", "fake"), "loaded"]


def test_a_bad_record_is_a_result_and_what_is_not_a_record_is_refused() -> None:
    results = list(generate([{"prompt": "a"}, {"prompt": "b", "temperature": -1}], FakeModel()))
    assert [result.ok for result in results] == [True, False]
    assert "inputs:2" in str(results[1].error)
    with pytest.raises(UsageError, match="input 1 is of type int"):
        generate([3], FakeModel()).finish()  # type: ignore[list-item]  # that is the mistake


def test_a_misspelt_setting_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError) as caught:
        generate("m.jsonl", FakeModel(), temprature=0)
    assert caught.value.hint == "Did you mean 'temperature'?"


def test_a_run_is_iterated_once() -> None:
    run = generate([{"prompt": "a"}], FakeModel())
    run.finish()
    with pytest.raises(RunError, match="once"):
        run.finish()
