"""Where answers end, which of their tokens are text, and what a generation config asks beside that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from tests.embedded import (
    END,
    TEMPLATE,
    answers,
    change_json,
    copy_checkpoint,
    count_right,
    examples,
    open_checkpoint,
    rename_word,
)
from tests.tiny import build
from tests.tiny.reference import generate_alone

from pixano_vlm import load_model
from pixano_vlm.engines.transformers.generation_defaults import HEEDED
from pixano_vlm.errors import VLMError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.once

ENGINES = ("auto", "static")


def texts(model: Any, inputs: list[VLMInput]) -> list[str]:
    found = answers(model, inputs)
    assert all(isinstance(answer, VLMOutput) for answer in found), found
    return [answer.generated_text for answer in found if isinstance(answer, VLMOutput)]


class TestEnds:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        "changes",
        [
            {"generation_config": {"eos_token_id": 0}},
            {"generation_config": {"eos_token_id": [0, 5]}},
            {"generation_config": {"eos_token_id": None}},
            {"generation_config": {"eos_token_id": 0}, "tokenizer_config": {"eos_token": "<|pad|>"}},
        ],
        ids=["another", "others", "none", "another in the tokenizer too"],
    )
    def test_any_who_names_the_end_is_heeded(
        self, tmp_path: Path, changes: dict[str, Any], engine: str
    ) -> None:
        model = open_checkpoint(copy_checkpoint(tmp_path / "m", **changes), engine=engine)
        assert count_right(model, examples()) == 8
        assert all(answer.finish_reason == "stop" for answer in answers(model, [i for i, _ in examples()]))  # type: ignore[union-attr]  # none failed

    def test_the_token_that_closes_a_turn_in_the_template_is_one(self, tmp_path: Path) -> None:
        """No config names it: generation config, config and tokenizer all say the padding token."""
        folder = copy_checkpoint(
            tmp_path / "m", generation_config={"eos_token_id": 0}, tokenizer_config={"eos_token": "<|pad|>"}
        )
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["eos_token_id"] = config["text_config"]["eos_token_id"] = 0
        change_json(folder / "config.json", config)
        model = open_checkpoint(folder)
        assert model._require().ends.sources[2] == ("chat template",)
        assert count_right(model, examples()) == 8

    def test_a_default_of_the_config_that_is_a_word_is_none(self, tmp_path: Path) -> None:
        """A config class's default is id 2, whatever the vocabulary has there."""
        folder = copy_checkpoint(tmp_path / "m")
        held = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        word = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]["a"]
        held["text_config"]["eos_token_id"] = word
        change_json(folder / "config.json", held)
        model = open_checkpoint(folder)
        assert word not in model._require().ends.ids
        assert count_right(model, examples()) == 8

    def test_load_says_where_they_differ(self, tmp_path: Path) -> None:
        same = open_checkpoint(copy_checkpoint(tmp_path / "same")).describe()
        assert same["end_tokens"] == f"{END} (generation_config.json, config.json, tokenizer, chat template)"
        folder = copy_checkpoint(tmp_path / "m", generation_config={"eos_token_id": 0})
        said = str(open_checkpoint(folder).describe()["end_tokens"])
        assert (
            said
            == f"<|pad|> (generation_config.json), {END} (config.json, tokenizer, chat template); they differ"
        )


class TestSpecialTokensInAnswers:
    @staticmethod
    def with_mark(
        folder: Path, mark: str, *, word: str = "circle", special: bool = True, template: str = TEMPLATE
    ) -> Path:
        """The checkpoint with the token of a word and the space before it renamed and added as another."""
        copy_checkpoint(folder, template)
        rename_word(folder, word, mark, special=special)
        return folder

    ASKED = VLMInput(prompt="", max_new_tokens=1)

    @staticmethod
    def about_circles() -> list[tuple[VLMInput, str]]:
        found = [(i, a) for i, a in examples(90) if "circle" in a and "circle" not in str(i.prompt)]
        assert found
        return found[:3]

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("mark", ["<loc_5>", "[THINK]", "<patch_index_0001>", "<fcel>"])
    def test_they_are_part_of_the_answer(self, tmp_path: Path, mark: str, engine: str) -> None:
        asked = self.about_circles()
        model = open_checkpoint(self.with_mark(tmp_path / "m", mark), engine=engine)
        wanted = [answer.replace(" circle", mark) for _, answer in asked]
        assert texts(model, [input for input, _ in asked]) == wanted

    def test_one_that_the_template_writes_elsewhere_is_kept_too(self, tmp_path: Path) -> None:
        """As Magistral's template, which writes [THINK] where an earlier answer has thoughts."""
        template = TEMPLATE.replace(
            "{% for message in messages %}",
            "{% for message in messages %}{% if message.thoughts %}[THINK]{{ message.thoughts }}{% endif %}",
        )
        asked = self.about_circles()
        model = open_checkpoint(self.with_mark(tmp_path / "m", "[THINK]", template=template))
        assert "[THINK]" in texts(model, [asked[0][0]])[0]

    def test_the_parameter_leaves_all_out_or_none(self, tmp_path: Path) -> None:
        asked = self.about_circles()[:1]
        folder = self.with_mark(tmp_path / "m", "<loc_5>")
        [without] = texts(open_checkpoint(folder, skip_special_tokens=True), [asked[0][0]])
        [with_all] = texts(open_checkpoint(folder, skip_special_tokens=False), [asked[0][0]])
        assert without == asked[0][1].replace(" circle", "")
        assert with_all == asked[0][1].replace(" circle", "<loc_5>") + END

    def test_a_stop_string_may_be_a_special_token(self, tmp_path: Path) -> None:
        asked = self.about_circles()[0]
        model = open_checkpoint(self.with_mark(tmp_path / "m", "<loc_5>"))
        [said] = texts(model, [asked[0].model_copy(update={"stop": ["<loc_5>"]})])
        assert said == asked[1].partition(" circle")[0]

    def test_a_processors_own_way_to_text_is_taken(self, tmp_path: Path) -> None:
        """Qwen's does not clean up the spaces that the tokenizer's would."""
        folder = copy_checkpoint(tmp_path / "m", tokenizer_config={"clean_up_tokenization_spaces": True})
        model = open_checkpoint(folder)
        decoder = model._require().stop.decoder
        ids = decoder._tokenizer("a , b .", add_special_tokens=False)["input_ids"]
        [wanted] = model._require().processor.post_process_image_text_to_text([ids], skip_special_tokens=True)
        assert decoder.text(ids) == wanted.strip()


class TestGenerationConfig:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_its_stop_strings_end_answers(self, tmp_path: Path, engine: str) -> None:
        asked = next(pair for pair in examples(90) if pair[1].count(" ") > 1)
        word = asked[1].split()[1]
        folder = copy_checkpoint(tmp_path / "m", generation_config={"stop_strings": [word]})
        assert texts(open_checkpoint(folder, engine=engine), [asked[0]]) == [
            asked[1].partition(word)[0].strip()
        ]

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("form", ["string", "end token"])
    def test_stop_strings_of_other_forms_are_heeded(self, tmp_path: Path, engine: str, form: str) -> None:
        strings = {"string": "zebra", "end token": [END]}[form]
        folder = copy_checkpoint(tmp_path / "m", generation_config={"stop_strings": strings})
        assert count_right(open_checkpoint(folder, engine=engine), examples(4)) == 4

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"max_time": 1e-9}, "max_time 1e-09"),
            ({"num_beams": 4}, "num_beams 4"),
            ({"min_new_tokens": 20}, "min_new_tokens 20"),
            ({"num_beams": 3, "num_return_sequences": 3}, "num_return_sequences 3"),
            ({"guidance_scale": 3.0}, "guidance_scale 3.0"),
            ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens 3"),
            ({"encoder_repetition_penalty": 2.0}, "encoder_repetition_penalty 2.0"),
            ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha 0.6"),
        ],
        ids=str,
    )
    def test_what_is_not_heeded_changes_nothing_and_is_named(
        self, tmp_path: Path, asked: dict[str, Any], said: str, engine: str
    ) -> None:
        model = open_checkpoint(copy_checkpoint(tmp_path / "m", generation_config=asked), engine=engine)
        assert count_right(model, examples(4)) == 4
        assert said in str(model.describe()["generation_defaults"]).partition("not heeded: ")[2]
        assert any(said in notice for notice in model.notices())

    @pytest.mark.parametrize("engine", ENGINES)
    def test_what_belongs_to_the_model_is_heeded(self, tmp_path: Path, engine: str) -> None:
        asked = examples(1)[0]
        folder = copy_checkpoint(tmp_path / "m")
        vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        first = asked[1].split()[0]
        change_json(
            folder / "generation_config.json",
            {"suppress_tokens": [vocabulary["Ġ" + first], vocabulary[first]]},
        )
        model = open_checkpoint(folder, engine=engine)
        assert first not in texts(model, [asked[0]])[0].split()
        assert "heeded: suppress_tokens" in str(model.describe()["generation_defaults"])

    OF_THE_MODEL: ClassVar[dict[str, Any]] = {
        "no_repeat_ngram_size": lambda words: 1,
        "bad_words_ids": lambda words: [[words["cyan"]]],
        "begin_suppress_tokens": lambda words: [words["first"]],
        "suppress_tokens": lambda words: [words["cyan"]],
        "sequence_bias": lambda words: [[[words["cyan"]], -50.0]],
        "forced_bos_token_id": lambda words: words["cyan"],
        "forced_eos_token_id": lambda words: words["cyan"],
        "exponential_decay_length_penalty": lambda words: [1, 20.0],
    }
    """Setting -> a value that changes the answers below, from tokens of them."""

    def test_every_setting_that_is_heeded_has_an_example(self) -> None:
        without_effect = {"remove_invalid_values", "renormalize_logits"}  # of scores that are numbers
        assert self.OF_THE_MODEL.keys() == HEEDED - {"stop_strings"} - without_effect

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("name", OF_THE_MODEL)
    def test_it_is_heeded_as_transformers_own_generate_heeds_it(
        self, tmp_path: Path, name: str, engine: str
    ) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

        folder = copy_checkpoint(tmp_path / "m")
        vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        alone = AutoModelForImageTextToText.from_pretrained(folder).eval()
        processor = AutoProcessor.from_pretrained(folder)
        asked = [
            input for input, right in examples(90) if " a cyan" in " " + right and len(right.split()) > 5
        ]
        inputs = [input.model_copy(update={"max_new_tokens": 8}) for input in asked[:3]]
        pictures = [[Image.open(str(image)).convert("RGB") for image in i.images or ()] for i in inputs]
        plain = [
            generate_alone(alone, processor, str(input.prompt), images, 8)
            for input, images in zip(inputs, pictures, strict=True)
        ]
        words = {"cyan": vocabulary["Ġcyan"], "first": plain[0][0]}
        change_json(folder / "generation_config.json", {name: self.OF_THE_MODEL[name](words)})
        alone.generation_config = GenerationConfig.from_pretrained(folder)
        model = open_checkpoint(folder, engine=engine, dtype="float32")
        with model._require().stop.recording() as recorded:
            texts(model, inputs)
        found = [recorded[number] for number in range(len(inputs))]
        assert found == [
            generate_alone(alone, processor, str(input.prompt), images, 8)
            for input, images in zip(inputs, pictures, strict=True)
        ]
        assert (found != plain) == (name != "forced_bos_token_id")  # which is of encoder-decoders
        assert f"heeded: {name}" in str(model.describe()["generation_defaults"])

    def test_sampling_is_the_records_and_no_warning(self, tmp_path: Path) -> None:
        asked = {"do_sample": True, "temperature": 0.6, "top_p": 0.8, "repetition_penalty": 1.2}
        model = open_checkpoint(copy_checkpoint(tmp_path / "m", generation_config=asked))
        assert count_right(model, examples(4)) == 4
        assert "left to the records: " in str(model.describe()["generation_defaults"])
        assert model.notices() == []


def test_a_chat_model_without_a_template_is_one_visible_warning(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m", None)
    [notice] = open_checkpoint(folder).notices()
    assert "no chat template" in notice
    assert open_checkpoint(folder, chat_template="none").notices() == []


def test_a_captioner_without_a_template_is_none(tmp_path: Path) -> None:
    assert open_checkpoint(build("florence2", tmp_path / "florence2")).notices() == []


def test_an_error_is_not_an_answer(tmp_path: Path) -> None:
    [failed] = answers(
        open_checkpoint(copy_checkpoint(tmp_path / "m")), [VLMInput(prompt="<image>", max_new_tokens=1)]
    )
    assert isinstance(failed, VLMError)


def test_a_stop_string_is_not_looked_for_in_the_spelling_of_the_token_that_ends_a_turn() -> None:
    model = load_model("shapes", device="cpu")
    question = "What is in the picture?"
    image = str(MODEL_DIR.parents[3] / "examples" / "shapes" / "images" / "001.jpg")
    asked = VLMInput(prompt=question, images=[image], max_new_tokens=30, temperature=0)
    whole = model.predict(asked).generated_text
    assert model.predict(asked.model_copy(update={"stop": ["utterance", "_", "<"]})).generated_text == whole
    cut = model.predict(asked.model_copy(update={"stop": ["_", "triangle"]}))
    assert cut.generated_text == whole.partition("triangle")[0].strip()
