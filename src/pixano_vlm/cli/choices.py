"""The labels that `--choices` and `--choices-file` give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixano_vlm.errors import UsageError
from pixano_vlm.nearest import nearest_path
from pixano_vlm.prompts.choices import check_choices

__all__ = ["read_choices"]


def read_choices(given: Sequence[str] | None, file: Path | None) -> list[str] | None:
    """The labels; None where neither flag was given.

    Args:
        given: Values of `--choices`, each of labels between commas.
        file: That of `--choices-file`: a label a line, empty lines left out.

    Raises:
        UsageError: When both are given, the file cannot be read, or the labels cannot be chosen from.
    """
    if given and file is not None:
        raise UsageError("--choices and --choices-file both give labels.", hint="Use one of them.")
    if file is not None:
        source = f"--choices-file {file}"
        try:
            labels = [
                line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()
            ]
        except FileNotFoundError:
            raise UsageError(f"there is no file {file}.", hint=nearest_path(file)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}.") from error
    elif given:
        source = "--choices"
        labels = [label.strip() for value in given for label in value.split(",")]
    else:
        return None
    try:
        return check_choices(labels)
    except ValueError as error:
        raise UsageError(f"{source} {error}.", hint="Labels with commas go into a --choices-file.") from None
