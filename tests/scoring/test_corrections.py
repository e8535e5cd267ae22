"""What reviewers made of answers, from a dataset that was exported after the review."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.inputs.test_pixano_rows import dataset, question
from tests.outputs.test_pixano_dataset import ALL, SCRIPT, Scripted
from typer.testing import CliRunner

from pixano_vlm import generate
from pixano_vlm.cli import app
from pixano_vlm.errors import UsageError
from pixano_vlm.pixano_jsonl.ids import derived_id
from pixano_vlm.scoring.corrections import Corrections, review

pytest.importorskip("scipy")
Values = dict[str, Any]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ids = [derived_id("rec", "view", view) for view in ("image", "closeup")]
    monkeypatch.setattr("tests.inputs.test_pixano_rows.VIEW_IDS", ids)
    both = ["cat", "dog"]
    which = question("Which?", "MULTI_CHOICE_EXPLANATION", both)
    return dataset(tmp_path / "exported", [question("Who?"), question("Where?")], [which], spec=ALL)


def reviewed(tmp_path: Path, source: Path, edit: Callable[[Values], None], **options: Any) -> Corrections:
    """The run's answers as a reviewer leaves them, `edit` being what the reviewer does to the record's line."""
    generate(source, Scripted(SCRIPT), output=tmp_path / "answers.pixano", **options).finish()
    file = tmp_path / "answers.pixano" / "train" / "metadata.jsonl"
    header, line = map(json.loads, file.read_text().splitlines())
    edit(line)
    file.write_text(json.dumps(header) + "\n" + json.dumps(line) + "\n")
    return review((tmp_path / "answers.jsonl",), tmp_path / "answers.pixano")


def statuses(found: Corrections) -> dict[str, str]:
    """What became of each question's only answer."""
    return {
        name: next(status for status, count in one.counts.items() if count)
        for (name, _), one in found.by_question.items()
    }


def answers_of(line: Values) -> dict[str, Values]:
    """The answers of a line by their questions."""
    found, asked = {}, ""
    for conversation in line["conversations"]:
        for message in conversation["messages"]:
            if message["type"] == "ANSWER":
                found[asked] = message
            asked = message["content"]
    return found


def test_an_answer_that_was_left_is_accepted(tmp_path: Path, source: Path) -> None:
    found = reviewed(tmp_path, source, lambda line: None)
    assert statuses(found) == dict.fromkeys(("Who?", "Where?", "Which?"), "accepted")
    assert found.by_model["scripted"].accepted.value == 1.0


def test_changed_answers_are_corrected_and_removed_or_emptied_ones_rejected(
    tmp_path: Path, source: Path
) -> None:
    def edit(line: Values) -> None:
        answers = answers_of(line)
        answers["Who?"]["content"] = "Bea"
        answers["Which?"]["content"] = "[[]]"
        messages = line["conversations"][0]["messages"]
        messages.remove(answers["Where?"])

    found = reviewed(tmp_path, source, edit)
    assert statuses(found) == {"Who?": "corrected", "Where?": "rejected", "Which?": "rejected"}
    assert found.by_model["scripted"].counts == {"accepted": 0, "corrected": 1, "rejected": 2, "pending": 0}


def test_choices_in_another_order_and_white_space_are_no_correction(tmp_path: Path, source: Path) -> None:
    def edit(line: Values) -> None:
        answers_of(line)["Which?"]["content"] = "[[B, A]]  both are  there"
        answers_of(line)["Who?"]["content"] = " Ann "

    assert set(statuses(reviewed(tmp_path, source, edit)).values()) == {"accepted"}


def test_an_answer_that_somebody_put_instead_is_a_correction(tmp_path: Path, source: Path) -> None:
    def edit(line: Values) -> None:
        answers_of(line)["Who?"].update(content="Bea", user="ann")

    assert statuses(reviewed(tmp_path, source, edit))["Who?"] == "corrected"


def test_what_a_person_answered_before_is_not_what_became_of_the_models(tmp_path: Path, source: Path) -> None:
    def edit(line: Values) -> None:
        answers = answers_of(line)
        answers["Who?"].update(content="Bea", user="ann")
        line["conversations"][0]["messages"].remove(answers["Where?"])

    assert statuses(reviewed(tmp_path, source, edit))["Where?"] == "rejected"


def test_what_is_unchanged_in_a_record_that_nobody_finished_is_pending(tmp_path: Path, source: Path) -> None:
    def edit(line: Values) -> None:
        line["attrs"]["status"] = "inProgress"
        answers_of(line)["Who?"]["content"] = "Bea"

    assert statuses(reviewed(tmp_path, source, edit)) == {
        "Who?": "corrected", "Where?": "pending", "Which?": "pending",
    }  # fmt: skip


def test_boxes_are_accepted_corrected_and_rejected_by_label(tmp_path: Path, source: Path) -> None:
    def edit(line: Values) -> None:
        dog, _ = line["entities"]
        dog["annotations"][0]["coords"][0] += 0.01
        line["entities"] = [dog]

    found = reviewed(tmp_path, source, edit, prompt="Find", regions=True)
    assert statuses(found) == {"Find": "accepted", "box: dog": "corrected", "box: cat": "rejected"}


def test_a_box_in_another_form_is_the_same_and_one_with_another_label_is_not(
    tmp_path: Path, source: Path
) -> None:
    def edit(line: Values) -> None:
        dog, cat = line["entities"]
        x0, y0, x1, y1 = dog["annotations"][0]["coords"]
        pixels = [x0 * 8, y0 * 6, (x1 - x0) * 8, (y1 - y0) * 6]
        dog["annotations"][0].update(coords=pixels, format="xywh", is_normalized=False)
        cat["attrs"]["category"] = "fox"

    found = reviewed(tmp_path, source, edit, prompt="Find", regions=True)
    assert statuses(found) == {"Find": "accepted", "box: dog": "accepted", "box: cat": "corrected"}


def test_a_review_status_of_an_annotation_is_what_counts(tmp_path: Path, source: Path) -> None:
    def edit(line: Values) -> None:
        for entity, status in zip(line["entities"], ("rejected", "pending"), strict=True):
            entity["annotations"][0]["attrs"] = {"review_status": status}

    found = reviewed(tmp_path, source, edit, prompt="Find", regions=True)
    assert statuses(found) == {"Find": "accepted", "box: dog": "rejected", "box: cat": "pending"}


def test_answers_that_are_not_in_the_export_are_counted_and_none_at_all_is_an_error(
    tmp_path: Path, source: Path
) -> None:
    found = reviewed(tmp_path, source, lambda line: line["conversations"].pop())
    assert found.not_there == 1
    with pytest.raises(UsageError, match=r"no answer of .* is in"):
        reviewed(tmp_path / "answers.pixano", source, lambda line: line.update(conversations=[]))


def test_the_command_prints_tables_and_json(tmp_path: Path, source: Path) -> None:
    reviewed(tmp_path, source, lambda line: answers_of(line)["Who?"].update(content="Bea"))
    args = ["score", str(tmp_path / "answers.jsonl"), "--truth", str(tmp_path / "answers.pixano")]
    shown = CliRunner().invoke(app, args)
    assert shown.exit_code == 0, shown.output
    for words in ("accepted", "corrected", "rejected", "Who?", "scripted", "66.7%"):
        assert words in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)["corrections"]
    assert found["models"][0]["accepted"] == 2
    assert found["models"][0]["corrected"] == 1
