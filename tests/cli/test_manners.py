"""What holds for every command: completion, help, colours, and models of one's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pixano_vlm import __version__
from pixano_vlm.cli import app

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group


class TestCompletion:
    """A shell asks by environment variables, and reads standard output."""

    @pytest.fixture
    def complete(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str], list[str]]:
        def ask(line: str) -> list[str]:
            monkeypatch.setenv("_PIXANO_VLM_COMPLETE", "complete_bash")
            monkeypatch.setenv("COMP_WORDS", line)
            monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
            ran = cli()
            assert (ran.code, ran.err) == (0, "")
            return ran.out.split()

        return ask

    def test_commands_and_flags_are_completed(self, complete: Callable[[str], list[str]]) -> None:
        assert complete("pixano-vlm ge") == ["generate"]
        assert complete("pixano-vlm generate --ada") == ["--adapter"]

    @pytest.mark.parametrize("start", ["pixano-vlm load ", "pixano-vlm generate a.jsonl --model "])
    def test_registered_models_are_completed(self, start: str, complete: Callable[[str], list[str]]) -> None:
        found = complete(f"{start}qwen3-vl")
        assert "qwen3-vl-4b-instruct" in found
        assert all(name.startswith("qwen3-vl") for name in found)

    def test_those_of_a_config_file_on_the_line_too(
        self, complete: Callable[[str], list[str]], tmp_path: Path
    ) -> None:
        file = tmp_path / "my.yaml"
        file.write_text("models: [{name: my-own}]")
        assert complete(f"pixano-vlm generate a.jsonl --config {file} --model my") == ["my-own"]

    def test_a_wrong_config_file_does_not_disturb(
        self, complete: Callable[[str], list[str]], tmp_path: Path
    ) -> None:
        line = f"pixano-vlm generate a.jsonl --config {tmp_path / 'none.yaml'} --model shape"
        assert complete(line) == ["shapes"]

    def test_zsh_and_fish_see_what_each_model_is(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "pixano-vlm load paddle")
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        for shell in ("zsh", "fish"):
            monkeypatch.setenv("_PIXANO_VLM_COMPLETE", f"complete_{shell}")
            assert re.search(r"paddleocr-vl.*tables", cli().out), shell

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_for_a_shell_is_printed_and_ends_with_0(
        self, shell: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Which shell this is asked from would be looked up among the processes.
        monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
        ran = cli("--show-completion", shell)
        assert ran.code == 0
        assert "_PIXANO_VLM_COMPLETE" in ran.out

    def test_it_is_installed_in_the_users_home(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
        assert cli("--install-completion", "bash").code == 0
        assert "pixano-vlm" in (tmp_path / ".bashrc").read_text()


class TestHelp:
    def test_the_version_is_one_line(self, cli: Callable[..., Any]) -> None:
        assert cli("--version").out == f"pixano-vlm {__version__}\n"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_it_ends_with_two_or_three_examples_that_fit_a_terminal(
        self, name: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        shown = cli(name, "--help").out.rstrip()
        _, _, end = shown.partition("Examples:")
        examples = [line.strip() for line in end.splitlines() if line.strip()]
        assert 2 <= len(examples) <= 3
        assert all(
            line.startswith(f"pixano-vlm {name} ") or line == f"pixano-vlm {name}" for line in examples
        )

    @pytest.mark.parametrize("name", COMMANDS)
    def test_it_is_not_wider_than_its_reader(
        self, name: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("COLUMNS")
        assert max(map(len, cli(name, "--help").out.splitlines())) <= 80, "not a terminal: 80 columns"
        monkeypatch.setenv("COLUMNS", "100")
        assert 80 < max(map(len, cli(name, "--help").out.splitlines())) <= 100

    def test_help_and_version_go_to_standard_output(self, cli: Callable[..., Any]) -> None:
        assert cli("--help").err == cli("--version").err == ""


class TestColour:
    COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]")

    def test_an_error_has_none_off_a_terminal(self, cli: Callable[..., Any]) -> None:
        assert "\x1b" not in cli("load", "nope").err

    def test_no_color_takes_them_away(self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert self.COLOUR.search(cli("load", "nope").err)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not self.COLOUR.search(cli("load", "nope").err)


class TestModelsOfOnesOwn:
    """The example of docs/reference/config-files.md, in each of the places that it names."""

    @pytest.fixture
    def example(self, repository: Path, tmp_path: Path) -> Path:
        text = (repository / "docs" / "reference" / "config-files.md").read_text(encoding="utf-8")
        found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
        assert found is not None
        file = tmp_path / "config" / "pixano-vlm" / "my-models.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(found[1], encoding="utf-8")
        return file

    def test_it_is_found_in_each(
        self, example: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def listed(*flags: str | Path) -> dict[str, Any]:
            ran = cli("list", "my-captioner", "--json", *flags)
            return {model["name"]: model for model in json.loads(ran.out)} if ran.code == 0 else {}

        assert listed() == {}
        found = [listed("--config", example), listed("--config", example.parent)]
        monkeypatch.setenv("PIXANO_VLM_CONFIG", str(example))
        found.append(listed())
        monkeypatch.delenv("PIXANO_VLM_CONFIG")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(example.parents[1]))
        found.append(listed())
        for models in found:
            assert set(models) == {"my-captioner", "my-captioner-birds"}
            assert models["my-captioner"]["path"] == str(example.parent / "checkpoints" / "captioner")


class TestPlainHelp:
    """People write names, not Python's types."""

    @pytest.mark.parametrize("name", ["", *COMMANDS])
    def test_no_type_is_shown(self, name: str, cli: Callable[..., Any]) -> None:
        shown = cli(*([name] if name else []), "--help").out
        assert not re.search(r"<(bool|list|str|int|Path)", shown)
        assert "[[" not in shown

    @pytest.mark.parametrize(
        ("name", "usage"),
        [
            ("generate", "[OPTIONS] MANIFEST..."),
            ("list", "[OPTIONS] [WORD]..."),
            ("ask", "IMAGE... QUESTION..."),
        ],
    )
    def test_the_usage_is_as_it_is_typed(self, name: str, usage: str, cli: Callable[..., Any]) -> None:
        line = next(line for line in cli(name, "--help").out.splitlines() if "Usage:" in line)
        assert line.rstrip().endswith(usage)

    def test_no_example_needs_a_gated_model(self) -> None:
        from pixano_vlm.catalog import load_catalog

        catalog = load_catalog()
        for command in COMMANDS.values():
            for name in re.findall(r"(?:--model|-m) (\S+)", command.epilog or ""):
                model = catalog.get(name)
                assert model is not None, name
                assert not model.gated, name


class TestMoreCompletion:
    def ask(self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, shell: str, line: str) -> str:
        monkeypatch.setenv("_PIXANO_VLM_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        return str(cli().out)

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_devices_and_outputs_are_completed(
        self, shell: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("answers.jsonl", "answers.txt", ".hidden.jsonl"):
            Path(name).touch()
        Path("archive").mkdir()
        devices = self.ask(cli, monkeypatch, shell, "pixano-vlm load shapes --device c")
        assert "cpu" in devices
        assert "cuda" in devices
        assert "mps" not in devices
        outputs = self.ask(cli, monkeypatch, shell, "pixano-vlm generate a.jsonl -o a")
        assert "answers.jsonl" in outputs
        assert "archive/" in outputs
        assert "answers.txt" not in outputs


class TestMessages:
    ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parent / "plugin.py"))

    def test_a_misspelt_folder_or_file_is_suggested(
        self, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("photos").mkdir()
        for name in ("my.yaml", "mine.py", "schema.json", "prompt.txt", "photos/a.jpg"):
            Path(name).touch()
        run = ("generate", "photos", *self.ECHO, "--prompt", "x")
        for args, meant in (
            (("generate", "fotos", *self.ECHO, "--prompt", "x"), "photos"),
            ((*run, "--config", "mi.yaml"), "my.yaml"),
            ((*run, "--plugin", "min.py"), "mine.py"),
            ((*run, "--json-schema", "shema.json"), "schema.json"),
            (("generate", "photos", *self.ECHO, "--prompt-file", "promt.txt"), "prompt.txt"),
        ):
            ran = cli(*args)
            assert ran.code == 2
            assert f"hint: Did you mean {meant}?" in ran.err, ran.err

    def test_a_hub_id_that_is_registered_with_other_defaults_says_so(
        self, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("m.jsonl").write_text('{"prompt": "x"}\n')
        name = "HuggingFaceTB/SmolVLM-256M-Instruct"
        said = f"note: {name} is also the registered model smolvlm-256m-instruct, whose defaults are: "
        assert said in cli("generate", "m.jsonl", "--model", name).err
        registered = cli("generate", "m.jsonl", "--model", "smolvlm-256m-instruct").err
        assert "is also the registered model" not in registered

    def test_a_reader_of_a_run_that_leaves_is_not_an_error(self, tmp_path: Path) -> None:
        lines = "".join(json.dumps({"prompt": f"wait {n}"}) + "\n" for n in range(50))
        (tmp_path / "m.jsonl").write_text(lines)
        command = [
            sys.executable,
            "-m",
            "pixano_vlm",
            "generate",
            "m.jsonl",
            *self.ECHO,
            "-o",
            "-",
            "--quiet",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith('{"id": "1"')
            process.stdout.close()
            assert process.stderr.read() == ""


class TestAFailedStart:
    """Nothing is left behind: no empty output, no journal, no run file."""

    @pytest.mark.parametrize(
        "args",
        [
            ("--model", "unloadable"),
            ("--model", "broken"),
            ("--json-schema", '{"type": "nothing"}'),
            ("--json-schema", "none.json"),
            ("--top-p", "7"),
            ("--model", "nobody"),
            ("-o", "out.parquet"),
            ("--ray",),
        ],
    )
    def test_the_folder_is_as_it_was(
        self, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("m.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
        # A package that is missing: nothing can be imported under its name.
        for package in ("pyarrow", "ray"):
            for name in [name for name in sys.modules if name.split(".")[0] == package]:
                monkeypatch.delitem(sys.modules, name)
            monkeypatch.setitem(sys.modules, package, None)
        ran = cli("generate", "m.jsonl", *TestMessages.ECHO, *args)
        assert ran.code in {2, 3}, ran.err
        assert ran.err.count("error:") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]
