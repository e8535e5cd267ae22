"""`pixano-vlm ask`: a question about an image, answered on standard output. A run without files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixano_vlm.catalog import create_model, load_catalog, weights_on_disk
from pixano_vlm.cli import flags
from pixano_vlm.cli.generate import read_settings
from pixano_vlm.cli.options import (
    Adapter,
    Config,
    Device,
    Dtype,
    Plugin,
    Traceback,
    Verbose,
    choose_model,
    complete_model,
    given_text,
)  # fmt: skip
from pixano_vlm.cli.server import ApiKeyEnv, BaseUrl, ServerModel, choose_server
from pixano_vlm.cli.setting_flags import with_setting_flags
from pixano_vlm.cli.verbosity import hide_bars, set_verbosity
from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.globs import is_glob
from pixano_vlm.media.formats import is_image_name
from pixano_vlm.media.sources import is_url, shortened
from pixano_vlm.media.stores import is_store_url
from pixano_vlm.nearest import nearest_path

if TYPE_CHECKING:
    from pixano_vlm.records.result import Result

__all__ = ["ask"]

USE = 'Write: pixano-vlm ask IMAGE... "QUESTION"'


@with_setting_flags
def ask(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... QUESTION...",
            help="Images, then what to ask about them; several questions are several answers. "
            "- reads a question from standard input.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="As in `generate`. Default: the registered model that is on this machine, where there is just one.",
            autocompletion=complete_model,
        ),
    ] = None,
    each: Annotated[
        bool,
        typer.Option(
            "--each", metavar="", help="Ask about each image by itself, not about all of them together."
        ),
    ] = False,
    system: flags.System = None,
    config: Config = None,
    plugin: Plugin = None,
    device: Device = None,
    dtype: Dtype = None,
    adapter: Adapter = None,
    base_url: BaseUrl = None,
    server_model: ServerModel = None,
    api_key_env: ApiKeyEnv = None,
    choices_file: flags.ChoicesFile = None,
    json_schema: flags.JsonSchema = None,
    concise_schema: flags.ConciseSchema = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", metavar="", help="Print each answer as a line of JSON, as `generate` writes them."
        ),
    ] = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
    **settings: Any,
) -> None:
    """Ask about an image, and print the answer.

    Nothing else goes to standard output, and no file is written. Exits with 0 when all questions are answered, 1 when
    some are not, 2 on wrong use, 3 when the model could not be loaded.
    """
    from pixano_vlm.cli.progress import Progress

    set_verbosity(verbose=verbose)
    with Progress() as progress:
        images, questions = _told_apart(what)
        if model is None and base_url is server_model is api_key_env is None:
            model = _only_model(config or [])
        progress.phase("starting")
        served = choose_server(base_url, server_model, api_key_env, model, None)
        chosen = choose_model(
            model, config, plugin, served=served, device=device, dtype=dtype, adapter=adapter
        )
        from pixano_vlm.cli.run import Watched
        from pixano_vlm.inputs.objects import open_objects
        from pixano_vlm.inputs.open import Source
        from pixano_vlm.runs.options import RunOptions
        from pixano_vlm.runs.run import Run

        records = _records(images, questions, each=each)
        asked = read_settings(settings, chosen, json_schema, concise_schema, choices_file)
        hide_bars(chosen)
        options = RunOptions(
            source=Source(None, None, "ask", open_objects(records), "question"),
            model=create_model(chosen),
            settings=asked,
            system=given_text("--system", system),
            with_prompt=as_json,
        )
        running = Run(options, Watched(progress))
        results: list[Result] = []
        running.finish(results.append)
    results.sort(key=lambda result: result.request.index)
    for result in results:
        _print(result, chosen.name, as_json=as_json)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _told_apart(what: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images, which come first, and the questions behind them."""
    count = next((place for place, text in enumerate(what) if not _is_image(text)), len(what))
    images, questions = list(what[:count]), list(what[count:])
    for text in questions:
        if _is_image(text):
            raise UsageError(f"{shortened(text)} is an image behind a question.", hint=USE)
    for image in images:
        if is_url(image) and not is_store_url(image):
            continue  # it may be longer than any path, and hold a "?"
        path = Path(image)
        if path.is_dir():
            raise UsageError(
                f"{image} is a folder.",
                hint=f'Name images, or run: pixano-vlm generate {image} --prompt "..." --model NAME',
            )
        if is_glob(image):
            raise UsageError(f"no file matches {image}.", hint=USE)
        if not is_url(image) and not path.is_file():
            raise UsageError(f"there is no image {image}.", hint=nearest_path(image) or USE)
    if not images:
        raise UsageError("there is no image to ask about.", hint=nearest_path(what[0]) or USE)
    if not questions:
        raise UsageError("there is no question.", hint=USE)
    return images, [_question(text) for text in questions]


def _is_image(text: str) -> bool:
    return is_url(text) or is_image_name(Path(text).name) or (text != "-" and _exists(text))


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # longer than a path may be: a question
        return False


def _question(text: str) -> str:
    if text == "-":
        if sys.stdin.isatty():
            sys.stderr.write("reading the question from the terminal; Ctrl-D ends it.\n")
        text = sys.stdin.read()
    if not text.strip():
        raise UsageError("the question is empty.", hint=USE)
    return text.strip()


def _records(images: Sequence[str], questions: Sequence[str], *, each: bool) -> list[Mapping[str, Any]]:
    groups = [[image] for image in images] if each else [list(images)]
    return [{"prompt": question, "images": group} for group in groups for question in questions]


def _only_model(config: Sequence[Path]) -> str:
    """The registered model whose weights are here.

    Raises:
        UsageError: When there is none, or more than one.
    """
    here = [model.name for model in load_catalog(config) if weights_on_disk(model)]
    if len(here) != 1:
        raise UsageError(
            "--model says which model to ask.",
            hint=f"On this machine are: {', '.join(here)}. `pixano-vlm list` shows all."
            if here
            else "`pixano-vlm list` shows the models.",
        )
    sys.stderr.write(f"model: {here[0]}, the only one on this machine; --model NAME asks another.\n")
    return here[0]


def _print(result: Result, model: str, *, as_json: bool) -> None:
    if as_json:
        from pixano_vlm.records.output_line import render

        sys.stdout.write(render(result, model)[0].decode())
    elif result.output is not None:
        sys.stdout.write(f"{result.output.generated_text.strip()}\n")
    if result.error is not None:
        from pixano_vlm.cli.errors import print_error

        print_error(result.error.message, result.error.hint)
