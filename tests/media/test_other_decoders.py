"""What is shown of an image file is what other decoders show: ImageMagick, libheif's and libjxl's own programs.

apt-get install imagemagick libheif-examples libjxl-tools && make test-images
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.media.files import Array
from tests.media.gallery import CASES, Case

from pixano_vlm.media.pixels import decode_page
from pixano_vlm.models.limits import Limits

pytestmark = pytest.mark.images
COMPARED = [case for case in CASES if case.pixels is not None and case.magick]

NEAR = 2
"""Most difference of a sample, of 255."""
_FLATTEN = ("-auto-orient", "-strip", "-background", "white", "-flatten", "-colorspace", "sRGB", "-type", "TrueColor",
            "-depth", "8")  # fmt: skip


def theirs(file: Path) -> Array:
    """The first page of a file as its other decoder shows it, on white."""
    shown = file.with_suffix(".shown.png")
    if file.suffix == ".jxl":
        command = ["djxl", str(file), str(shown)]
    elif file.suffix == ".heic":
        command = ["heif-convert", str(file), str(shown)]
    else:
        command = ["convert", f"{file}[0]", *_FLATTEN, f"png24:{shown}"]
    subprocess.run(command, check=True, capture_output=True)
    if not shown.exists():  # of several images, heif-convert numbers them
        shown = shown.with_name(f"{shown.stem}-1.png")
    with Image.open(shown) as opened:
        if opened.mode.startswith("I"):
            return np.repeat((np.asarray(opened) // 257)[..., None], 3, axis=-1).astype(int)
        white = Image.new("RGBA", opened.size, "white")
        white.alpha_composite(opened.convert("RGBA"))
        return np.asarray(white.convert("RGB")).astype(int)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.name)
def test_another_decoder_shows_the_same(case: Case, tmp_path: Path) -> None:
    file = tmp_path / case.name
    file.write_bytes(case.data)
    ours = np.asarray(decode_page(case.data, Limits(), case.name).image).astype(int)
    assert np.abs(ours - theirs(file)).max() <= NEAR


def test_enough_are_compared() -> None:
    assert len(COMPARED) >= 80
