"""Datasets that Pixano exported, as manifests: which questions are asked, how, and about which images."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.open import open_source
from pixano_vlm.inputs.template import Template
from pixano_vlm.pixano_jsonl.answer_text import answer_text, chosen_in, read_answer
from pixano_vlm.pixano_jsonl.conversation import turns_of
from pixano_vlm.pixano_jsonl.ids import derived_id, late_id, message_id
from pixano_vlm.pixano_jsonl.line import DatasetMessage
from pixano_vlm.records.request import Request

Values = dict[str, Any]
SPEC = {
    "pixano": 2,
    "dataset": {"name": "photos", "workspace": "image_vqa"},
    "format": "pixano_jsonl",
    "schema": {
        "views": {"image": {"kind": "image"}, "closeup": {"kind": "image"}, "note": {"kind": "text"}},
        "record": {"attrs": {"camera": {"type": "str"}}},
        "annotations": ["message"],
    },
}


VIEW_IDS = ["v1", "v2"]


def question(content: str, kind: str = "OPEN", choices: list[str] | None = None, **more: Any) -> Values:
    values = {"type": "QUESTION", "content": content, "question_type": kind, **more}
    return values if choices is None else {**values, "choices": choices}


def answer(content: str) -> Values:
    return {"type": "ANSWER", "content": content, "user": "ann"}


def dataset(folder: Path, *conversations: list[Values], spec: Values | None = SPEC, **changed: Any) -> Path:
    """A dataset with one record, whose conversations are these."""
    media = folder / "train" / "media" / "image"
    media.mkdir(parents=True)
    (media.parent / "closeup").mkdir()
    first, second = VIEW_IDS
    Image.new("RGB", (8, 6), "red").save(media / f"{first}.png")
    Image.new("RGB", (8, 6), "blue").save(media.parent / "closeup" / f"{second}.png")
    if spec is not None:
        (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
    line = {
        "id": "rec",
        "attrs": {"camera": "north"},
        "views": {
            "image": {"uri": f"media/image/{first}.png", "width": 8, "height": 6},
            "closeup": {"uri": f"media/closeup/{second}.png", "width": 8, "height": 6},
            "note": {"content": "a note"},
        },
        "conversations": [
            {"id": f"conv{number}", "messages": messages} for number, messages in enumerate(conversations)
        ],
        **changed,
    }
    text = "".join(json.dumps(one) + "\n" for one in ({"$pixano": "jsonl/2"}, line))
    (folder / "train" / "metadata.jsonl").write_text(text)
    return folder


def read(folder: Path, prompt: str | None = None) -> list[Request]:
    source = open_source([str(folder)], None if prompt is None else Template(prompt))
    assert source.rows is not None
    source.rows.count()
    return list(Manifest(source.path, rows=source.rows))


def only(folder: Path, prompt: str | None = None) -> Request:
    (request,) = read(folder, prompt)
    assert request.input is not None, request.error
    return request


def test_a_question_without_an_answer_is_a_record_and_one_with_an_answer_is_not(tmp_path: Path) -> None:
    folder = dataset(
        tmp_path, [question("Who?"), answer("Ann"), question("Where?"), question("When?")], [question("Why?")]
    )
    found = read(folder)
    assert [(one.id, one.error) for one in found] == [("conv0:1", None), ("conv0:2", None), ("conv1", None)]


@pytest.mark.parametrize("content", ["", "[[]]", " [[]] "])
def test_an_answer_that_says_nothing_leaves_its_question_open(tmp_path: Path, content: str) -> None:
    assert only(dataset(tmp_path, [question("Who?"), answer(content)])).id == "conv0"


def test_an_open_question_is_asked_as_it_is_about_every_image_of_its_record(tmp_path: Path) -> None:
    request = only(dataset(tmp_path, [question("Who?")]))
    assert request.input is not None
    assert request.input.prompt == "Who?"
    assert [Path(str(source)).name for source in request.input.images or ()] == ["v1.png", "v2.png"]
    assert request.metadata == {
        "camera": "north",
        "pixano": {
            "record": "rec",
            "split": "train",
            "views": {"image": "v1", "closeup": "v2"},
            "conversation": "conv0",
            "question": 0,
            "question_type": "OPEN",
        },
    }


def test_a_question_that_names_a_view_is_about_that_image_alone(tmp_path: Path) -> None:
    request = only(dataset(tmp_path, [question("Who?", views=["closeup"])]))
    assert [Path(name).name for name in request.images] == ["v2.png"]


def test_a_single_choice_is_one_of_its_labels(tmp_path: Path) -> None:
    request = only(dataset(tmp_path, [question("What?", "SINGLE_CHOICE", ["cat", "dog"])]))
    assert request.input is not None
    assert request.input.choices == ["cat", "dog"]
    assert request.input.prompt == "What?\n- cat\n- dog"


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("MULTI_CHOICE", ["choices"]),
        ("SINGLE_CHOICE_EXPLANATION", ["choice", "explanation"]),
        ("MULTI_CHOICE_EXPLANATION", ["choices", "explanation"]),
    ],
)
def test_several_choices_and_explanations_are_answered_in_json(
    tmp_path: Path, kind: str, keys: list[str]
) -> None:
    request = only(dataset(tmp_path, [question("What?", kind, ["cat", "dog"])]))
    assert request.input is not None
    assert request.input.response_format is not None
    schema = request.input.response_format["json_schema"]["schema"]
    assert schema["required"] == keys
    chosen = schema["properties"][keys[0]]
    assert (chosen["items"] if keys[0] == "choices" else chosen) == {"enum": ["cat", "dog"]}


def test_turns_before_a_question_come_first_and_those_without_an_answer_are_left_out(tmp_path: Path) -> None:
    system: Values = {"type": "SYSTEM", "content": "Be short."}
    before = [
        system,
        question("What?", "SINGLE_CHOICE", ["cat", "dog"]),
        answer("[[B]] it barks"),
        question("Who?"),
    ]
    after = [answer("Ann"), question("How?"), question("Where?")]
    spec_less = dataset(tmp_path, [*before, *after], views={"image": "media/image/v1.png"})
    how, where = read(spec_less)
    assert how.id == "conv0:2"
    assert where.input is not None
    assert where.input.prompt == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?\n- cat\n- dog"}]},
        {"role": "assistant", "content": "dog. it barks"},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Ann"},
        {"role": "user", "content": "Where?"},
    ]


def test_with_a_prompt_every_record_is_asked_that_instead(tmp_path: Path) -> None:
    folder = dataset(tmp_path, [question("Who?"), question("Where?")])
    request = only(folder, "What did the {camera} camera of {split} see?")
    assert request.id == "rec"
    assert request.input is not None
    assert request.input.prompt == "What did the north camera of train see?"
    assert (request.metadata or {})["pixano"] == {
        "record": "rec",
        "split": "train",
        "views": {"image": "v1", "closeup": "v2"},
    }
    with pytest.raises(UsageError, match="camra"):
        read(folder, "{camra}")


def test_a_folder_without_a_spec_is_known_by_the_head_of_its_lines(tmp_path: Path) -> None:
    assert only(dataset(tmp_path, [question("Who?")], spec=None)).id == "conv0"


def test_a_dataset_whose_questions_are_all_answered_says_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no question without an answer"):
        read(dataset(tmp_path, [question("Who?"), answer("Ann")]))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"id": None}, "has no id"),
        ({"conversation": []}, "unknown key 'conversation'"),
        ({"views": {"note": {"content": "a note"}}}, "about no image"),
        ({"conversations": [{"id": "c", "messages": [question("Q", "CHOICE")]}]}, "the type 'CHOICE'"),
        ({"conversations": [{"id": "c", "messages": [question("Q", "MULTI_CHOICE")]}]}, "has no choices"),
        (
            {
                "conversations": [
                    {"id": "c", "messages": [question("Q", "MULTI_CHOICE", [str(n) for n in range(27)])]}
                ]
            },
            "27 choices",
        ),
        (
            {"conversations": [{"messages": [{"type": "QUESTION", "text": "Q"}]}]},
            "conversations.0.messages.0",
        ),
    ],
)
def test_a_record_that_cannot_be_asked_is_an_error_that_names_its_line(
    tmp_path: Path, changed: Values, says: str
) -> None:
    (request,) = read(dataset(tmp_path, [question("Who?")], **changed))
    assert says in str(request.error)
    assert str(request.error).startswith("train/metadata.jsonl:2")


def test_another_version_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path, [question("Who?")], spec=None)
    file = folder / "train" / "metadata.jsonl"
    file.write_text(file.read_text().replace("jsonl/2", "jsonl/3"))
    with pytest.raises(ManifestError, match="version 'jsonl/3'"):
        read(folder)
    (folder / "dataset.yaml").write_text("pixano: 3\n")
    with pytest.raises(ManifestError, match="not the spec of a Pixano dataset of version 2"):
        read(folder)


def test_ids_are_those_that_pixano_derives() -> None:
    # What pixano.datasets.io.stable_id of 0.8.0 returned.
    assert derived_id("c", "msg", 0) == "1HcqZ2Hx-3EZIsDtS9o7RAy53FtmhEo"
    assert message_id("c", 0) == derived_id("c", "msg", 0)


@given(st.text("abcz~"), st.integers(0, 99))
def test_an_answer_that_is_added_sorts_behind_what_was_there(conversation: str, place: int) -> None:
    assert late_id(conversation, "vlm", "model", 0) > message_id(conversation, place)
    assert (
        len({late_id(conversation, "a"), late_id(conversation, "b"), late_id(conversation + "c", "a")}) == 3
    )


def exported(conversation: str, messages: list[DatasetMessage]) -> list[DatasetMessage]:
    """As Pixano exports what it imported: sorted by number, then by id."""
    keyed, number = [], -1
    for place, message in enumerate(messages):
        number += message.type == "QUESTION"
        keyed.append(((max(number, 0), message_id(conversation, place)), message))
    return [message for _, message in sorted(keyed, key=lambda item: item[0])]


def asked_and_answered(answers: list[int]) -> list[DatasetMessage]:
    messages = []
    for number, count in enumerate(answers):
        messages.append(DatasetMessage(**question(f"q{number}")))
        messages += [DatasetMessage(**answer(f"a{number}")) for _ in range(count)]
    return messages


IDS = st.text("abc", min_size=1, max_size=6)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_in_a_file_that_somebody_wrote_each_answer_is_that_of_the_question_before_it(
    answers: list[int],
) -> None:
    messages = asked_and_answered(answers)
    turns = turns_of(messages)
    assert [len(one.answers) for one in turns.questions] == answers
    assert turns.messages() == messages
    assert all(one.number + 1 == other.number for one, other in pairwise(turns.questions))


@given(IDS, st.integers(1, 6), st.booleans())
def test_pixano_sorts_an_answer_before_its_question_and_each_is_found_with_its_own(
    conversation: str, count: int, has_system: bool
) -> None:
    system = [DatasetMessage(type="SYSTEM", content="s")] if has_system else []
    messages = [*system, *asked_and_answered([1] * count)]
    turns = turns_of(exported(conversation, messages), is_exported=True)
    assert turns.messages() == messages


@given(IDS, st.lists(st.integers(0, 1), min_size=1, max_size=8))
def test_however_an_export_is_read_nobody_answers_twice_and_no_answer_is_lost(
    conversation: str, answers: list[int]
) -> None:
    messages = asked_and_answered(answers)
    turns = turns_of(exported(conversation, messages), is_exported=True)
    assert [len(one.answers) for one in turns.questions if len(one.answers) > 1] == []
    assert sorted(one.content for one in turns.messages()) == sorted(one.content for one in messages)


def test_two_people_may_answer_one_question() -> None:
    both = [DatasetMessage(type="ANSWER", content=user, user=user) for user in ("ann", "bea")]
    messages = [DatasetMessage(**question("q0")), *both, DatasetMessage(**question("q1")), both[0]]
    assert [len(one.answers) for one in turns_of(messages, is_exported=True).questions] == [2, 1]


def test_a_models_answer_in_front_of_its_question_is_not_that_of_the_one_that_a_person_answered() -> None:
    ann, model = (DatasetMessage(type="ANSWER", content=user, user=user) for user in ("ann", "model"))
    first, second, third = (DatasetMessage(**question(f"q{number}")) for number in range(3))
    turns = turns_of([first, ann, model, second, model, third], is_exported=True)
    assert turns.messages() == [first, ann, second, model, third, model]


@given(st.sets(st.integers(0, 25)), st.text("abc \n."))
def test_what_is_chosen_is_read_back(places: set[int], explanation: str) -> None:
    content = answer_text(list(places), explanation)
    assert "\n" not in content
    assert chosen_in(content) == (sorted(places), " ".join(explanation.split()))


def test_an_answer_in_words_names_its_choices() -> None:
    assert read_answer("[[A,C]] both bark", ["dog", "cat", "wolf"]) == "dog, wolf. both bark"
    assert read_answer("a plain answer", []) == "a plain answer"
