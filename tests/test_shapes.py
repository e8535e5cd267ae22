"""The embedded model `shapes`: its pictures, its questions, its files, and what it answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pixano_vlm.shapes import MODEL_DIR, train
from pixano_vlm.shapes.build import END, IMAGE_TOKENS, build_tokenizer
from pixano_vlm.shapes.draw import CELLS, COLOURS, KINDS, Scene, Thing, random_scene, render
from pixano_vlm.shapes.evaluate import Case, answer, fresh_cases, load, score, single_turn, table
from pixano_vlm.shapes.make_examples import TURNED_PICTURE, make_examples
from pixano_vlm.shapes.questions import (
    NO_PICTURE,
    QUESTION_KINDS,
    Question,
    Subject,
    ask,
    ask_any,
    ask_several,
    right_answer,
)

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[1] / "examples" / "shapes"

seeds = st.integers(min_value=0, max_value=2**32)


@pytest.fixture(scope="module")
def shapes() -> tuple[Any, Any]:
    """The shipped model and its processor."""
    return load(MODEL_DIR)


def say(shapes: tuple[Any, Any], chat: list[dict[str, Any]], *pictures: Image.Image) -> str:
    """What the shipped model answers next in this chat."""
    model, processor = shapes
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    inputs = processor(text=prompt, images=list(pictures) or None, return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    return str(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


# --- Drawing ----------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_picture_and_another_seed_another() -> None:
    def draw(seed: int) -> tuple[Scene, bytes]:
        rng = Random(seed)
        scene = random_scene(rng)
        return scene, render(scene, rng, (128, 120)).tobytes()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@given(seeds)
def test_a_random_scene_has_one_to_four_known_things_in_cells_of_their_own(seed: int) -> None:
    things = random_scene(Random(seed)).things
    assert 1 <= len(things) <= len(CELLS)
    assert [thing.cell for thing in things] == sorted({thing.cell for thing in things})
    assert all(thing.colour in COLOURS and thing.kind in KINDS for thing in things)


@pytest.mark.parametrize("cells", [(), (1, 0), (2, 2), (4,), (-1,)])
def test_a_scene_refuses_things_that_share_a_cell_or_are_out_of_order(cells: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="in distinct cells, in reading order"):
        Scene(tuple(Thing("red", "star", cell) for cell in cells))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", range(len(CELLS)))
def test_a_shape_is_drawn_in_its_own_cell_and_in_its_own_colour(kind: str, cell: int) -> None:
    width, height = 200, 160
    picture = render(Scene((Thing("blue", kind, cell),)), Random(kind + str(cell)), (width, height))

    def is_blue(x: int, y: int) -> bool:
        red, _, blue = picture.getpixel((x, y))  # type: ignore[misc]
        return bool(blue - red > 100)

    blue = [(x, y) for x in range(width) for y in range(height) if is_blue(x, y)]
    assert len(blue) > 500
    assert {(x >= width // 2) + 2 * (y >= height // 2) for x, y in blue} == {cell}


# --- Questions --------------------------------------------------------------------------------------------


def answer_by_hand(question: Question, scene: Scene) -> str:
    """The right answer worked out from the words of the question alone, another way than `questions` does."""
    words = question.text.rstrip("?.").replace("shapes", "shape").lower()
    colours = [colour for colour in COLOURS if f" {colour} " in f" {words} "]
    kinds = [kind for kind in KINDS if f" {kind} " in f" {words.replace(kind + 's', kind)} "]
    places = [place for place in CELLS if place in words]
    found = [
        thing
        for thing in scene.things
        if thing.colour in (colours or [thing.colour])
        and thing.kind in (kinds or [thing.kind])
        and CELLS[thing.cell] in (places or [CELLS[thing.cell]])
    ]
    if words.startswith(("how many", "count")):
        return str(len(found))
    if words.startswith(("is there", "do you see")):
        return "yes" if found else "no"
    if words.startswith(("what colour", "what color", "which colour")):
        (only,) = found
        return only.colour
    if words.startswith(("where", "in which corner")):
        (only,) = found
        return CELLS[only.cell]
    names = [
        f"{'an' if thing.colour == 'orange' else 'a'} {thing.colour} {thing.kind}" for thing in scene.things
    ]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


@given(seeds, st.sampled_from(QUESTION_KINDS))
@settings(max_examples=500)
def test_every_question_has_the_one_answer_that_follows_from_its_words_and_the_scene(
    seed: int, kind: str
) -> None:
    rng = Random(seed)
    scene = random_scene(rng)
    try:
        question = ask(kind, scene, rng)
    except ValueError:
        assert kind == "where", "only a place may have nothing to ask about"
        return
    assert question.kind == kind
    assert question.answer == right_answer(kind, question.subject, scene) == answer_by_hand(question, scene)


@given(seeds)
def test_several_questions_about_one_picture_are_all_different(seed: int) -> None:
    rng = Random(seed)
    questions = ask_several(random_scene(rng), rng, 6)
    assert 1 <= len(questions) <= 6
    assert len({(question.kind, question.subject) for question in questions}) == len(questions)


def test_identical_shapes_have_no_place_to_ask_for_but_can_be_asked_anything_else() -> None:
    scene = Scene((Thing("red", "star", 0), Thing("red", "star", 3)))
    with pytest.raises(ValueError, match="without ambiguity"):
        ask("where", scene, Random(0))
    rng = Random(0)
    assert {ask_any(scene, rng).kind for _ in range(200)} == {*QUESTION_KINDS} - {"where"}


def test_a_question_without_a_single_answer_is_refused() -> None:
    scene = Scene((Thing("red", "star", 0), Thing("blue", "star", 1)))
    with pytest.raises(ValueError, match="'colour' about 'star' is ambiguous: 2 things match"):
        right_answer("colour", Subject(kind="star"), scene)
    with pytest.raises(ValueError, match=r"unknown kind of question 'size'; known: describe.*detect"):
        right_answer("size", Subject(), scene)


def test_yes_and_no_are_about_equally_often_right() -> None:
    rng = Random(0)
    answers = [ask("is_there", random_scene(rng), rng).answer for _ in range(1000)]
    assert 0.45 < answers.count("yes") / len(answers) < 0.55


def test_drawing_and_asking_import_no_torch() -> None:
    code = (
        "import sys, pixano_vlm.shapes.draw, pixano_vlm.shapes.questions, pixano_vlm.shapes.make_examples;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Tokenizer and files ----------------------------------------------------------------------------------


@given(st.text())
@settings(deadline=None)
def test_any_text_comes_back_from_the_tokenizer_as_it_went_in(shipped_tokenizer: Any, text: str) -> None:
    tokens = shipped_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert shipped_tokenizer.decode(tokens) == text


@pytest.fixture(scope="module")
def shipped_tokenizer(shapes: tuple[Any, Any]) -> Any:
    """The shipped model's tokenizer."""
    return shapes[1].tokenizer


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(shipped_tokenizer: Any) -> None:
    assert build_tokenizer().get_vocab() == shipped_tokenizer.get_vocab()


def test_the_shipped_folder_is_small_and_complete_and_names_no_machine() -> None:
    files = {file.name: file for file in MODEL_DIR.iterdir()}
    assert {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } == set(files)
    assert sum(file.stat().st_size for file in files.values()) < 10_000_000
    for name in files.keys() - {"model.safetensors"}:
        text = files[name].read_text(encoding="utf-8")
        assert str(Path(__file__).parents[2]) + "/" not in text  # nor the folder that it was trained in
        assert "/tmp/" not in text
    config = json.loads(files["config.json"].read_text(encoding="utf-8"))
    assert config["architectures"] == ["Idefics3ForConditionalGeneration"]


def test_generation_stops_at_the_end_of_the_turn_and_pads_with_something_else(
    shapes: tuple[Any, Any],
) -> None:
    model, processor = shapes
    end = processor.tokenizer.convert_tokens_to_ids(END)
    assert model.generation_config.eos_token_id == end
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id != end


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (1, 1), (900, 20), (20, 900), (1024, 768)])
def test_a_picture_of_any_size_is_sixteen_image_tokens(
    shapes: tuple[Any, Any], size: tuple[int, int]
) -> None:
    _, processor = shapes
    prompt = processor.apply_chat_template(single_turn("What do you see?"), add_generation_prompt=True)
    inputs = processor(text=prompt, images=[Image.new("RGB", size, "gray")], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 1, 3, 64, 64)
    assert (inputs["input_ids"] == processor.image_token_id).sum() == IMAGE_TOKENS == 16


def test_the_chat_template_lays_out_strings_and_parts_alike(shapes: tuple[Any, Any]) -> None:
    _, processor = shapes
    parts = [{"type": "image"}, {"type": "text", "text": "What do you see?"}]
    chat = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "text", "text": "a red star"}]},
        {"role": "user", "content": "Where is it?"},
    ]
    assert processor.apply_chat_template(chat, add_generation_prompt=True) == (
        "<|im_start|>System: Answer briefly.<end_of_utterance>\n"
        "User:<image>What do you see?<end_of_utterance>\n"
        "Assistant:a red star<end_of_utterance>\n"
        "User: Where is it?<end_of_utterance>\n"
        "Assistant:"
    )
    as_string = [*chat[:2], {"role": "assistant", "content": "a red star"}, chat[3]]
    assert processor.apply_chat_template(as_string) == processor.apply_chat_template(chat)


# --- Answers ----------------------------------------------------------------------------------------------


def test_the_model_answers_fresh_pictures(shapes: tuple[Any, Any]) -> None:
    model, processor = shapes
    cases = list(fresh_cases(96, seed=12345))
    scores = score(cases, answer(model, processor, cases))
    assert scores["all"].share >= 0.95, table(scores)


def test_the_model_answers_the_examples(shapes: tuple[Any, Any]) -> None:
    model, processor = shapes
    rows = [json.loads(line) for line in (EXAMPLES / "manifest.jsonl").read_text("utf-8").splitlines()]
    cases = []
    for row in rows:
        with Image.open(EXAMPLES / row["images"][0]) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
        facts = row["metadata"]
        cases.append(Case(picture, Question(facts["kind"], Subject(), row["prompt"], facts["answer"])))
    scores = score(cases, answer(model, processor, cases))
    assert scores["all"].share >= 0.95, table(scores)


def test_a_second_question_is_answered_about_the_first_turns_picture(shapes: tuple[Any, Any]) -> None:
    scene = Scene((Thing("red", "star", 0), Thing("blue", "circle", 3)))
    chat = single_turn("How many shapes are there?")
    chat += [{"role": "assistant", "content": "2"}, {"role": "user", "content": "What colour is the circle?"}]
    assert say(shapes, chat, render(scene, Random(0), (160, 160))) == "blue"


def test_a_system_turn_changes_no_answer(shapes: tuple[Any, Any]) -> None:
    scene = Scene((Thing("green", "square", 1),))
    chat = [{"role": "system", "content": "Answer briefly."}, *single_turn("Where is the square?")]
    assert say(shapes, chat, render(scene, Random(0), (160, 160))) == "top right"


def test_asked_without_a_picture_the_model_says_that_there_is_none(shapes: tuple[Any, Any]) -> None:
    assert say(shapes, [{"role": "user", "content": "What do you see?"}]) == NO_PICTURE


# --- Training and examples --------------------------------------------------------------------------------


def test_only_answers_and_their_ends_count_in_the_loss() -> None:
    batches = train.Batches(seed=0, pictures=4)
    batch = batches[0]
    tokenizer = batches.processor.tokenizer
    for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        text = tokenizer.decode(tokens).replace("<|pad|>", "")
        answers = [turn.split("\nAssistant:")[1] for turn in text.split(f"{END}\nUser:")]
        answers[-1] = answers[-1].removesuffix(f"{END}\n")
        assert tokenizer.decode(labels[labels != train.IGNORED]) == "".join(each + END for each in answers)


def test_a_batch_follows_from_the_seed_and_the_step_alone() -> None:
    first, again = train.Batches(7, pictures=2), train.Batches(7, pictures=2)
    first[0]
    assert torch.equal(first[3]["pixel_values"], again[3]["pixel_values"])
    assert torch.equal(first[3]["input_ids"], again[3]["input_ids"])
    assert not torch.equal(first[3]["pixel_values"], train.Batches(8, pictures=2)[3]["pixel_values"])


def test_the_learning_rate_goes_up_and_then_down_to_nothing() -> None:
    rates = [train.learning_rate(step, 1000) for step in range(1001)]
    assert max(rates) == pytest.approx(train.PEAK_LEARNING_RATE)
    assert rates[0] < rates[50] < max(rates) > rates[500] > rates[1000] == pytest.approx(0)


def test_training_writes_a_checkpoint_that_loads_and_continues_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "CHECKPOINT_PICTURES", 2)
    out = tmp_path / "model"
    threads = str(torch.get_num_threads())
    options = ["--out", str(out), "--seed", "3", "--pictures", "2", "--workers", "0", "--threads", threads]
    assert train.main([*options, "--steps", "1"]) == 0
    assert train.main([*options, "--steps", "2", "--resume"]) == 0
    log = capsys.readouterr().err
    assert "checkpoint 2: describe" in log
    assert "points inside" in log
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "model.state.pt"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "2 steps, seed 3" in card
    assert "Not measured yet." in card

    model, processor = load(out)
    cases = list(fresh_cases(2, seed=0))
    assert len(answer(model, processor, cases, max_new_tokens=2)) == 2


def test_examples_are_the_same_for_the_same_seed_and_one_lies_on_its_side(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert make_examples(tmp_path / name, pictures=6, per_picture=4, seed=5) == 24
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.*g*"))
    assert [file.suffix for file in files] == [".jpg"] * 5 + [".png"]
    for file in [*files, Path("manifest.jsonl"), Path("regions.jsonl")]:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with Image.open(tmp_path / "a" / files[TURNED_PICTURE - 1]) as turned:
        assert turned.getexif()[0x0112] == 6
        assert ImageOps.exif_transpose(turned).size == turned.size[::-1]


def test_the_shipped_examples_are_those_that_the_code_makes(tmp_path: Path) -> None:
    make_examples(tmp_path, pictures=24, per_picture=4, seed=0)
    for name in ("manifest.jsonl", "regions.jsonl"):
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()
    manifest = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in manifest.splitlines()]
    assert len(rows) == 96
    assert all((EXAMPLES / row["images"][0]).is_file() for row in rows)
