"""`pixano-vlm generate`: what it writes, what it prints, how it ends."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.models import VLMOutput

ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parent / "plugin.py"))

Generate = Callable[..., Any]


@pytest.fixture
def generate(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """`generate` on lines written to manifest.jsonl in the current folder."""
    monkeypatch.chdir(tmp_path)

    def run(lines: Sequence[str | dict[str, Any]], *args: str) -> Any:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        Path("manifest.jsonl").write_text(text, encoding="utf-8")
        return cli("generate", "manifest.jsonl", *ECHO, *args)

    return run


def outputs(path: str = "manifest.outputs.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class TestEnds:
    def test_all_ok_exits_0_with_one_line_a_record(self, generate: Generate) -> None:
        ran = generate([{"prompt": "one"}, {"prompt": "two words", "id": "b"}])
        assert ran.code == 0
        assert ran.out == ""
        assert [(line["id"], line["generated_text"]) for line in outputs()] == [
            ("1", "one"),
            ("b", "two words"),
        ]

    def test_an_ok_line_is_a_vlm_output(self, generate: Generate) -> None:
        generate([{"prompt": "one"}])
        assert VLMOutput.model_validate(
            {k: v for k, v in outputs()[0].items() if k in VLMOutput.model_fields}
        )

    def test_a_failed_record_exits_1_and_is_a_line(self, generate: Generate) -> None:
        ran = generate([{"prompt": "one"}, {"prompt": "fail"}, "not json", {"prompt": "four"}])
        assert ran.code == 1
        assert [line["status"] for line in outputs()] == ["ok", "error", "error", "ok"]
        assert outputs()[1]["error"]["type"] == "GenerationError"
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize(("model", "code"), [("unloadable", 3), ("broken", 3), ("dying", 3)])
    def test_a_model_that_fails_as_a_whole_exits_3(self, generate: Generate, model: str, code: int) -> None:
        ran = generate([{"prompt": "one"}], "--model", model)
        assert ran.code == code
        assert ran.err.count("error:") == 1
        assert "Traceback" not in ran.err


class TestWrongUse:
    """Each: exit code 2, one message with what to do next, no traceback, no output."""

    def check(self, ran: Any, *said: str) -> None:
        assert ran.code == 2, ran.err
        assert ran.err.count("error:") == 1
        for text in said:
            assert text in ran.err
        assert "Traceback" not in ran.err
        assert ran.out == ""

    def test_an_unknown_model(self, generate: Generate) -> None:
        self.check(generate([{"prompt": "one"}], "--model", "eco"), "there is no model 'eco'; near it: echo")
        assert not Path("manifest.outputs.jsonl").exists()

    def test_a_typo_in_a_flag(self, generate: Generate) -> None:
        ran = generate([{"prompt": "one"}], "--max-new-token", "5")
        self.check(ran, "has no flag --max-new-token.", "Did you mean --max-new-tokens?", "generate --help")

    @pytest.mark.parametrize(("key", "meant"), [("max_tokens", "max_new_tokens"), ("image", "images")])
    def test_a_typo_in_a_manifest_key(self, generate: Generate, key: str, meant: str) -> None:
        ran = generate([{"prompt": "one"}, {"prompt": "two", key: 5}], "--model", "unloadable")
        self.check(ran, "manifest.jsonl:2", repr(key), f"Did you mean {meant!r}?")

    def test_a_missing_manifest(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        ran = cli("generate", tmp_path / "none.jsonl", *ECHO)
        self.check(ran, "there is no manifest", "Give a JSONL file")

    def test_an_output_that_exists(self, generate: Generate) -> None:
        Path("manifest.outputs.jsonl").write_text("precious")
        self.check(generate([{"prompt": "one"}]), "exists.", "--resume", "--overwrite")
        assert Path("manifest.outputs.jsonl").read_text() == "precious"

    def test_an_output_in_a_folder_that_does_not_exist(self, generate: Generate) -> None:
        self.check(
            generate([{"prompt": "one"}], "-o", "none/out.jsonl"), "cannot be written", "Create the folder"
        )

    def test_a_setting_out_of_range(self, generate: Generate) -> None:
        self.check(generate([{"prompt": "one"}], "--top-p", "1.5"), "--top-p must be at most 1, not 1.5.")
        self.check(generate([{"prompt": "one"}], "--temperature", "nan"), "--temperature")
        self.check(generate([{"prompt": "one"}], "--max-new-tokens", "0"), "--max-new-tokens")
        self.check(generate([{"prompt": "one"}], "--limit", "many"), "--limit")

    def test_several_samples_that_could_not_differ(self, generate: Generate) -> None:
        ran = generate([{"prompt": "one"}], "--n", "5", "--temperature", "0")
        self.check(ran, "--n 5 at temperature 0 gives the same sample 5 times", "Leave --n out")

    def test_overwrite_and_resume_together(self, generate: Generate) -> None:
        self.check(generate([{"prompt": "one"}], "--overwrite", "--resume"), "opposite things")

    def test_a_plugin_that_does_not_import(self, generate: Generate) -> None:
        Path("plug.py").write_text("\nimport nothing_of_that_name\n")
        ran = generate([{"prompt": "one"}], "--plugin", "plug.py")
        self.check(ran, "plug.py:2: ModuleNotFoundError")

    def test_no_model_asked_for(self, cli: Callable[..., Any]) -> None:
        self.check(cli("generate", "manifest.jsonl"), "--model")


class TestOutput:
    def test_overwrite_replaces_it(self, generate: Generate) -> None:
        Path("manifest.outputs.jsonl").write_text("old")
        assert generate([{"prompt": "one"}], "--overwrite").code == 0
        assert outputs()[0]["generated_text"] == "one"

    def test_standard_output_is_data_only(self, generate: Generate) -> None:
        ran = generate([{"prompt": "one"}, {"prompt": "two"}], "-o", "-")
        assert [json.loads(line)["generated_text"] for line in ran.out.splitlines()] == ["one", "two"]
        assert "records ok" in ran.err

    def test_a_manifest_from_standard_input(
        self, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "one"}\n')))
        assert cli("generate", "-", *ECHO).code == 0
        assert outputs("stdin.outputs.jsonl")[0]["generated_text"] == "one"

    def test_limit_takes_the_first_records(self, generate: Generate) -> None:
        generate([{"prompt": str(n)} for n in range(9)], "--limit", "4")
        assert [line["generated_text"] for line in outputs()] == ["0", "1", "2", "3"]

    def test_the_summary_as_json(self, generate: Generate) -> None:
        generate([{"prompt": "one"}, {"prompt": "fail"}], "--summary-json", "summary.json")
        summary = json.loads(Path("summary.json").read_text())
        assert (summary["ok"], summary["failed"]) == (1, 1)
        assert summary["total_tokens"] == summary["prompt_tokens"] + summary["completion_tokens"]

    def test_the_summary_has_every_figure(self, generate: Generate) -> None:
        err = generate([{"prompt": "one"}, {"prompt": "fail"}]).err
        for figure in (
            "records ok", "records failed", "images", "prompt tokens", "completion tokens", "total tokens",
            "tokens per record", "tokens/s", "records/s", "wall time (s)", "GenerationError",
        ):  # fmt: skip
            assert figure in err, figure

    def test_quiet_prints_nothing(self, generate: Generate) -> None:
        ran = generate([{"prompt": "one"}], "--quiet")
        assert (ran.out, ran.err) == ("", "")


class TestWeightsNotHereYet:
    """Resuming compares what the weights are, so those still to be fetched are fetched before the output opens."""

    CONFIG = "models: [{name: far, model_class: unloadable, model_params: {path: some/where}}]"

    def test_they_are_fetched_before_the_output_is_made(self, generate: Generate) -> None:
        Path("my.yaml").write_text(self.CONFIG)
        assert generate([{"prompt": "one"}], "--config", "my.yaml", "--model", "far").code == 3
        assert not Path("manifest.outputs.jsonl").exists()

    def test_nothing_is_fetched_for_an_output_that_exists(self, generate: Generate) -> None:
        Path("my.yaml").write_text(self.CONFIG)
        Path("manifest.outputs.jsonl").write_text("precious")
        assert generate([{"prompt": "one"}], "--config", "my.yaml", "--model", "far").code == 2


class TestSettings:
    def test_a_line_wins_over_a_flag_that_over_the_config_that_over_the_defaults(
        self, generate: Generate
    ) -> None:
        Path("my.yaml").write_text(
            "models: [{name: mine, model_class: echo, "
            "generation: {max_new_tokens: 7, temperature: 0, top_k: 3}}]"
        )
        lines = [{"prompt": "one"}, {"prompt": "two", "max_new_tokens": 9}]
        generate(lines, "--config", "my.yaml", "--model", "mine", "--max-new-tokens", "8")
        first, second = (line["generation_config"] for line in outputs())
        assert first == {"max_new_tokens": 8, "temperature": 0, "top_k": 3}
        assert second["max_new_tokens"] == 9

    def test_without_any_the_documented_defaults_hold(self, generate: Generate) -> None:
        generate([{"prompt": "one"}])
        config = outputs()[0]["generation_config"]
        assert (config["max_new_tokens"], config["temperature"]) == (128, 1.0)

    def test_every_sampling_flag_reaches_the_model(self, generate: Generate) -> None:
        flags = (
            "--temperature 0.5 --top-p 0.9 --top-k 5 --min-p 0.1 --repetition-penalty 1.1 --stop a --stop b"
        )
        generate([{"prompt": "one"}], *flags.split())
        config = outputs()[0]["generation_config"]
        assert config.pop("seed") >= 0
        assert config == {
            "max_new_tokens": 128, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1,
            "repetition_penalty": 1.1, "stop": ["a", "b"],
        }  # fmt: skip

    def test_the_same_seed_gives_each_record_the_same_seed_again(self, generate: Generate) -> None:
        def seeds(seed: str) -> list[int]:
            generate([{"prompt": "one"}, {"prompt": "two"}], "--seed", seed, "--overwrite")
            return [line["generation_config"]["seed"] for line in outputs()]

        assert seeds("1") == seeds("1")
        assert seeds("1") != seeds("2")
        assert len(set(seeds("1"))) == 2

    def test_the_limits_reach_the_records(self, generate: Generate) -> None:
        record = {"prompt": "one", "images": ["https://example.org/a.jpg"]}
        assert generate([record], "--no-urls").code == 1
        Path("a.jpg").write_bytes(b"")
        Path("inside").mkdir()
        ran = generate([{"prompt": "one", "images": ["a.jpg"]}], "--image-root", "inside", "--overwrite")
        assert ran.code == 1


def test_the_documented_example_runs_as_a_plugin(
    cli: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    manifest, output = repository / "examples/shapes/manifest.jsonl", tmp_path / "out.jsonl"
    plugin = repository / "examples/custom_model.py"
    ran = cli("generate", manifest, "--model", "my-vlm", "--plugin", plugin, "-o", output)
    assert ran.code == 0, ran.err
    lines = outputs(str(output))
    assert len(lines) == len(manifest.read_text().splitlines())
    assert "I see 1 picture(s):" in lines[0]["generated_text"]


def test_text_that_looks_like_markup_is_printed_as_it_is(generate: Generate) -> None:
    ran = generate([{"prompt": "one"}], "--model", "[red]x[/red]")
    assert "[red]x[/red]" in ran.err


def test_a_traceback_is_shown_only_when_asked_for(
    generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Traceback" in generate([{"prompt": "one"}], "--model", "nope", "--traceback").err
    monkeypatch.setenv("PIXANO_VLM_TRACEBACK", "1")
    assert "Traceback" in generate([{"prompt": "one"}], "--model", "nope").err


def test_a_terminal_gets_a_drawn_table_and_a_bar(generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback=None: (100, 40))
    ran = generate([{"prompt": "one"}])
    assert ran.code == 0
    assert "records ok" in ran.err
    assert "1 of 1 done, 0 failed" in ran.err
