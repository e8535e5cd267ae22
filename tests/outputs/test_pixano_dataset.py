"""`-o NAME.pixano`: what Pixano's importer is given. That it takes it is shown in `tests/engines/heavy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from tests.inputs.test_pixano_rows import answer, dataset, question
from typer.testing import CliRunner

from pixano_vlm import generate
from pixano_vlm.cli import app
from pixano_vlm.errors import OutputError, RunError
from pixano_vlm.inputs.open import open_source
from pixano_vlm.models import ModelDeploymentConfig, UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_vlm.models.region import Region
from pixano_vlm.outputs.exports import export_rows
from pixano_vlm.pixano_jsonl.ids import derived_id

Values = dict[str, Any]
ALL = {
    "pixano": 2,
    "dataset": {"name": "photos"},
    "format": "pixano_jsonl",
    "schema": {
        "views": {"image": {"kind": "image"}, "closeup": {"kind": "image"}, "note": {"kind": "text"}},
        "record": {"attrs": {"camera": {"type": "str"}}},
        "entity": {"attrs": {"category": {"type": "str"}}},
        "annotations": ["bbox", "classification", "message"],
    },
    "options": {"include_record_fields": ["status"]},
}


class Scripted(VLMModel):
    """Answers with what its script has for the last line of each prompt."""

    def __init__(self, script: dict[str, VLMOutput]) -> None:
        super().__init__(ModelDeploymentConfig(name="scripted", model_class="Scripted", regions="own"))  # type: ignore[arg-type]  # a name, as in a config file
        self.script = script

    def load_model(self) -> None:
        pass

    def predict(self, input: VLMInput) -> VLMOutput:
        prompt = input.prompt if isinstance(input.prompt, str) else input.prompt[-1]["content"]
        return self.script[str(prompt).partition("\n")[0]]


def said(text: str, **more: Any) -> VLMOutput:
    return VLMOutput(generated_text=text, usage=UsageInfo.of(1, 1), **more)


BOXES = [
    Region(label="dog", box=(2, 0, 8, 3), confidence=0.75),
    Region(label="cat", box=(0, 3, 4, 6), image=1),
    Region(label="nose", point=(1, 1)),
]
SCRIPT = {
    "Who?": said("Ann"),
    "Where?": said("here"),
    "What?": said("dog", probabilities={"cat": 0.25, "dog": 0.75}),
    "Which?": said("{}", parsed={"choices": ["dog", "cat"], "explanation": "both\nare there"}),
    "Why?": said("no JSON"),
    "Find": said("boxes", regions=BOXES),
}


@pytest.fixture(autouse=True)
def views_as_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's media as the exporter names those of an imported dataset."""
    monkeypatch.setattr(
        "tests.inputs.test_pixano_rows.VIEW_IDS", [derived_id("rec", "view", view) for view in VIEWS]
    )


VIEWS = ("image", "closeup")


def exported(folder: Path, *conversations: list[Values], spec: Values | None = None, **changed: Any) -> Path:
    return dataset(folder / "exported", *conversations, spec=spec or ALL, **changed)


def written(tmp_path: Path, source: Path, **options: Any) -> list[Values]:
    """The lines of the folder that a run about a dataset writes."""
    output = tmp_path / "answers.pixano"
    generate(source, Scripted(SCRIPT), output=output, **options).finish()
    assert (tmp_path / "answers.jsonl").is_file()
    header, *lines = (output / "train" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(header) == {
        "$pixano": "jsonl/2",
        "defaults": {"source": {"type": "model", "name": "scripted (answers.jsonl)"}},
    }
    return [json.loads(line) for line in lines]


def test_each_answer_is_behind_its_question_and_everything_else_as_it_was(tmp_path: Path) -> None:
    source = exported(
        tmp_path, [question("Who?"), answer("[[]]"), question("When?"), answer("now"), question("Where?")]
    )
    (line,) = written(tmp_path, source)
    assert line == {
        "id": "rec",
        "attrs": {"camera": "north"},
        "views": {
            view: {
                "uri": str(source / "train" / "media" / view / f"{derived_id('rec', 'view', view)}.png"),
                "width": 8,
                "height": 6,
            }
            for view in VIEWS
        }
        | {"note": {"content": "a note"}},
        "conversations": [
            {
                "id": "conv0",
                "messages": [
                    question("Who?"),
                    {"type": "ANSWER", "content": "Ann", "user": "scripted"},
                    question("When?"),
                    answer("now"),
                    question("Where?"),
                    {"type": "ANSWER", "content": "here", "user": "scripted"},
                ],
            }
        ],
    }
    spec = yaml.safe_load((tmp_path / "answers.pixano" / "dataset.yaml").read_text())
    assert spec == {key: value for key, value in ALL.items() if key != "options"}


def test_conversations_and_records_without_a_new_answer_are_not_there(tmp_path: Path) -> None:
    source = exported(
        tmp_path,
        [question("When?"), answer("now")],
        [question("Who?")],
        [question("Why?", "MULTI_CHOICE", ["a"])],
    )
    (line,) = written(tmp_path, source)
    assert [conversation["id"] for conversation in line["conversations"]] == ["conv1"]


def test_choices_are_letters_and_labels_a_classification_with_their_probabilities(tmp_path: Path) -> None:
    both = ["cat", "dog"]
    source = exported(
        tmp_path,
        [question("What?", "SINGLE_CHOICE", both)],
        [question("Which?", "MULTI_CHOICE_EXPLANATION", both)],
    )
    (line,) = written(tmp_path, source)
    contents = [conversation["messages"][-1]["content"] for conversation in line["conversations"]]
    assert contents == ["[[B]]", "[[A,B]] both are there"]
    (entity,) = line["entities"]
    (annotation,) = entity["annotations"]
    assert annotation == {
        "id": annotation["id"],
        "kind": "classification",
        "labels": ["dog", "cat"],
        "confidences": [0.75, 0.25],
        "view": "image",
        "source": {"type": "model", "name": "scripted (answers.jsonl)"},
    }


def test_boxes_are_entities_in_shares_of_their_image_with_label_and_confidence(tmp_path: Path) -> None:
    (line,) = written(tmp_path, exported(tmp_path), prompt="Find", regions=True)
    first, second = line["entities"]
    assert [entity["attrs"] for entity in (first, second)] == [{"category": "dog"}, {"category": "cat"}]
    boxes = [entity["annotations"][0] for entity in (first, second)]
    assert [box["coords"] for box in boxes] == [[0.25, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0]]
    assert [(box["view"], box["confidence"]) for box in boxes] == [("image", 0.75), ("closeup", -1.0)]
    assert all((box["kind"], box["format"], box["is_normalized"]) == ("bbox", "xyxy", True) for box in boxes)
    assert first["annotations"][1]["labels"] == ["dog"]
    (conversation,) = line["conversations"]
    assert [message["content"] for message in conversation["messages"]] == ["Find", "boxes"]


def test_the_same_run_gives_the_same_ids(tmp_path: Path) -> None:
    source = exported(tmp_path, [question("Who?")])
    lines = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        lines.append(written(tmp_path / name, source, prompt="Find", regions=True))
    assert lines[0] == lines[1]


def test_a_dataset_without_a_table_for_boxes_is_an_error_that_keeps_the_jsonl(tmp_path: Path) -> None:
    spec = {**ALL, "schema": {**ALL["schema"], "annotations": ["message"]}}
    with pytest.raises(RunError, match="no table for boxes") as caught:
        written(tmp_path, exported(tmp_path, spec=spec), prompt="Find", regions=True)
    assert "coco.json" in str(caught.value.hint)
    assert (tmp_path / "answers.jsonl").is_file()


def test_a_dataset_without_a_place_for_labels_is_an_error(tmp_path: Path) -> None:
    spec = {**ALL, "schema": {**ALL["schema"], "annotations": ["message", "bbox"], "entity": {}}}
    with pytest.raises(RunError, match="no place for the label of a box"):
        written(tmp_path, exported(tmp_path, spec=spec), prompt="Find", regions=True)


def test_a_view_that_would_be_imported_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.inputs.test_pixano_rows.VIEW_IDS", ["v1", "v2"])
    with pytest.raises(RunError, match="it would be there twice"):
        written(tmp_path, exported(tmp_path, [question("Who?")]))


def test_the_dataset_that_was_read_is_not_written_over(tmp_path: Path) -> None:
    source = exported(tmp_path, [question("Who?")]).rename(tmp_path / "own.pixano")
    before = (source / "train" / "metadata.jsonl").read_text()
    with pytest.raises(OutputError, match="the manifest itself"):
        generate(source, Scripted(SCRIPT), output=source).finish()
    assert (source / "train" / "metadata.jsonl").read_text() == before


def test_answers_about_other_images_are_a_dataset_of_their_own(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(photos / name)
    output = tmp_path / "found.pixano"
    generate(photos, Scripted(SCRIPT), output=output, prompt="Find", regions=True).finish()
    header, *lines = map(json.loads, (output / "default" / "metadata.jsonl").read_text().splitlines())
    assert header["$pixano"] == "jsonl/2"
    assert [line["id"] for line in lines] == ["a.png", "b.png"]
    assert lines[0]["views"] == {"image": {"uri": str(photos / "a.png")}}
    assert [entity["attrs"]["category"] for entity in lines[0]["entities"]] == ["dog"]
    (conversation,) = lines[0]["conversations"]
    assert [message["content"] for message in conversation["messages"]] == ["Find", "boxes"]
    spec = yaml.safe_load((output / "dataset.yaml").read_text())
    assert spec["dataset"] == {"name": "found", "workspace": "image_vqa"}
    assert [id for id, _ in export_rows(output)] == ["a.png", "b.png"]


def test_check_compares_the_folder_with_the_output(tmp_path: Path) -> None:
    written(tmp_path, exported(tmp_path, [question("Who?")], [question("Where?")]))
    whole = CliRunner().invoke(app, ["check", str(tmp_path / "answers.jsonl")])
    assert whole.exit_code == 0, whole.output
    file = tmp_path / "answers.pixano" / "train" / "metadata.jsonl"
    file.write_text(file.read_text().replace("Ann", "Bea"))
    edited = CliRunner().invoke(app, ["check", str(tmp_path / "answers.jsonl")])
    assert edited.exit_code == 1
    assert "it differs from the output" in edited.output


def test_what_was_written_is_a_dataset_that_is_read_here(tmp_path: Path) -> None:
    written(tmp_path, exported(tmp_path, [question("Who?")], [question("Where?")]))
    source = open_source([str(tmp_path / "answers.pixano")])
    assert source.rows is not None
    assert list(source.rows.rows()) == []
