"""From whatever is raised to one message, the next step, and an exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer

from pixano_vlm import __version__, errors
from pixano_vlm.cli.errors import run_app


def raising(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def only() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ConfigError("wrong.", hint="Mend it."), 2, "error: wrong.\nhint: Mend it\n"),
        (errors.ModelLoadError("gone."), 3, "error: gone.\n"),
        (errors.RunError("full."), 3, "error: full.\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            FileNotFoundError(2, "No such file or directory", "a.txt"),
            3,
            "error: a.txt: No such file or directory.\n",
        ),
        (MemoryError(), 3, "--max-batch-size"),
        (ZeroDivisionError("oh"), 3, "this is a fault in pixano-vlm: ZeroDivisionError: oh\n"),
    ],
)
def test_what_is_raised_becomes_a_message_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(raising(error), []) == code
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("command", ["generate", "ask"])
def test_a_path_that_is_longer_than_a_screen_is_shortened(cli: Callable[..., Any], command: str) -> None:
    long = "p" * 5_000 + ".jpg"
    ran = cli(command, long, *([] if command == "generate" else ["What?"]), "--model", "shapes")
    assert ran.code != 0
    assert "(5,004 characters)" in ran.err
    assert max(map(len, ran.err.splitlines())) < 400


def test_the_code_of_an_exit_is_kept() -> None:
    assert run_app(raising(typer.Exit(1)), []) == 1
    assert run_app(raising(typer.Exit(0)), []) == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["genrate"], "no such command 'genrate'. Did you mean 'generate'?"),
        (["--verison"], "pixano-vlm has no flag --verison.\nhint: Did you mean --version?"),
        (["list", "--jsn"], "pixano-vlm list has no flag --jsn.\nhint: Did you mean --json?"),
        (
            ["list", "--zzz"],
            "pixano-vlm list has no flag --zzz.\nhint: `pixano-vlm list --help` shows them all",
        ),
        (["load"], "missing argument 'MODEL'."),
        (["load", "shapes", "--device"], "--device"),
        (["load", "shapes", "--dtype", "int3"], "--dtype"),
        (["load", "shapes", "extra"], "unexpected extra argument"),
        (["generate", "a.jsonl", "--model"], "--model"),
        (["generate", "a.jsonl"], "`pixano-vlm list` shows the models"),
    ],
)
def test_a_wrong_argument_is_one_message_and_exit_2(
    cli: Callable[..., Any], args: list[str], said: str
) -> None:
    ran = cli(*args)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("error:") == 1
    assert "Traceback" not in ran.err


def test_without_a_command_the_help_is_shown(cli: Callable[..., Any]) -> None:
    ran = cli()
    assert ran.code == 2
    assert "generate" in ran.out


def test_the_version_is_the_packages(cli: Callable[..., Any]) -> None:
    ran = cli("--version")
    assert (ran.code, ran.out) == (0, f"pixano-vlm {__version__}\n")


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "pixano_vlm", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(
        "pixano-vlm "
    )


def test_a_reader_that_leaves_is_not_a_failure_to_talk_about() -> None:
    """`pixano-vlm list | head -1` prints one line and nothing else."""
    command = [sys.executable, "-m", "pixano_vlm", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 3
