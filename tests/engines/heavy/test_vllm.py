"""vLLM in process, held against vLLM by hand. Needs an environment with vLLM: `make test-engines`."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.vllm_engine import (
    ARGUMENTS,
    ENVIRONMENT,
    EXAMPLES,
    REPOSITORY,
    SEQUENCES,
    SHAPES,
    run_direct,
    write_config,
    write_manifest,
)

pytest.importorskip("vllm")

from tests.batching.test_thinking import SWITCH
from tests.embedded import copy_checkpoint, open_checkpoint, rename_word
from tests.outputs.thoughts import SCHEMA, check_every_form

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.engines.vllm.model import REFILL, VLLMVLMModel
from pixano_vlm.errors import ConfigError, ImageError, ModelLoadError, PromptError
from pixano_vlm.models import Limits, ModelDeploymentConfig, VLMInput, VLMOutput
from pixano_vlm.models.samples import sample_inputs
from pixano_vlm.runs.flags import flags_of

# What vLLM and the libraries under it warn of is not this project's.
pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]

MANIFEST = EXAMPLES / "manifest.jsonl"

NOTING = '''
"""The engine, its tokens noted as they pass: an output line holds text alone."""

import json

from pixano_vlm import register_model
from pixano_vlm.engines.vllm.model import VLLMVLMModel


@register_model("noting")
class Noting(VLLMVLMModel):
    def _answer_of(self, output, input, **more):
        answer = super()._answer_of(output, input, **more)
        note = [input.prompt, [str(image) for image in input.images], list(output.outputs[0].token_ids)]
        with open("tokens.jsonl", "a") as file:
            print(json.dumps([*note, answer.usage.model_dump()]), file=file)
        return answer
'''


def config(**params: Any) -> ModelDeploymentConfig:
    known = {"path": str(SHAPES), "dtype": "float32", "max_batch_size": SEQUENCES, "engine_args": ARGUMENTS}
    return ModelDeploymentConfig(name="m", model_class="VLLMVLMModel", model_params={**known, **params})


@pytest.fixture(scope="module")
def model() -> Iterator[VLLMVLMModel]:
    os.environ.update(ENVIRONMENT)
    model = VLLMVLMModel(config())
    model.load_model()
    yield model
    model.unload()
    gc.collect()  # what vLLM leaves open is closed here, where its warnings do not count


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in MANIFEST.read_text().splitlines()]


def ask(number: int = 0, **settings: Any) -> VLMInput:
    """A record of the examples, some of its settings otherwise."""
    record = records()[number]
    images = [MANIFEST.parent / image for image in record["images"]]
    return VLMInput(
        **{"prompt": record["prompt"], "images": images, "max_new_tokens": 64, "temperature": 0, **settings}
    )


class TestTheCommand:
    def test_the_example_runs(self, tmp_path: Path) -> None:
        example = REPOSITORY / "examples" / "vllm_engine" / "models.yaml"
        command = [sys.executable, "-m", "pixano_vlm", "generate", MANIFEST, "--config", example]
        subprocess.run(
            [*command, "-m", "shapes-on-vllm"], cwd=tmp_path, env=os.environ | ENVIRONMENT, check=True
        )
        check = [sys.executable, EXAMPLES / "check.py", tmp_path / "manifest.outputs.jsonl"]
        subprocess.run(check, check=True)  # fails below 95 %

    def test_it_gives_the_tokens_that_vllm_gives_by_hand(self, tmp_path: Path) -> None:
        (tmp_path / "noting.py").write_text(NOTING)
        write_config(tmp_path, SHAPES, "noting")
        command = [sys.executable, "-m", "pixano_vlm", "generate", MANIFEST, "--config", "models.yaml"]
        done = subprocess.run(
            [*command, "--plugin", "noting.py", "-m", "on-vllm", "-o", "out.jsonl"],
            cwd=tmp_path,
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout == ""
        theirs = run_direct(sys.executable, SHAPES, MANIFEST)
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert {line["id"]: line["generated_text"] for line in lines} == theirs["texts"]
        notes = [json.loads(line) for line in (tmp_path / "tokens.jsonl").read_text().splitlines()]
        noted = {(prompt, Path(images[0]).name): (tokens, usage) for prompt, images, tokens, usage in notes}
        assert len(lines) == len(notes) == 96
        for record in records():
            tokens, usage = noted[record["prompt"], Path(record["images"][0]).name]
            assert tokens == theirs["tokens"][record["id"]]
            assert usage["completion_tokens"] == len(tokens)
        right = sum(line["generated_text"] == line["metadata"]["answer"] for line in lines)
        assert right >= 90

    def test_ctrl_c_ends_it_in_good_order_and_resume_continues_it(self, tmp_path: Path) -> None:
        """A terminal sends Ctrl-C to every process of the command, vLLM's own among them."""
        manifest, output = write_manifest(tmp_path, 12), tmp_path / "out.jsonl"
        config = write_config(tmp_path, SHAPES)
        command = [sys.executable, "-m", "pixano_vlm", "generate", manifest, "--config", config]
        command += ["-m", "on-vllm", "-o", output, "--quiet"]
        run = subprocess.Popen(command, env=os.environ | ENVIRONMENT, start_new_session=True)
        while not output.exists() or output.read_bytes().count(b"\n") < 100:
            assert run.poll() is None
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(120) == 130
        first = [json.loads(line) for line in output.read_text().splitlines()]
        assert 100 <= len(first) < 12 * 96
        assert all(line["status"] == "ok" for line in first)
        subprocess.run([*command, "--resume"], env=os.environ | ENVIRONMENT, check=True)
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        asked = [json.loads(line)["id"] for line in manifest.read_text().splitlines()]
        assert [line["id"] for line in lines] == asked

    def test_a_misspelt_engine_argument_is_told_with_the_nearest(self) -> None:
        misspelt = VLLMVLMModel(config(engine_args={"enforce_eagre": True}))
        with pytest.raises(ConfigError) as raised:
            misspelt.load_model()
        assert raised.value.hint == "Did you mean 'enforce_eager'?"

    def test_an_engine_argument_that_is_a_parameter_is_told_its_name(self) -> None:
        with pytest.raises(ConfigError) as raised:
            VLLMVLMModel(config(engine_args={"max_num_seqs": 4})).load_model()
        assert raised.value.hint == "Move it out of engine_args, as max_batch_size."

    def test_an_engine_argument_of_a_wrong_value_is_a_load_error(self) -> None:
        with pytest.raises(ModelLoadError, match="vLLM cannot run"):
            VLLMVLMModel(config(engine_args={"max_model_len": "long"})).load_model()


class TestStream:
    def test_inputs_are_taken_no_faster_than_answers_come(self, model: VLLMVLMModel) -> None:
        taken = 0

        def endless() -> Iterator[tuple[int, VLMInput]]:
            nonlocal taken
            while True:
                taken += 1
                yield taken, ask(taken % 96)

        stream = model.stream(endless())
        for answered in range(1, 101):
            next(stream)
            assert taken - answered <= SEQUENCES + 3 * REFILL
        stream.close()

    def test_one_left_in_the_middle_leaves_nothing_behind(self, model: VLLMVLMModel) -> None:
        stream = model.stream((n, ask(n)) for n in range(96))
        next(stream)
        stream.close()
        assert model._engine.get_num_unfinished_requests() == 0
        answers = dict(model.stream((n, ask(n)) for n in range(20)))
        assert sorted(answers) == list(range(20))

    def test_a_damaged_image_and_a_prompt_that_is_too_long_fail_alone(
        self, model: VLLMVLMModel, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
        asked = [ask(0), ask(1, images=[tmp_path / "bad.jpg"]), ask(2, prompt="What? " * 400), ask(3)]
        answers = dict(model.stream(enumerate(asked)))
        assert isinstance(answers[0], VLMOutput)
        assert isinstance(answers[1], ImageError)
        assert "vLLM refuses this request" in str(answers[2])
        assert isinstance(answers[3], VLMOutput)

    def test_a_limit_that_it_cannot_hold_to_is_refused(self, model: VLLMVLMModel) -> None:
        model.limits = Limits(max_prompt_tokens=100)
        try:
            with pytest.raises(ConfigError, match="max_prompt_tokens"):
                model.predict(ask())
        finally:
            model.limits = Limits()


class TestOneRecord:
    def test_each_samples_by_its_own_settings_and_seed(self, model: VLLMVLMModel) -> None:
        hot = {"temperature": 2.0, "max_new_tokens": 12}
        asked = [*(ask(0, **hot, seed=seed) for seed in (*range(8), 0)), ask(0), ask(0, **hot, top_k=1)]
        answers = dict(model.stream(enumerate(asked)))
        *sampled, again, greedy, single = (answers[n].generated_text for n in range(11))
        assert sampled[0] == again
        assert len(set(sampled)) > 1
        assert greedy == single
        assert answers[2].generation_config == {
            "max_new_tokens": 12, "do_sample": True, "temperature": 2.0, "seed": 2,
        }  # fmt: skip

    def test_a_setting_that_vllm_does_not_take_is_that_records_error(self, model: VLLMVLMModel) -> None:
        answers = dict(model.stream(enumerate([ask(0, temperature=8.0), ask(0)])))
        assert "temperature must be in [0, 2]" in str(answers[0])
        assert isinstance(answers[1], VLMOutput)

    def test_the_limit_and_the_end_are_told_apart(self, model: VLLMVLMModel) -> None:
        assert model.predict(ask(0)).finish_reason == "stop"
        cut = model.predict(ask(0, max_new_tokens=1))
        assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 1)

    def test_it_ends_before_a_stop_string(self, model: VLLMVLMModel) -> None:
        whole = model.predict(ask(0)).generated_text
        assert model.predict(ask(0, stop=[whole[3:6]])).generated_text == whole[:3]

    def test_usage_counts_the_tokens_of_the_models_own_processor(self, model: VLLMVLMModel) -> None:
        from PIL import Image
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(SHAPES)
        input = ask(0)
        content = [{"type": "image"}, {"type": "text", "text": input.prompt}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        ids = processor(text=text, images=[Image.open(input.images[0]).convert("RGB")])["input_ids"][0]  # type: ignore[index]  # it has one
        assert model.predict(input).usage.prompt_tokens == len(ids)

    def test_an_answer_follows_the_schema_that_is_asked_for_beside_free_ones(
        self, model: VLLMVLMModel
    ) -> None:
        schema = {"type": "object", "properties": {"count": {"enum": [1, 2, 3]}}, "required": ["count"]}
        schema["additionalProperties"] = False
        asked = {"type": "json_schema", "json_schema": {"schema": schema}}
        inputs = [ask(n, response_format=asked if n % 2 else None) for n in range(20)]
        answers = dict(model.stream(enumerate(inputs)))
        for n, answer in answers.items():
            if n % 2:
                assert answer.parsed in [{"count": 1}, {"count": 2}, {"count": 3}]
                assert json.loads(answer.generated_text) == answer.parsed
            else:
                assert answer.parsed is None
                assert answer.generated_text == model.predict(ask(n)).generated_text
        cut = model.predict(ask(1, response_format=asked, max_new_tokens=2))
        assert (cut.parsed, cut.finish_reason) == (None, "length")

    def test_a_video_is_refused(self, model: VLLMVLMModel) -> None:
        content = [{"type": "video", "video": "clip.mp4"}, {"type": "text", "text": "What?"}]
        with pytest.raises(PromptError, match="video"):
            model.predict(ask(prompt=[{"role": "user", "content": content}], images=None))

    def test_two_images_in_one_record(self, model: VLLMVLMModel) -> None:
        both = [ask(0).images[0], ask(-1).images[0]]  # type: ignore[index]  # they have one each
        one, two = model.predict(ask(0)), model.predict(ask(0, images=both))
        assert two.usage.prompt_tokens > one.usage.prompt_tokens + 3


def test_facts_are_told(model: VLLMVLMModel) -> None:
    facts = model.describe()
    assert facts["context_length"] == ARGUMENTS["max_model_len"]
    assert "16 records together" in str(facts["engine"])


def test_the_fingerprint_needs_no_loading_and_follows_the_arguments() -> None:
    first = VLLMVLMModel(config()).fingerprint()
    assert VLLMVLMModel(config(prepare_workers=4)).fingerprint() == first
    assert VLLMVLMModel(config(engine_args={})).fingerprint() != first


class TestLabelsAndSamples:
    def test_labels_have_the_probabilities_that_the_in_process_engine_gives(
        self, model: VLLMVLMModel
    ) -> None:
        from pixano_vlm.engines.transformers.model import TransformersVLMModel

        here = TransformersVLMModel(
            ModelDeploymentConfig(name="m", model_params={"path": str(SHAPES), "dtype": "float32"})
        )
        here.load_model()
        labels = ["red", "green", "blue", "a star", "a star and a square", "yes", "no", "top right"]
        inputs = [ask(number, choices=labels) for number in range(12)]
        ours, theirs = (dict(one.stream(enumerate(inputs))) for one in (here, model))
        for number in range(len(inputs)):
            assert theirs[number].generated_text == ours[number].generated_text  # type: ignore[union-attr]
            assert theirs[number].usage == ours[number].usage  # type: ignore[union-attr]
            expected = ours[number].probabilities  # type: ignore[union-attr]
            assert theirs[number].probabilities == pytest.approx(expected, abs=1e-3)  # type: ignore[union-attr]

    def test_each_sample_is_the_one_drawn_alone_with_its_seed(self, model: VLLMVLMModel) -> None:
        input = ask(3, n=3, temperature=1.5, seed=11, max_new_tokens=12)
        answer = model.predict(input)
        alone = [model.predict(one).generated_text for one in sample_inputs(input)]
        assert [sample.generated_text for sample in answer.samples or []] == alone


LEAST = 12
"""No answer of these tests ends by itself before so many tokens."""


class TestThoughts:
    """A checkpoint that thinks where its template's variable says so, held against the in-process engine."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        # No config but the model's own says what ends a turn, and two things of one are named.
        folder = copy_checkpoint(
            tmp_path_factory.mktemp("thinker") / "m",
            SWITCH,
            generation_config={"eos_token_id": 0, "stop_strings": ["purple"], "suppress_tokens": [3]},
            tokenizer_config={"eos_token": "<|pad|>"},
        )
        rename_word(folder, "about", "<think>", special=True)
        rename_word(folder, "helpful", "</think>", special=True)
        return folder

    @pytest.fixture(scope="class")
    def thinker(self, folder: Path) -> Iterator[VLLMVLMModel]:
        os.environ.update(ENVIRONMENT)
        model = VLLMVLMModel(config(path=str(folder)))
        model.load_model()
        yield model
        model.unload()
        gc.collect()  # what vLLM leaves open is closed here, where its warnings do not count

    @pytest.fixture(scope="class")
    def reference(self, folder: Path) -> TransformersVLMModel:
        return open_checkpoint(folder, engine="auto", dtype="float32")

    @staticmethod
    def asked(number: int, *, think: bool = True, **settings: Any) -> VLMInput:
        return ask(number, **{"chat_template_kwargs": {"think": think}, "max_new_tokens": 24, **settings})

    def test_thoughts_budgets_and_answers_are_those_of_the_in_process_engine(
        self, thinker: VLLMVLMModel, reference: TransformersVLMModel
    ) -> None:
        budgets = [None, 0, 1, 5, None, 3, 8, 2]
        inputs = [
            self.asked(n, think=n != 4, thinking_budget=budget, min_new_tokens=LEAST)
            for n, budget in enumerate(budgets)
        ]
        there, here = (dict(model.stream(enumerate(inputs))) for model in (thinker, reference))
        for n, budget in enumerate(budgets):
            parts = [
                (answer.reasoning, answer.generated_text, answer.reasoning_tokens, answer.finish_reason)
                for answer in (there[n], here[n])
            ]
            assert parts[0] == parts[1], (n, budget)
            assert there[n].usage == here[n].usage
        assert there[3].reasoning_tokens == 5 + 1
        assert there[4].reasoning is None
        assert there[0].reasoning

    def test_end_tokens_and_stop_strings_of_the_checkpoint_are_heeded_and_what_is_not_is_named(
        self, thinker: VLLMVLMModel, reference: TransformersVLMModel
    ) -> None:
        inputs = [self.asked(n, think=False, max_new_tokens=64) for n in range(len(records()))]
        there, here = (dict(model.stream(enumerate(inputs))) for model in (thinker, reference))
        answers = [record["metadata"]["answer"] for record in records()]
        assert sum("purple" in answer for answer in answers) > 2
        for n in range(len(answers)):
            assert there[n].generated_text == here[n].generated_text
            assert there[n].finish_reason == "stop"
            assert "purple" not in there[n].generated_text
        assert thinker.notices() == [
            "the checkpoint's generation config asks for what is not heeded: suppress_tokens [3]"
        ]
        assert "heeded: stop_strings ['purple']" in str(thinker.describe()["generation_defaults"])

    def test_json_follows_thoughts_and_is_apart_from_them(self, thinker: VLLMVLMModel) -> None:
        form = {"response_format": SCHEMA, "max_new_tokens": 60}
        inputs = [
            *(self.asked(n, thinking_budget=n, **form) for n in range(4)),
            *(self.asked(n, think=False, **form) for n in range(4)),
            *(self.asked(n, think=False) for n in range(4)),
        ]
        answers = dict(thinker.stream(enumerate(inputs)))
        for n in range(8):
            assert set(answers[n].parsed) == {"seen"}
            assert json.loads(answers[n].generated_text) == answers[n].parsed
        for n in range(4):
            assert answers[n].reasoning_tokens == n + 1
        assert all(answers[n].reasoning is None for n in range(4, 12))
        assert answers[8].generated_text == records()[0]["metadata"]["answer"]

    @pytest.mark.parametrize("schema", [False, True], ids=["free", "schema"])
    def test_they_are_apart_in_every_form_of_the_output(
        self, thinker: VLLMVLMModel, tmp_path: Path, schema: bool
    ) -> None:
        variables = {"chat_template_kwargs": {"think": True}, "max_new_tokens": 60}
        least = {} if schema else {"min_new_tokens": LEAST}
        line = check_every_form(thinker, tmp_path, schema=schema, thinking_budget=4, **variables, **least)
        assert line["reasoning_tokens"] == 5

    def test_thoughts_that_never_end_leave_no_answer(self, thinker: VLLMVLMModel) -> None:
        answer = thinker.predict(self.asked(0, min_new_tokens=LEAST, max_new_tokens=LEAST))
        assert answer.generated_text == ""
        assert answer.reasoning
        assert "only_thinking" in flags_of(answer)

    def test_confidence_is_of_the_answer_alone(
        self, thinker: VLLMVLMModel, reference: TransformersVLMModel
    ) -> None:
        input = self.asked(1, thinking_budget=4, min_new_tokens=LEAST, logprobs=True)
        there, here = thinker.predict(input), reference.predict(input)
        assert there.confidence == pytest.approx(here.confidence, abs=1e-3)
        assert len(there.logprobs["content"]) == there.usage.completion_tokens - 5

    def test_a_model_that_has_no_thoughts_has_no_budget(self, model: VLLMVLMModel) -> None:
        with pytest.raises(PromptError, match="thinking_budget"):
            model.predict(ask(thinking_budget=4))
