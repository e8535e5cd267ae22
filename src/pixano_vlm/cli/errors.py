"""The one place where exceptions become a message, the next step and an exit code.

    what was raised                        what is printed                    exit code
    PixanoVLMError                         its message and hint               its own: 2 or 3
    a wrong argument (from Typer)          what is wrong, the nearest flag    2
    KeyboardInterrupt                      nothing                            130
    the reader of standard output is gone  nothing                            3
    OSError, MemoryError                   what the system said               3
    anything else                          "this is a fault in pixano-vlm"    3

A traceback is shown only with `--traceback`, or with PIXANO_VLM_TRACEBACK=1.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from pixano_vlm.errors import PixanoVLMError
from pixano_vlm.nearest import nearest

__all__ = ["EXIT_INTERRUPTED", "EXIT_RUN", "EXIT_USAGE", "one_sentence", "print_error", "run_app"]

_SENTENCES = re.compile(r"[.?;:] [A-Z`-]|\.\.\.$")
"""Where a second sentence begins, or one that is left open ends."""

EXIT_USAGE = 2
EXIT_RUN = 3
EXIT_INTERRUPTED = 130


def run_app(app: typer.Typer, args: Sequence[str]) -> int:
    """Runs `app` on `args` and returns the exit code; whatever is raised is printed here."""
    try:
        # Not standalone: Typer then raises its errors to us, and returns the code of a typer.Exit.
        # `obj` is what a command finds in its context: the arguments, to say them again.
        code = app(args=list(args), prog_name="pixano-vlm", standalone_mode=False, obj=list(args))
        sys.stdout.flush()
    # The edge of the program: nothing may pass it as a traceback that nobody asked for.
    except BaseException as error:
        return _report(error, args)
    return code if isinstance(code, int) else 0


def _report(error: BaseException, args: Sequence[str]) -> int:
    if "--traceback" in args or os.environ.get("PIXANO_VLM_TRACEBACK", "0") not in {"", "0"}:
        traceback.print_exception(error)
    if isinstance(error, SystemExit) and not error.code:
        return 0  # Typer ends so when it has printed or installed a shell's completion
    # Typer itself turns a broken pipe into SystemExit; nothing else here raises that.
    if isinstance(error, BrokenPipeError | SystemExit) or isinstance(error.__cause__, BrokenPipeError):
        # Whoever read us (head, less) has left; Python's own flush at exit would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_RUN
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    message, hint, code = _explain(error, args)
    print_error(message, hint)
    return code


def _explain(error: BaseException, args: Sequence[str]) -> tuple[str, str | None, int]:
    if isinstance(error, PixanoVLMError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, typer.TyperException):
        return *_explain_argument(error), EXIT_USAGE
    if isinstance(error, OSError):
        from pixano_vlm.media.sources import shortened  # a list and a help need nothing of images

        # A path that is too long for the system is too long for the terminal as well.
        where = f"{shortened(str(error.filename))}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}.", None, EXIT_RUN
    if isinstance(error, MemoryError):
        return "the machine's memory is full.", "A smaller --max-batch-size takes less.", EXIT_RUN
    again = "" if "--traceback" in args else "Run it again with --traceback and report what it shows."
    return f"this is a fault in pixano-vlm: {type(error).__name__}: {error}", again or None, EXIT_RUN


def _explain_argument(error: typer.TyperException) -> tuple[str, str]:
    """A wrong argument, told in one line, with the nearest flag where there is one."""
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "pixano-vlm"
    see = f"`{command} --help` shows them all."
    flag = getattr(error, "option_name", None)
    if flag is None or context is None:
        text = error.format_message().strip()
        if "--model" in text:
            see = "`pixano-vlm list` shows the models; `--model shapes` is one that needs no download."
        return f"{text[:1].lower()}{text[1:]}", see
    known = [option for parameter in context.command.params for option in parameter.opts if option[:1] == "-"]
    if flag in known:  # the flag is right, its use is not
        return f"{flag}: {error.message}", see
    close = nearest(flag, known, 1)
    return f"{command} has no flag {flag}.", f"Did you mean {close[0]}? {see}" if close else see


def print_error(message: str, hint: str | None = None) -> None:
    """Writes `error: message` and, on a line of its own, `hint: ...` to standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("error: ", style="bold red"), Text(message), sep="")
    if hint:
        console.print(Text("hint: ", style="bold"), Text(one_sentence(hint)), sep="")


def one_sentence(text: str) -> str:
    """A hint as it is shown: a single sentence has no full stop at its end."""
    return text[:-1] if text.endswith(".") and not _SENTENCES.search(text) else text
