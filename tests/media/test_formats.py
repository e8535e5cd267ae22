"""Which files are images, by their names and their bytes, and what is said of those that are passed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import FakeModel

from pixano_vlm import generate
from pixano_vlm.inputs.folder import FolderRows
from pixano_vlm.inputs.template import Template
from pixano_vlm.media import formats
from pixano_vlm.media.formats import extra_of, is_image_name, passed_over, readable_suffixes


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if none of the packages that read further formats were installed."""
    monkeypatch.setattr(formats, "_is_installed", lambda package: False)
    readable_suffixes.cache_clear()
    yield
    readable_suffixes.cache_clear()


def folder_of(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(folder / "a.jpg")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def counted(folder: Path, *, recursive: bool = False) -> dict[str, int]:
    return dict(FolderRows([str(folder)], Template("What?"), recursive=recursive).passed_over())


@pytest.mark.usefixtures("no_extras")
class TestPassedOver:
    def test_files_that_are_not_read_are_counted_by_suffix(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "f", "1.HEIC", "2.heic", "b.mp4", "README", "c.cr2", ".hidden.heic")
        assert counted(folder) == {".heic": 2, ".mp4": 1, "": 1, ".cr2": 1}

    def test_what_belongs_to_an_image_is_not_counted(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "f", "a.txt", "a.json", "a.mask.npz", "metadata.jsonl", "notes.txt")
        assert counted(folder) == {".txt": 1}

    def test_a_photo_beside_its_copy_is_counted(self, tmp_path: Path) -> None:
        assert counted(folder_of(tmp_path / "f", "a.heic")) == {".heic": 1}

    def test_folders_below_count_where_they_are_read(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "f", "below/b.heic", ".cache/c.heic")
        assert counted(folder) == {}
        assert counted(folder, recursive=True) == {".heic": 1}

    def test_of_a_glob_only_what_it_matches_counts(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "f", "a1.heic", "b1.heic", "a2.txt")
        rows = FolderRows([str(folder / "a*")], Template("What?"))
        assert dict(rows.passed_over()) == {".heic": 1, ".txt": 1}

    def test_the_line_says_what_would_read_them(self) -> None:
        line = passed_over({".txt": 3, ".heic": 1_200, ".jxl": 1, "": 2})
        assert line == (
            "1,206 files passed over: 1,200 .heic (pip install 'pixano-vlm[heic]'), 1 .jxl "
            "(pip install 'pixano-vlm[jxl]'), 3 .txt, 2 without a suffix"
        )
        assert passed_over({}) is None
        many = passed_over({f".{n}": 1 for n in range(50)})
        assert many is not None
        assert len(many) < 200

    def test_run_dry_run_and_summary_say_it(self, tmp_path: Path, cli: Callable[..., Any]) -> None:
        folder = folder_of(tmp_path / "f", "1.heic", "2.heic")
        words = "2 files passed over: 2 .heic (pip install 'pixano-vlm[heic]')"
        plugin = Path(__file__).parents[2] / "examples" / "custom_model.py"
        args = (folder, "--prompt", "What?", "--plugin", plugin, "--model", "my-vlm")
        figures = tmp_path / "summary.json"
        ran = cli("generate", *args, "-o", tmp_path / "out.jsonl", "--summary-json", figures)
        assert ran.code == 0, ran.err
        assert ran.err.count(words) == 2, "when it starts, and when it has ended"
        assert json.loads(figures.read_text())["passed_over"] == {".heic": 2}
        assert words in cli("generate", *args, "--dry-run").out

    def test_a_folder_with_nothing_else_says_what_to_install(
        self, tmp_path: Path, cli: Callable[..., Any]
    ) -> None:
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "1.heic").write_bytes(b"x")
        ran = cli("generate", tmp_path / "f", "--prompt", "q", "--model", "shapes")
        assert ran.code == 2
        assert "pip install 'pixano-vlm[heic]'" in ran.err


def test_photos_are_images_where_their_extra_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    folder = folder_of(tmp_path / "f")
    Image.new("RGB", (40, 30), (9, 90, 200)).save(folder / "b.HEIC", "HEIF")
    assert is_image_name("b.HEIC")
    assert extra_of(".heic") is None
    run = generate(folder, FakeModel(), prompt="What?")
    assert run.finish().ok == 2
    assert run.passed_over == {}
