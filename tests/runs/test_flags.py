"""Answers that loop, are empty or cut off are flagged; normal ones are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeModel, run

from pixano_vlm.models import GenerationSettings, UsageInfo, VLMInput, VLMOutput
from pixano_vlm.runs.flags import ends_in_a_loop, flags_of, other_settings

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)


def output(text: str, finish: Any = "stop", confidence: float | None = None) -> VLMOutput:
    usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    return VLMOutput(generated_text=text, usage=usage, finish_reason=finish, confidence=confidence)


LOOPS = [
    "I see " + "a cat and " * 12,
    "I see " + "a cat, " * 12 + "a c",  # cut off in the middle
    "very " * 20,
    "0" * 80,
    "It ends." + "." * 70,
    "A man stands beside a car.\n" * 4,
    "A red car. " + "He looks at the camera. The sky is blue.\n\n" * 5 + "He looks",
    "猫が椅子に座っています。" * 8,
    "a cat, A CAT, a  cat,\n" * 8 + "!",
    "A long story. " + ("word" * 200 + " ") * 4,
]
NORMAL = [
    "",
    "A black triangle.",
    "very " * 8,
    "yes yes yes yes",
    "There are a red circle, a red square, a red triangle, a blue circle, a blue square and a blue triangle.",
    "\n".join(f"{n}. item {n * 7}" for n in range(1, 40)),
    json.dumps([{"x": n * 13 % 31, "y": n * 7 % 29} for n in range(30)]),
    "The house is old. " * 3 + "The garden behind it is new, and nobody has been there for years.",
    "loop loop loop loop loop loop loop loop loop loop loop loop loop loop loop loop and then it went on, to the end",
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_text_that_ends_in_a_loop_is_one(text: str) -> None:
    assert ends_in_a_loop(text)


@pytest.mark.parametrize("text", NORMAL)
def test_a_text_that_only_repeats_itself_a_little_is_none(text: str) -> None:
    assert not ends_in_a_loop(text)


@given(st.text("abc de", max_size=60), st.text("abcdefgh ", min_size=1, max_size=40), st.integers(0, 8))
def test_the_rule_is_what_its_description_says(before: str, stretch: str, times: int) -> None:
    """Held against the plain definition: some stretch stands four times at the end, 60 characters in all."""
    text = before + stretch * times
    tail = " ".join(text.split())

    def loops(tail: str) -> bool:
        return any(
            len(tail) >= (length := max(4 * p, 60))
            and all(tail[-1 - i] == tail[-1 - i - p] for i in range(length - p))
            for p in range(1, len(tail) // 4 + 1)
        )

    assert ends_in_a_loop(text) == (loops(tail) or loops(tail + " "))


def test_flags_are_found_in_the_answer_alone() -> None:
    assert flags_of(output("A black triangle.")) == ()
    assert flags_of(output("A black", "length")) == ("cut_off",)
    assert flags_of(output(" \n")) == ("empty",)
    assert flags_of(output("a cat " * 30, "length")) == ("cut_off", "repetition")


def test_other_settings_are_those_that_help() -> None:
    sampled = VLMInput(prompt="x", max_new_tokens=8, seed=3, repetition_penalty=1.2)
    again = other_settings(sampled, ("repetition",), 100)
    assert again is not None
    assert (again.max_new_tokens, again.seed, again.repetition_penalty) == (8, 4, pytest.approx(1.32))
    longer = other_settings(sampled, ("cut_off",), 12)
    assert longer is not None
    assert (longer.max_new_tokens, longer.seed, longer.repetition_penalty) == (12, 3, 1.2)
    assert other_settings(sampled, ("cut_off",), 8) is None
    assert sampled.max_new_tokens == 8


class Wavering(FakeModel):
    """Cuts answers off below 32 new tokens; `loop` loops without a penalty, `hopeless` always."""

    def predict(self, input: VLMInput) -> VLMOutput:
        prompt = str(input.prompt)
        self.asked.append(prompt)
        config = input.model_dump(exclude={"prompt", "images"}, exclude_none=True)
        finish = "length" if "long" in prompt and input.max_new_tokens < 32 else "stop"
        loops = "hopeless" in prompt or ("loop" in prompt and input.repetition_penalty is None)
        answer = output("a cat " * 30 if loops else "fine", finish)
        return answer.model_copy(update={"generation_config": config})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestRetry:
    @pytest.fixture
    def manifest(self, tmp_path: Path) -> Path:
        prompts = ["fine", "loop", "long", "hopeless", "loop long", "fine too"]
        path = tmp_path / "m.jsonl"
        path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        return path

    @pytest.mark.parametrize("window", [1, 3, 100])
    def test_a_flagged_answer_is_asked_for_once_more_and_the_line_says_so(
        self, manifest: Path, tmp_path: Path, window: int
    ) -> None:
        out, model = tmp_path / "out.jsonl", Wavering(window=window, shuffle=1)
        summary = run(manifest, out, model, settings=GREEDY, retry_flagged=True)
        written = lines(out)
        assert [(line["flags"], line["attempts"]) for line in written] == [
            ([], 1), ([], 2), ([], 2), (["repetition"], 2), ([], 2), ([], 1),
        ]  # fmt: skip
        assert written[1]["generation_config"]["repetition_penalty"] == 1.1
        assert written[2]["generation_config"]["max_new_tokens"] == 32
        assert (
            "repetition_penalty" not in written[3]["generation_config"]
        )  # the first answer, no worse, counts
        assert len(model.asked) == 10
        assert (summary.ok, summary.retried, dict(summary.flags)) == (6, 4, {"repetition": 1})

    def test_without_it_flags_are_only_counted(self, manifest: Path, tmp_path: Path) -> None:
        out, model = tmp_path / "out.jsonl", Wavering()
        summary = run(manifest, out, model, settings=GREEDY)
        assert [line["flags"] for line in lines(out)] == [
            [], ["repetition"], ["cut_off"], ["repetition"], ["cut_off", "repetition"], [],
        ]  # fmt: skip
        assert len(model.asked) == 6
        assert summary.flags == {"repetition": 3, "cut_off": 2}

    def test_resuming_asks_those_again_that_are_flagged_and_each_once(
        self, manifest: Path, tmp_path: Path
    ) -> None:
        out, model = tmp_path / "out.jsonl", Wavering()
        run(manifest, out, model, settings=GREEDY)
        assert run(manifest, out, model, settings=GREEDY, resume=True).reused == 6
        model.asked.clear()
        summary = run(manifest, out, model, settings=GREEDY, resume=True, retry_flagged=True)
        assert (summary.reused, summary.ok, summary.retried) == (2, 4, 4)
        assert [line["attempts"] for line in lines(out)] == [1, 2, 2, 2, 2, 1]
        model.asked.clear()
        assert run(manifest, out, model, settings=GREEDY, resume=True, retry_flagged=True).reused == 6
        assert model.asked == []

    def test_a_stop_keeps_the_answers_that_would_have_been_asked_for_again(
        self, manifest: Path, tmp_path: Path
    ) -> None:
        import threading

        stop, out = threading.Event(), tmp_path / "out.jsonl"

        def on_answer(result: Any) -> None:
            stop.set()

        model = Wavering(window=4)
        run(manifest, out, model, settings=GREEDY, retry_flagged=True, stop=stop, on_result=on_answer)
        assert {line["id"] for line in lines(out)} >= {"1", "2", "3", "4"}
        resumed = run(manifest, out, model, settings=GREEDY, retry_flagged=True, resume=True)
        assert resumed.ok >= 2
        assert [line["id"] for line in lines(out)] == ["1", "2", "3", "4", "5", "6"]
        assert [line["attempts"] for line in lines(out)] == [1, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(("confidence", "flagged"), [(0.49, True), (0.5, False), (None, False)])
def test_low_confidence_is_a_flag_of_runs_that_ask_for_it(confidence: float | None, flagged: bool) -> None:
    doubted = output("A cat.", confidence=confidence)
    assert flags_of(doubted, None, 0.5) == (("low_confidence",) if flagged else ())
    assert flags_of(doubted) == ()


def test_low_confidence_is_tried_with_another_seed_and_not_where_nothing_would_change() -> None:
    sampled = VLMInput(prompt="a", max_new_tokens=4, temperature=1, seed=5)
    again = other_settings(sampled, ("low_confidence",), 100)
    assert again is not None
    assert again.seed == 6
    greedy = VLMInput(prompt="a", max_new_tokens=4, temperature=0)
    assert other_settings(greedy, ("low_confidence",), 100) is None
    chosen = VLMInput(prompt="a", max_new_tokens=4, temperature=1, choices=["a", "b"])
    assert other_settings(chosen, ("low_confidence",), 100) is None
