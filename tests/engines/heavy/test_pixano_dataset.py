"""Pixano's datasets both ways, with Pixano 0.8's own library: `make test-engines` builds its environment.

Pixano admits no transformers of the versions that a run needs, so a run is a process of another Python: the one that
`PIXANO_VLM_PYTHON` names. In Pixano's own environment this package is installed without what it depends on.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageOps

pytest.importorskip("pixano")
from pixano.api.resources import BBOX_RESOURCE, MESSAGE_RESOURCE
from pixano.api.service import BaseService
from pixano.cli import app
from pixano.datasets import Dataset
from pixano.datasets.dataset_info import DatasetInfo
from pixano.datasets.io import FORMATS, ImportSpec, stable_id
from pixano.datasets.io.testing import DatasetImporterTestCase
from pixano.datasets.workspaces import WorkspaceType
from pixano.schemas import BBox, Classification, Entity, Image, Message, Record
from typer.testing import CliRunner

from pixano_vlm.pixano_jsonl.ids import derived_id

pytestmark = pytest.mark.engines

REPOSITORY = Path(__file__).parents[3]
SHAPES = REPOSITORY / "examples" / "shapes"
PYTHON = os.environ.get("PIXANO_VLM_PYTHON", sys.executable)
Values = dict[str, Any]

POINTING = '''
import json
from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model
from pixano_vlm.models.region import Region

@register_model("pointing")
class Pointing(VLMModel):
    """Finds the same two boxes on every image."""

    def load_model(self) -> None:
        pass

    def predict(self, input: VLMInput) -> VLMOutput:
        boxes = [("circle", (10, 10, 40, 30)), ("star", (50, 20, 60, 60))]
        regions = [Region(label=label, box=box, confidence=0.5) for label, box in boxes]
        return VLMOutput(generated_text="two", usage=UsageInfo.of(1, 1), regions=regions)
'''


class Labelled(Entity):
    category: str = ""


class Photo(Record):
    camera: str = ""


COLOURS = ["red", "green", "blue", "yellow", "black", "orange", "purple", "cyan"]
NUMBERS = ("001", "002", "003")


def questions() -> dict[str, list[str]]:
    """What `shapes` was trained to be asked, by image."""
    found: dict[str, list[str]] = {number: [] for number in NUMBERS}
    for text in (SHAPES / "manifest.jsonl").read_text().splitlines():
        record = json.loads(text)
        if (number := record["id"].partition("-")[0]) in found:
            found[number].append(record["prompt"])
    return found


def build(folder: Path, *, derived: bool) -> Dataset:
    """A dataset made with Pixano's library; `derived`: its ids are those that an importer would give."""
    info = DatasetInfo(
        name="shapes", workspace=WorkspaceType.IMAGE_VQA, record=Photo, entity=Labelled, bbox=BBox,
        classification=Classification, message=Message, views={"image": Image},
    )  # fmt: skip
    dataset = Dataset.create(folder / "library" / "shapes", info)
    rows: dict[str, list[Any]] = {"records": [], "images": [], "messages": []}
    for number, asked in questions().items():
        record, conversation = f"record-{number}", f"conversation-{number}"
        data = (SHAPES / "images" / f"{number}.jpg").read_bytes()
        width, height = Pillow.open(io.BytesIO(data)).size
        rows["records"].append(Photo(id=record, split="train", camera="north", comment="keep"))
        view = stable_id(record, "view", "image") if derived else f"view-{number}"
        rows["images"].append(
            Image(
                id=view, record_id=record, logical_name="image", uri="", raw_bytes=data, width=width, height=height,
                format="JPEG",
            )
        )  # fmt: skip
        turns: list[Values] = [
            {"number": 0, "type": "QUESTION", "content": asked[0], "question_type": "OPEN"},
            {"number": 0, "type": "ANSWER", "content": "a person's answer"},
            {"number": 1, "type": "QUESTION", "content": asked[1], "question_type": "OPEN"},
            {"number": 2, "type": "QUESTION", "content": "What colour is the shape?",
             "question_type": "SINGLE_CHOICE", "choices": COLOURS},
        ]  # fmt: skip
        for place, turn in enumerate(turns):
            id = stable_id(conversation, "msg", place) if derived else f"message-{number}-{place}"
            rows["messages"].append(
                Message(id=id, record_id=record, conversation_id=conversation, user="ann", view_id=view,
                        source_type="human", source_name="ann", **turn)
            )  # fmt: skip
    dataset.add_records(rows)
    return dataset


def run(folder: Path, *args: str | Path) -> list[Values]:
    command = [PYTHON, "-m", "pixano_vlm", "generate", *map(str, args), "-o", "answers.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def data(*args: str | Path) -> str:
    """What `pixano data ...` prints."""
    done = CliRunner().invoke(app, ["data", *map(str, args)])
    assert done.exit_code == 0, done.output
    return done.output


def exported(folder: Path, to: str) -> dict[str, Values]:
    """The lines of an export, by the ids of their records."""
    data("export", folder, "shapes", folder / to, "--include-record-field", "comment")
    lines = (folder / to / "train" / "metadata.jsonl").read_text().splitlines()[1:]
    return {line["id"]: line for line in map(json.loads, lines)}


def table(folder: Path, name: str) -> dict[str, Values]:
    dataset = Dataset(folder / "library" / "shapes")
    rows = dataset.open_table(name).to_arrow().to_pylist()
    for row in rows:
        row.pop("created_at", None)
        row.pop("updated_at", None)
    return {row["id"]: row for row in rows}


def contents(line: Values) -> list[tuple[str, str]]:
    """The messages of a record's conversation, whatever the order of those of one number."""
    (conversation,) = line["conversations"]
    return sorted((message["type"], message["content"]) for message in conversation["messages"])


def test_a_folder_of_answers_is_imported_as_an_update(tmp_path: Path) -> None:
    build(tmp_path, derived=True)
    before = exported(tmp_path, "before")
    tables = {name: table(tmp_path, name) for name in ("records", "images", "messages")}
    lines = run(tmp_path, "before", "--model", "shapes", "-o", "answers.pixano")
    assert [line["status"] for line in lines] == ["ok"] * 6
    data("import", tmp_path, tmp_path / "answers.pixano", "--mode", "add", "--yes")

    after = exported(tmp_path, "after")
    assert after.keys() == before.keys()
    for id, line in before.items():
        answers = [one for one in lines if one["metadata"]["pixano"]["record"] == id]
        open_answer, choice = answers[0]["generated_text"], COLOURS.index(answers[1]["generated_text"])
        added = [("ANSWER", open_answer), ("ANSWER", f"[[{chr(65 + choice)}]]")]
        assert contents(after[id]) == sorted(contents(line) + added)
        assert {key: after[id][key] for key in ("id", "attrs", "views")} == {
            key: line[key] for key in ("id", "attrs", "views")
        }
        (entity,) = after[id]["entities"]
        (annotation,) = entity["annotations"]
        assert dict(zip(annotation["labels"], annotation["confidences"], strict=True)) == pytest.approx(
            answers[1]["probabilities"], abs=1e-5
        )
        assert annotation["source"] == {"type": "model", "name": "shapes (answers.jsonl)"}
    assert table(tmp_path, "records") == tables["records"]
    assert table(tmp_path, "images").keys() == tables["images"].keys()
    assert table(tmp_path, "messages").keys() > tables["messages"].keys()

    counts = {name: len(table(tmp_path, name)) for name in ("records", "images", "messages", "entities")}
    data("import", tmp_path, tmp_path / "answers.pixano", "--mode", "add", "--yes")
    assert {name: len(table(tmp_path, name)) for name in counts} == counts
    assert exported(tmp_path, "again") == after
    assert run_finds_nothing_more(tmp_path, "after")


def run_finds_nothing_more(folder: Path, source: str) -> bool:
    command = [PYTHON, "-m", "pixano_vlm", "generate", source, "--model", "shapes", "-o", "more.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 2 and "no question without an answer" in done.stderr


@pytest.mark.parametrize("derived", [True, False])
def test_the_output_itself_is_imported_and_touches_nothing_that_was_there(
    tmp_path: Path, derived: bool
) -> None:
    build(tmp_path, derived=derived)
    names = ("records", "images", "messages", "entities", "bboxes")
    before, lines = exported(tmp_path, "before"), {name: table(tmp_path, name) for name in names}
    answers = run(tmp_path, "before", "--model", "shapes")
    assert "answers" not in data("formats")
    assert "pixano_vlm" in data("formats")
    data("import", tmp_path, tmp_path / "answers.jsonl", "--mode", "add", "--yes")
    for name, rows in lines.items():
        now = table(tmp_path, name)
        assert {id: now[id] for id in rows} == rows
    new = [row for id, row in table(tmp_path, "messages").items() if id not in lines["messages"]]
    assert len(new) == len(answers) == 6
    assert {(row["type"], row["source_type"], row["user"]) for row in new} == {("ANSWER", "model", "shapes")}
    assert sorted(row["number"] for row in new) == [1, 1, 1, 2, 2, 2]
    after = exported(tmp_path, "after")
    assert all(len(contents(after[id])) == len(contents(line)) + 2 for id, line in before.items())
    assert table(tmp_path, "records").keys() == lines["records"].keys()


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """The sizes of the images as people see them, by the ids of their views."""
    images = {id: Pillow.open(io.BytesIO(row["raw_bytes"])) for id, row in table(folder, "images").items()}
    return {id: ImageOps.exif_transpose(image).size for id, image in images.items()}


def test_boxes_become_entities_in_both_ways_and_are_the_same(tmp_path: Path) -> None:
    found = []
    for name, source in (("folder", "answers.pixano"), ("output", "answers.jsonl")):
        folder = tmp_path / name
        folder.mkdir()
        build(folder, derived=True)
        exported(folder, "before")
        (folder / "pointing.py").write_text(POINTING)
        (folder / "models.yaml").write_text(
            "models:\n  - {name: pointing, model_class: pointing, regions: own, model_params: {}}\n"
        )
        run(
            folder, "before", "--config", "models.yaml", "--plugin", "pointing.py", "--model", "pointing",
            "--regions", "--prompt", "Find the shapes.", "-o", "answers.pixano",
        )  # fmt: skip
        data("import", folder, folder / source, "--mode", "add", "--yes")
        boxes, views = table(folder, "bboxes"), sizes(folder)
        assert len(boxes) == 6
        for row in boxes.values():
            width, height = views[row["view_id"]]
            left, top, right, bottom = (10, 10, 40, 30) if row["coords"][0] < 0.1 else (50, 20, 60, 60)
            wanted = [left / width, top / height, right / width, bottom / height]
            assert row["coords"] == pytest.approx(wanted, abs=1e-5)
            assert (row["confidence"], row["source_type"]) == (0.5, "model")
        labels = sorted(row["category"] for row in table(folder, "entities").values())
        assert labels == ["circle"] * 3 + ["star"] * 3
        found.append({id: row["coords"] for id, row in boxes.items()})
    assert found[0] == found[1]


def test_answers_about_other_images_pass_pixanos_harness(tmp_path: Path) -> None:
    """One image: the harness asks for one prefix, and derived ids have that of their record."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "001.jpg").write_bytes((SHAPES / "images" / "001.jpg").read_bytes())
    run(tmp_path, "photos", "--model", "shapes", "--prompt", "What do you see?", "--with-prompt")
    importer = FORMATS.get("pixano_vlm").importer_cls
    assert importer is not None
    case = DatasetImporterTestCase(
        importer=importer(), source=tmp_path / "answers.jsonl", spec=ImportSpec(),
        expected_counts={"records": 1, "images": 1, "messages": 2, "entities": 0},
    )  # fmt: skip
    case.assert_analyze_clean()
    (tmp_path / "data").mkdir()
    dataset, result = case.run_import(tmp_path / "data")
    assert result.table_counts == {"records": 1, "images": 1, "messages": 2}
    case.assert_counts(dataset)
    case.assert_storage_mode(dataset, "embedded")
    case.assert_id_prefix(dataset, derived_id("001.jpg").partition("-")[0], "images")
    case.assert_idempotent_rerun(dataset, tmp_path / "data")
    assert [row["id"] for row in dataset.open_table("records").to_arrow().to_pylist()] == ["001.jpg"]


def test_a_file_that_is_not_an_output_is_left_to_other_formats(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"prompt": "a"}\n')
    done = CliRunner().invoke(app, ["data", "import", str(tmp_path), str(tmp_path / "m.jsonl"), "--yes"])
    assert done.exit_code == 1
    assert "Could not detect" in done.output


def test_edits_through_pixanos_api_are_counted_as_corrections(tmp_path: Path) -> None:
    build(tmp_path, derived=True)
    exported(tmp_path, "before")
    (tmp_path / "pointing.py").write_text(POINTING)
    (tmp_path / "models.yaml").write_text(
        "models:\n  - {name: pointing, model_class: pointing, regions: own, model_params: {}}\n"
    )
    config, plugin = tmp_path / "models.yaml", tmp_path / "pointing.py"
    pointing = (
        "--config",
        config,
        "--plugin",
        plugin,
        "--model",
        "pointing",
        "--regions",
        "--prompt",
        "Find all.",
    )
    for name, args in (("asked", ("--model", "shapes")), ("found", pointing)):
        (tmp_path / name).mkdir()
        run(tmp_path / name, tmp_path / "before", *args)
        data("import", tmp_path, tmp_path / name / "answers.jsonl", "--mode", "add", "--yes")

    dataset = Dataset(tmp_path / "library" / "shapes")
    messages, boxes = BaseService(dataset, MESSAGE_RESOURCE), BaseService(dataset, BBOX_RESOURCE)
    answers = {(row["record_id"], row["number"]): id for id, row in table(tmp_path, "messages").items()
               if row["user"] == "shapes"}  # fmt: skip
    messages.update(answers["record-001", 1], {"content": "something else"})
    messages.update(answers["record-002", 2], {"content": "[[H]]"})
    messages.delete(answers["record-003", 1])
    moved, gone, *_ = table(tmp_path, "bboxes")
    boxes.update(moved, {"coords": [0.3, 0.3, 0.4, 0.4]})
    boxes.delete(gone)

    exported(tmp_path, "reviewed")
    found = {}
    for name in ("asked", "found"):
        output = tmp_path / name / "answers.jsonl"
        command = [PYTHON, "-m", "pixano_vlm", "score", output, "--truth", "reviewed", "--json"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout)
    (asked,) = found["asked"]["corrections"]["models"]
    assert (asked["model"], asked["accepted"], asked["corrected"], asked["rejected"]) == ("shapes", 3, 2, 1)
    boxes_found = [
        one for one in found["found"]["corrections"]["questions"] if one["question"].startswith("box: ")
    ]
    counts = {
        status: sum(one[status] for one in boxes_found) for status in ("accepted", "corrected", "rejected")
    }
    assert counts == {"accepted": 4, "corrected": 1, "rejected": 1}
    (regions,) = found["found"]["regions"]
    assert (regions["true_boxes"], regions["found_boxes"]) == (5, 6)
    assert regions["recall"]["value"] == pytest.approx(4 / 5)
