"""`<output>.run.json`: what was run, with which versions, on what, and what came of it. Holds no secrets."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pixano_vlm.errors import OutputError
from pixano_vlm.records.output_line import VERSION

__all__ = ["RunFile", "read_run_file", "redact", "redacted", "run_file_path"]

PACKAGES = ("pixano-vlm", "transformers", "torch", "tokenizers", "pillow", "numpy")
HIDDEN = "[hidden]"

_SECRET = re.compile(
    r"(?i)(?:^|[-_.])(?:token|api[-_]?key|key|secret|password|passwd|credentials?|auth)(?:$|[-_.=])"
)
_NOT_SECRET = re.compile(r"(?i)tokens|(?:image|video|eos|bos|pad|unk|sep|mask)_token")
_SECRET_VALUE = re.compile(r"\b(?:hf_|sk-|ghp_|gho_|github_pat_|xox[bap]-|AKIA)[A-Za-z0-9_\-]{8,}")
_USERINFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.\-]*://)[^/\s@]+@")


def run_file_path(output: Path) -> Path:
    """The run file of an output: `<output>.run.json`."""
    return output.with_name(output.name + ".run.json")


def read_run_file(output: Path) -> dict[str, Any] | None:
    """What the run file of an output says; None where there is none.

    Raises:
        OutputError: When it cannot be read, or is not a run file.
    """
    path = run_file_path(output)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path} cannot be read: {error}.") from error
    earlier = values.get("earlier") or [] if isinstance(values, dict) else None
    if not isinstance(earlier, list) or not all(isinstance(run, dict) for run in earlier):
        raise OutputError(f"{path} is not a run file.")
    return values  # type: ignore[no-any-return]  # a dict, or it had no earlier runs


def redacted(command: Sequence[str]) -> list[str]:
    """A command line with the values of flags that look like secrets, and values that do, hidden."""
    shown: list[str] = []
    hide_next = False
    for word in command:
        name, equals, _ = word.partition("=")
        if hide_next and not word.startswith("--"):
            shown.append(HIDDEN)
            hide_next = False
        elif _is_secret(name) and name.startswith("-"):
            shown.append(f"{name}={HIDDEN}" if equals else word)
            hide_next = not equals
        else:
            shown.append(_redact_text(word))
            hide_next = False
    return shown


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _NOT_SECRET.search(name)


def _redact_text(text: str) -> str:
    return _USERINFO.sub(rf"\g<1>{HIDDEN}@", _SECRET_VALUE.sub(HIDDEN, text))


def redact(value: Any) -> Any:
    """JSON values with those hidden that look like secrets, or that a key calls one."""
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if _is_secret(str(key)) and isinstance(inner, str) else redact(inner)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(inner) for inner in value]
    if isinstance(value, str):
        return _redact_text(value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package == "pixano-vlm":  # run from its source folder
                from pixano_vlm import __version__

                found[package] = __version__
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch.version, "cuda", None):
        found["cuda"] = str(torch.version.cuda)
    return found


class RunFile:
    """The run file of one output. Written when the run starts and again when it ends, each time in one step.

    Earlier runs on the same output, which a resumed run continues, stay in it under `earlier`.

    Args:
        output: The output; the file is `<output>.run.json`.
        command: The command line as it was given.
        model: Name, class, path, revision, fingerprint and the like.
        settings: Effective settings of the run.
        manifest: The manifest as it was named.
        inputs: What it read and how, from which it can be opened again.
        resumed: Keep what the file says of earlier runs.
    """

    KEPT = 100
    """Earlier runs that are kept."""

    def __init__(
        self, output: Path, *, command: Sequence[str], model: Mapping[str, Any], settings: Mapping[str, Any],
        manifest: str, inputs: Mapping[str, Any] | None = None, resumed: bool = False,
    ) -> None:  # fmt: skip
        self.path = run_file_path(output)
        self._facts: dict[str, Any] = {
            "command": redacted(command),
            "manifest": manifest,
            "output": output.name,
            "model": redact(model),
            "settings": redact(settings),
            "inputs": inputs,
            "output_line": VERSION,
            "versions": _versions(),
            "start": _now(),
            "end": None,
            "ended": None,
            "summary": None,
        }
        self._earlier = self._read_earlier() if resumed else []

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Adds what is known once the model is loaded: device, dtype and the like."""
        self._facts["model"] = {**self._facts["model"], **redact(facts)}
        self._facts["versions"] = _versions()

    def write(self) -> None:
        """Writes the file as things stand.

        Raises:
            OutputError: When it cannot be written.
        """
        text = json.dumps({**self._facts, "earlier": self._earlier}, indent=2, ensure_ascii=False) + "\n"
        temporary = self.path.with_name(self.path.name + ".new")
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    def note_exports(self, states: Mapping[str, Any]) -> None:
        """Adds by what the files are recognised that were made of the output, and writes the file."""
        self._facts["exports"] = states
        self.write()

    def end(self, summary: Mapping[str, Any] | None, how: str) -> None:
        """Writes how the run ended: `complete`, `interrupted` or `failed`, with its counts."""
        self._facts.update(end=_now(), ended=how, summary=summary)
        self.write()

    def _read_earlier(self) -> list[Any]:
        try:
            before = json.loads(self.path.read_text(encoding="utf-8"))
            earlier = before.pop("earlier", [])
            runs = earlier if isinstance(earlier, list) else []
            return [*(run for run in runs if isinstance(run, dict)), before][-self.KEPT :]
        except (OSError, ValueError, RecursionError, AttributeError):
            return []


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
