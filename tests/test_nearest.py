"""Names, files and folders that were misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixano_vlm.nearest import did_you_mean, nearest, nearest_path


def test_letter_case_is_ignored() -> None:
    assert nearest("MY-VLM", ["other", "my-vlm"], 1) == ["my-vlm"]
    assert nearest("xyz", ["my-vlm"]) == []


def test_a_name_like_no_other_has_no_suggestion() -> None:
    assert did_you_mean("zzz", ["shapes"]) is None
    assert did_you_mean("shaeps", ["shapes"]) == "Did you mean 'shapes'?"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("fotos", "photos"),
        ("photos/cta.jpg", "photos/cat.jpg"),
        ("fotos/cat.jpg", "photos/cat.jpg"),
        ("photos/cat.jpeg", "photos/cat.jpg"),
        ("Photos/cat.jpg", "photos/cat.jpg"),
        ("fotos/dog.jpg", None),
        ("quite/another.jpg", None),
        ("", None),
        (".", None),
    ],
)
def test_a_path_is_looked_for_from_where_it_stops_to_exist(
    written: str, meant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("photos/cat.jpg").touch()
    assert nearest_path(written) == (None if meant is None else f"Did you mean {meant}?")
    whole = None if meant is None else f"Did you mean {tmp_path / meant}?"
    assert not written or written == "." or nearest_path(tmp_path / written) == whole
