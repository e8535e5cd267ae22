"""The command line: parse, call, print. One file a command; no work is done here.

Importing it imports neither torch nor transformers, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pixano_vlm import __version__
from pixano_vlm.cli.ask import ask
from pixano_vlm.cli.check import check
from pixano_vlm.cli.errors import run_app
from pixano_vlm.cli.generate import generate
from pixano_vlm.cli.help import PlainCommand, PlainGroup, epilog, help_text
from pixano_vlm.cli.list import list_models
from pixano_vlm.cli.load import load
from pixano_vlm.cli.ray import CommandWithRay
from pixano_vlm.cli.report import report
from pixano_vlm.cli.score import score

__all__ = ["app", "main"]

app = typer.Typer(
    name="pixano-vlm",
    cls=PlainGroup,
    epilog="Start here: pixano-vlm list, then pixano-vlm generate MANIFEST --model NAME.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command(
    "list",
    cls=PlainCommand,
    help=help_text(list_models),
    epilog=epilog(
        "pixano-vlm list", "pixano-vlm list qwen3-vl", "pixano-vlm list --config my-models.yaml --json"
    ),
)(list_models)
app.command(
    "load",
    cls=PlainCommand,
    help=help_text(load),
    epilog=epilog(
        "pixano-vlm load shapes --verify",
        "pixano-vlm load HuggingFaceTB/SmolVLM-256M-Instruct --device cpu",
        "pixano-vlm load qwen3-vl-4b-instruct --adapter ./my-lora",
    ),
)(load)
app.command(
    "generate",
    cls=CommandWithRay,
    help=help_text(generate),
    epilog=epilog(
        "pixano-vlm generate examples/shapes/manifest.jsonl --model shapes",
        'pixano-vlm generate photos -m smolvlm-256m-instruct --prompt "Describe this."',
        "pixano-vlm generate photos.jsonl -m smolvlm-256m-instruct --resume",
    ),
)(generate)
app.command(
    "ask",
    cls=PlainCommand,
    help=help_text(ask),
    epilog=epilog(
        'pixano-vlm ask examples/shapes/images/001.jpg "What is this?" -m shapes',
        'pixano-vlm ask a.jpg b.jpg "What differs?" -m smolvlm-256m-instruct',
        'pixano-vlm ask a.jpg "What?" "Why?" -m smolvlm-256m-instruct --json',
    ),
)(ask)
app.command(
    "report",
    cls=PlainCommand,
    help=help_text(report),
    epilog=epilog(
        "pixano-vlm report answers.jsonl",
        "pixano-vlm report before.jsonl after.jsonl -o changes.html",
    ),
)(report)
app.command(
    "score",
    cls=PlainCommand,
    help=help_text(score),
    epilog=epilog(
        "pixano-vlm score answers.jsonl --truth label",
        "pixano-vlm score answers.jsonl --truth truth.csv --accept 0.99",
        "pixano-vlm score before.jsonl after.jsonl --truth label --by kind",
    ),
)(score)
app.command(
    "check",
    cls=PlainCommand,
    help=help_text(check),
    epilog=epilog(
        "pixano-vlm check answers.jsonl",
        "pixano-vlm check answers.jsonl --reask 1%",
        "pixano-vlm check answers.jsonl --repair",
    ),
)(check)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"pixano-vlm {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Print the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Batch vision-language generation: a manifest of prompts and images in, one answer per line out."""
    if context.invoked_subcommand is None:
        context.get_help()  # prints it
        raise typer.Exit(2)


def main(args: Sequence[str] | None = None) -> None:
    """The `pixano-vlm` command. Ends the process with the command's exit code.

    0: every record is ok. 1: some failed. 2: wrong use or configuration. 3: the model could not be loaded, or
    the run could not continue. 130: interrupted.

    Args:
        args: The arguments after the command's name; by default the process's own.
    """
    code = run_app(app, sys.argv[1:] if args is None else args)
    # Or else Python would search all that torch and transformers hold for cycles once more before it ends.
    gc.freeze()
    sys.exit(code)
