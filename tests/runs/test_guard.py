"""A resumed run throws no answer away unasked: it says what holds, refuses a mass loss, keeps what it replaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.fakes import FakeModel, run

from pixano_vlm.errors import GenerationError, ModelLoadError, OutputError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.open import open_source
from pixano_vlm.inputs.template import Template
from pixano_vlm.models import GenerationSettings
from pixano_vlm.outputs.jsonl import journal_path
from pixano_vlm.runs.backup import backup_path
from pixano_vlm.runs.changes import changes
from pixano_vlm.runs.job import Job
from pixano_vlm.runs.open import OpenOptions, open_output

pytestmark = pytest.mark.once

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)
WARM = GenerationSettings(temperature=0.9, max_new_tokens=16)


class Runs:
    """Runs of one manifest into one output."""

    def __init__(self, folder: Path, count: int = 30) -> None:
        self.manifest, self.output = folder / "m.jsonl", folder / "o.jsonl"
        self.lines: list[dict[str, Any]] = [{"id": f"r{n}", "prompt": f"question {n}"} for n in range(count)]

    def __call__(self, model: FakeModel | None = None, **options: Any) -> Any:
        self.manifest.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        options = {"settings": GREEDY, "resume": True, **options}
        return run(self.manifest, self.output, model or FakeModel(), **options)

    def answers(self, path: Path | None = None) -> dict[str, str]:
        path = path or self.output
        text = path.read_text() if path.exists() else ""
        return {line["id"]: line["generated_text"] for line in map(json.loads, text.splitlines())}

    def files(self) -> dict[str, bytes]:
        folder = self.output.parent
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("o.")}


def notice(runs: Runs, **options: Any) -> str | None:
    """What is said when the output is opened, or the refusal."""
    try:
        manifest = Manifest(runs.manifest, settings=options.pop("settings", GREEDY))
        names = {"model": "fake", "fingerprint": "fake-1", **options}
        with open_output(runs.output, manifest, options=OpenOptions(resume=True), **names) as opened:
            return opened.notice
    except OutputError as error:
        return f"{error.message} {error.hint}"


def test_thirty_lines_and_a_limit_of_five_keep_thirty(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs()
    before, answers = runs.files(), runs.answers()
    with pytest.raises(
        OutputError, match=r"0 of 30 earlier answers hold: temperature was 0, now 0\.9"
    ) as caught:
        runs(settings=WARM, limit=5)
    assert "--force" in str(caught.value.hint)
    assert runs.files() == before

    runs(settings=WARM, limit=5, force=True)
    now = runs.answers()
    assert len(now) == 30
    assert [now[key] == answers[key] for key in answers] == [False] * 5 + [True] * 25
    assert runs.answers(backup_path(runs.output)) == answers

    runs(settings=WARM, limit=10)  # what was forced once need not be forced again
    assert sum(runs.answers()[key] != answers[key] for key in answers) == 10

    runs(settings=WARM)
    assert sum(runs.answers()[key] != answers[key] for key in answers) == 30
    assert not backup_path(runs.output).exists()


def test_going_back_to_the_first_settings_finds_the_lines_that_were_kept(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs()
    answers = runs.answers()
    runs(settings=WARM, limit=5, force=True)
    model = FakeModel()
    runs(model, force=True)
    assert len(model.asked) == 5
    assert runs.answers() == answers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"settings": WARM}, "temperature was 0, now 0.9"),
        ({"settings": GREEDY.model_copy(update={"max_new_tokens": 20})}, "max_new_tokens was 16, now 20"),
        ({"settings": GREEDY.model_copy(update={"stop": ["."]})}, "stop was not set, now ['.']"),
        (
            {"settings": GREEDY.model_copy(update={"response_format": {"type": "json_object"}})},
            "the JSON schema changed",
        ),
        ({"model": "other"}, 'the model was "fake", now "other"'),
        ({"fingerprint": "fake-2"}, "the model's weights, class or parameters changed"),
    ],
)
def test_one_change_is_named_and_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    runs = Runs(tmp_path)
    runs()
    before = runs.files()
    text = notice(runs, **options)
    if options == {"model": "other"}:  # another name for the same weights asks nothing again
        assert text is None
        return
    assert text is not None
    assert f"0 of 30 earlier answers hold: {said}." in text
    assert "--force" in text
    assert runs.files() == before


def test_the_prompt_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(12):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / "photos" / f"{number:02}.png")
    output = tmp_path / "o.jsonl"

    def go(prompt: str, **options: Any) -> None:
        source = open_source([str(tmp_path / "photos")], Template(prompt))
        manifest = Manifest(None, rows=source.rows, settings=GREEDY)
        opening = OpenOptions(resume=True, **options)
        facts = {"prompt": prompt}
        with open_output(
            output, manifest, model="m", fingerprint="f", options=opening, facts=facts
        ) as opened:
            Job(opened.remaining, FakeModel(), opened.sink).run()

    go("Describe this image.")
    with pytest.raises(OutputError) as caught:
        go("Describe this imge.")
    assert (
        '0 of 12 earlier answers hold: the prompt was "Describe this image.", now "Describe this imge."'
        in (caught.value.message)
    )
    for path in (tmp_path / "photos").glob("*"):
        if path.name != "00.png":
            path.unlink()
    with pytest.raises(
        OutputError, match="only 1 of 12 earlier answers hold: 11 records no longer in the manifest"
    ):
        go("Describe this image.")
    assert len(output.read_text().splitlines()) == 12


def test_a_few_that_change_are_said_and_asked_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs()
    runs.lines[3]["prompt"] = "another"
    del runs.lines[20]
    runs.manifest.write_text("".join(json.dumps(line) + "\n" for line in runs.lines))
    assert notice(runs) == (
        "28 of 30 earlier answers hold: 1 record changed, or their images did; 1 record no longer in the manifest"
    )


def test_an_answer_of_a_record_that_is_gone_is_kept_beside_the_output(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs()
    gone = runs.lines.pop(7)["id"]
    runs()
    assert gone not in runs.answers()
    assert list(runs.answers(backup_path(runs.output))) == [gone]
    runs()
    assert list(runs.answers(backup_path(runs.output))) == [gone]


def test_retrying_what_is_flagged_with_another_setting_leaves_the_others_alone(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs(FakeModel(script={"question 4": GenerationError("bad luck")}))
    answers = runs.answers()
    model = FakeModel()
    longer = GREEDY.model_copy(update={"max_new_tokens": 30})
    summary = runs(model, settings=longer, retry_failed=True)
    assert (model.asked, summary.reused, summary.ok) == (["question 4"], 29, 1)
    assert {key: text for key, text in runs.answers().items() if key != "r4"} == {
        key: text for key, text in answers.items() if key != "r4"
    }
    model = FakeModel()
    runs(model)
    assert model.asked == []


@pytest.mark.parametrize("mode", [{"overwrite": True, "resume": False}, {"resume": True, "force": True}])
def test_a_start_that_fails_leaves_what_it_found(tmp_path: Path, mode: dict[str, Any]) -> None:
    class Unloadable(FakeModel):
        def load_model(self) -> None:
            raise ModelLoadError("no weights.")

    runs = Runs(tmp_path)
    with pytest.raises(ModelLoadError):
        runs(Unloadable(), **mode)
    assert runs.files() == {}
    runs()
    answers = runs.answers()
    with pytest.raises(ModelLoadError):
        runs(Unloadable(), settings=WARM, **mode)
    assert runs.answers() == answers
    model = FakeModel()
    runs(model, force=True)
    assert model.asked == []


def test_a_long_schema_does_not_cost_the_journal(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {f"key{n}": {"type": "string"} for n in range(500)}}
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    long = GREEDY.model_copy(update={"response_format": asked})
    runs = Runs(tmp_path)
    runs(settings=long)
    model = FakeModel()
    assert runs(model, settings=long).reused == 30
    assert model.asked == []
    assert "the settings or the JSON schema changed" in str(notice(runs))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_costs_an_answer_unasked(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever changed, every earlier answer is in the output, replaced by a new one, or in the backup."""
    runs = Runs(tmp_path_factory.mktemp("runs"), data.draw(st.integers(1, 26)))
    for line in runs.lines:
        if data.draw(st.booleans()):
            del line["id"]
    runs(limit=data.draw(st.integers(0, 30)), settings=GREEDY)
    for _ in range(data.draw(st.integers(1, 3))):
        before = {**runs.answers(), **runs.answers(backup_path(runs.output))}
        files = runs.files()
        kind = data.draw(st.sampled_from(["setting", "prompt", "remove", "insert", "nothing", "reverse"]))
        options: dict[str, Any] = {}
        if kind == "setting":
            options["settings"] = data.draw(st.sampled_from([WARM, GREEDY]))
        elif kind == "prompt":
            for line in runs.lines[: data.draw(st.integers(0, len(runs.lines)))]:
                line["prompt"] += "?"
        elif kind == "remove":
            del runs.lines[: data.draw(st.integers(0, len(runs.lines) - 1))]
        elif kind == "insert":
            runs.lines.insert(0, {"prompt": f"new {data.draw(st.integers(0, 99))}"})
        elif kind == "reverse":
            runs.lines.reverse()
        model = FakeModel()
        options["limit"] = data.draw(st.one_of(st.none(), st.integers(0, 30)))
        options["force"] = data.draw(st.booleans())
        try:
            runs(model, **options)
        except OutputError as error:
            refusal: str | None = error.message
        else:
            refusal = None
        if refusal is not None:
            assert not options["force"]
            assert "earlier answers hold" in refusal
            assert model.asked == []
            assert runs.files() == files
            continue
        now = {**runs.answers(backup_path(runs.output)), **runs.answers()}
        # An answer of a record without an id goes to wherever its line is now.
        assert [key for key, text in before.items() if key not in now and text not in now.values()] == []


def test_changes_name_every_setting_that_differs() -> None:
    old = {"settings": GREEDY.model_dump_json(), "run_seed": 0}
    new = {"settings": WARM.model_dump_json(), "run_seed": 5}
    assert changes(old, {}, new, {}) == [
        "temperature was 0, now 0.9", "seed was 0, now 5",
    ]  # fmt: skip


def test_the_journal_of_a_refused_run_is_the_one_that_was_there(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs()
    before = journal_path(runs.output).stat().st_ino
    assert notice(runs, settings=WARM)
    assert journal_path(runs.output).stat().st_ino == before
