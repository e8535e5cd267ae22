"""A model class of one's own: what is wrong in it is said with its file and line, and what it ignores is told."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_vlm.errors import ConfigError, GenerationError, ImageError, RunError, VLMError
from pixano_vlm.models import ModelDeploymentConfig, UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_vlm.models.batches import BATCH_SIZE
from pixano_vlm.models.noted import NotedParameters

USAGE = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)

HEAD = """\
from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model
USAGE = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)

@register_model("mine")
class Mine(VLMModel):
"""
LOADS = "def load_model(self): self.model = 1"
ANSWERS = "def predict(self, input): return VLMOutput(generated_text='x', usage=USAGE)"

Mine = Callable[..., Any]


@pytest.fixture
def mine(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mine:
    """Runs a class whose methods are the given lines, from line 6 of mine.py, on three records."""
    monkeypatch.chdir(tmp_path)
    Path("m.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "three"}\n')

    def run(*methods: str, args: tuple[str, ...] = (), command: str = "generate") -> Any:
        body = "\n".join(textwrap.indent(textwrap.dedent(method), "    ") for method in methods)
        Path("mine.py").write_text(HEAD + body + "\n")
        first = ["generate", "m.jsonl", "--model"] if command == "generate" else ["load"]
        return cli(*first, "mine", "--plugin", "mine.py", *args)

    return run


def errors() -> list[str]:
    lines = [json.loads(line) for line in Path("m.outputs.jsonl").read_text().splitlines()]
    return [line["error"]["message"] for line in lines]


class TestBlame:
    def test_an_exception_in_predict_is_its_records_error(self, mine: Mine) -> None:
        ran = mine(LOADS, "def predict(self, input):\n    return {}['width']")
        assert ran.code == 1
        assert errors()[0] == "m.jsonl:1: Mine.predict failed: mine.py:8: KeyError: 'width'."
        assert "Traceback" not in ran.err

    def test_one_that_a_library_raises_is_told_with_the_line_that_called_it(self, mine: Mine) -> None:
        mine(LOADS, "def predict(self, input):\n    import json\n    return json.loads('{')")
        assert "mine.py:9: JSONDecodeError" in errors()[0]

    @pytest.mark.parametrize("command", ["generate", "load"])
    def test_one_in_load_model_ends_the_run(self, mine: Mine, command: str) -> None:
        ran = mine("def load_model(self):\n    self.model = 1 / 0", ANSWERS, command=command)
        assert ran.code == 3
        assert "Mine.load_model failed: mine.py:7: ZeroDivisionError: division by zero." in ran.err
        assert not Path("m.outputs.jsonl").exists()

    @pytest.mark.parametrize("command", ["generate", "load"])
    def test_one_in_the_constructor_is_wrong_use(self, mine: Mine, command: str) -> None:
        made = "def __init__(self, config):\n    super().__init__(config)\n    config.model_params['path']"
        ran = mine(made, LOADS, ANSWERS, command=command)
        assert ran.code == 2
        assert "Mine cannot be created: mine.py:8: KeyError: 'path'." in ran.err

    def test_one_in_stream_ends_the_run(self, mine: Mine) -> None:
        ran = mine(
            LOADS, ANSWERS, "def stream(self, inputs):\n    for key, input in inputs:\n        yield 1, 2, 3"
        )
        assert ran.code == 3
        assert "Mine.stream failed: " in ran.err

    @pytest.mark.parametrize(
        ("returned", "named"), [("'text'", "a str"), ("None", "None"), ("{}", "a dict"), ("3", "an int")]
    )
    def test_a_wrong_return_type_blames_the_class_in_one_sentence(
        self, mine: Mine, returned: str, named: str
    ) -> None:
        mine(LOADS, f"def predict(self, input): return {returned}")
        said = f"Mine.predict returned {named}, and a VLMOutput is needed."
        assert all(said in error for error in errors())

    def test_so_does_one_of_stream(self, mine: Mine) -> None:
        stream = "def stream(self, inputs):\n    for key, input in inputs:\n        yield key, 'text'"
        mine(LOADS, ANSWERS, stream)
        assert "Mine.stream answered with a str, and a VLMOutput is needed." in errors()[2]

    def test_an_output_that_lacks_something_is_told_by_its_line(self, mine: Mine) -> None:
        mine(LOADS, "def predict(self, input):\n    return VLMOutput(generated_text='x')")
        assert "mine.py:8: VLMOutput: the key 'usage' is missing." in errors()[0]

    @pytest.mark.parametrize(
        ("methods", "missing"),
        [([LOADS], "predict"), ([ANSWERS], "load_model"), (["x = 1"], "load_model and no method predict")],
    )
    def test_a_missing_method_blames_the_class(self, mine: Mine, methods: list[str], missing: str) -> None:
        ran = mine(*methods)
        assert ran.code == 2
        assert f"class Mine has no method {missing}." in ran.err


class TestIgnored:
    def test_a_parameter_that_the_class_does_not_read_is_told(self, mine: Mine) -> None:
        ran = mine(LOADS, ANSWERS, args=("--device", "cuda", "--max-batch-size", "4"))
        assert "warning: --device: Mine does not read it.\n" in ran.err
        assert "warning: --max-batch-size: Mine does not read it.\n" in ran.err

    def test_one_that_it_reads_is_not(self, mine: Mine) -> None:
        loads = "def load_model(self): self.model = self.config.model_params.get('device')"
        assert "warning" not in mine(loads, ANSWERS, args=("--device", "cuda")).err

    def test_a_setting_that_took_no_part_is_told(self, mine: Mine) -> None:
        says = ANSWERS.replace("usage=USAGE", "usage=USAGE, generation_config={'stop': 1}")
        ran = mine(LOADS, says, args=("--top-k", "5", "--stop", "a", "--json-schema", '{"enum": ["x"]}'))
        assert "warning: --top-k: Mine does not use it.\n" in ran.err
        assert "warning: --json-schema: Mine does not use it.\n" in ran.err
        assert ran.err.count("warning") == 2

    def test_a_class_that_does_not_say_is_told_so(self, mine: Mine) -> None:
        ran = mine(LOADS, ANSWERS, args=("--top-k", "5", "--min-p", "0.1"))
        assert "warning: --top-k, --min-p: Mine does not say whether it was used.\n" in ran.err

    def test_without_a_flag_nothing_is_told(self, mine: Mine) -> None:
        assert "warning" not in mine(LOADS, ANSWERS).err

    def test_a_class_that_names_its_parameters_is_asked_before_anything_is_loaded(
        self, cli: Callable[..., Any], tmp_path: Path
    ) -> None:
        (tmp_path / "my.yaml").write_text(
            "models: [{name: far, model_class: OpenAIVLMModel, "
            "model_params: {path: x, base_url: 'http://127.0.0.1:9/v1'}}]"
        )
        for flag, value in (("--device", "cpu"), ("--max-batch-size", "3"), ("--dtype", "float32")):
            (tmp_path / "m.jsonl").write_text('{"prompt": "x"}\n')
            ran = cli(
                "generate",
                tmp_path / "m.jsonl",
                "--model",
                "far",
                "--config",
                tmp_path / "my.yaml",
                flag,
                value,
            )
            assert ran.code == 2
            assert f"{flag}: the class of model 'far', OpenAIVLMModel, has no such parameter." in ran.err

    @pytest.mark.parametrize(
        ("look", "seen"),
        [
            (lambda params: params["a"], {"a"}),
            (lambda params: params.get("a"), {"a"}),
            (lambda params: "a" in params, {"a"}),
            (lambda params: params.pop("a"), {"a"}),
            (lambda params: dict(**params), {"a", "b"}),
            (dict, {"a", "b"}),
            (list, {"a", "b"}),
            (lambda params: [*params.values()], {"a", "b"}),
        ],
    )
    def test_however_a_class_looks_at_its_parameters_it_is_seen(
        self, look: Callable[[Any], object], seen: set[str]
    ) -> None:
        params = NotedParameters({"a": 1, "b": 2})
        look(params)
        assert params.read == seen


class InBatches(VLMModel):
    """Has no `predict`; answers a prompt with itself, fails where it is told to."""

    def __init__(self, script: dict[str, Exception] | None = None, **params: Any) -> None:
        super().__init__(ModelDeploymentConfig(name="in-batches", model_params=params))
        self.script, self.sizes = script or {}, list[int]()

    def load_model(self) -> None: ...

    def predict_batch(self, inputs: list[VLMInput]) -> list[VLMOutput | VLMError]:
        self.sizes.append(len(inputs))
        for input in inputs:
            if str(input.prompt) in self.script:
                raise self.script[str(input.prompt)]
        return [VLMOutput(generated_text=str(input.prompt), usage=USAGE) for input in inputs]


def ask(model: VLMModel, prompts: Iterator[str] | list[str]) -> list[tuple[str, str]]:
    inputs = ((prompt, VLMInput(prompt=prompt, max_new_tokens=1)) for prompt in prompts)
    return [
        (
            key,
            answer.generated_text if isinstance(answer, VLMOutput) else f"{type(answer).__name__}: {answer}",
        )
        for key, answer in model.stream(inputs)
    ]


class TestBatches:
    def test_inputs_come_together_up_to_the_batch_size(self) -> None:
        model = InBatches(max_batch_size=3)
        assert ask(model, list("abcdefg")) == [(text, text) for text in "abcdefg"]
        assert model.sizes == [3, 3, 1]

    def test_without_a_size_it_is_the_documented_one(self) -> None:
        model = InBatches()
        ask(model, [str(number) for number in range(BATCH_SIZE + 1)])
        assert model.sizes == [BATCH_SIZE, 1]
        assert f"by default {BATCH_SIZE}" in (VLMModel.predict_batch.__doc__ or "")

    def test_the_flag_is_the_size(self, mine: Mine) -> None:
        together = """\
            def predict_batch(self, inputs):
                return [VLMOutput(generated_text=str(len(inputs)), usage=USAGE) for _ in inputs]
        """
        assert mine(LOADS, together, args=("--max-batch-size", "2")).code == 0
        lines = map(json.loads, Path("m.outputs.jsonl").read_text().splitlines())
        assert [line["generated_text"] for line in lines] == ["2", "2", "1"]

    @pytest.mark.parametrize("size", [0, -1, "2", 1.5, True, None])
    def test_a_size_that_is_none_is_refused(self, size: object) -> None:
        with pytest.raises(ConfigError, match=r"max_batch_size must be a whole number of 1 or more"):
            ask(InBatches(max_batch_size=size), ["a"])

    @given(st.sets(st.integers(0, 19)), st.integers(1, 9))
    def test_bad_inputs_fail_alone_and_the_order_is_kept(self, bad: set[int], size: int) -> None:
        error: Exception
        script = {}
        for number in bad:
            error = ImageError("it is torn.") if number % 2 else ZeroDivisionError("oh")
            script[str(number)] = error
        answers = ask(InBatches(script, max_batch_size=size), [str(number) for number in range(20)])
        assert [key for key, _ in answers] == [str(number) for number in range(20)]
        for number, (key, text) in enumerate(answers):
            if number not in bad:
                assert text == key
            elif number % 2:
                assert text == "ImageError: it is torn."
            else:
                assert "InBatches.predict_batch failed: " in text
                assert "ZeroDivisionError: oh." in text

    def test_a_list_may_hold_errors(self) -> None:
        class Torn(InBatches):
            def predict_batch(self, inputs: list[VLMInput]) -> list[VLMOutput | VLMError]:
                return [ImageError("it is torn."), *super().predict_batch(inputs[1:])]

        assert [text for _, text in ask(Torn(), ["a", "b"])] == ["ImageError: it is torn.", "b"]

    @pytest.mark.parametrize(
        ("returned", "said"),
        [
            ([], "returned 0 answers to 2 inputs."),
            ("ab", "returned a str, and a list with one VLMOutput an input is needed."),
            (None, "returned None, and a list"),
            (["a", "b"], "returned a list with a str, and a VLMOutput is needed."),
        ],
    )
    def test_what_is_not_a_list_of_answers_blames_the_class(self, returned: Any, said: str) -> None:
        class Wrong(InBatches):
            def predict_batch(self, inputs: list[VLMInput]) -> Any:
                return returned

        answers = ask(Wrong(), ["a", "b"])
        assert len(answers) == 2
        assert all(f"Wrong.predict_batch {said}" in text for _, text in answers)

    def test_a_run_error_ends_the_stream(self) -> None:
        with pytest.raises(RunError):
            ask(InBatches({"b": RunError("gone.")}), ["a", "b"])

    def test_inputs_are_taken_no_further_ahead_than_a_batch(self) -> None:
        taken = 0

        def endless() -> Iterator[str]:
            nonlocal taken
            while True:
                taken += 1
                yield str(taken)

        inputs = ((prompt, VLMInput(prompt=prompt, max_new_tokens=1)) for prompt in endless())
        next(InBatches(max_batch_size=4).stream(inputs))
        assert taken == 4

    def test_predict_is_a_batch_of_one(self) -> None:
        model = InBatches({"b": GenerationError("no.")})
        assert model.predict(VLMInput(prompt="a", max_new_tokens=1)).generated_text == "a"
        with pytest.raises(GenerationError):
            model.predict(VLMInput(prompt="b", max_new_tokens=1))

    def test_a_class_without_it_is_asked_one_by_one(self) -> None:
        class Single(InBatches):
            def predict(self, input: VLMInput) -> VLMOutput:
                return VLMOutput(generated_text="alone", usage=USAGE)

            predict_batch = VLMModel.predict_batch

        assert ask(Single(), ["a", "b"]) == [("a", "alone"), ("b", "alone")]
