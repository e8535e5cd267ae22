"""More than a hundred image files: each shows the pixels that it means, or is flagged, or refused in plain words."""

from __future__ import annotations

import numpy as np
import pytest
from tests.media.gallery import Case, cases

from pixano_vlm.errors import ImageError
from pixano_vlm.media.pixels import decode_page
from pixano_vlm.models.limits import Limits

CASES = cases()
GOOD = [case for case in CASES if case.pixels is not None]
BAD = [case for case in CASES if case.pixels is None]


def test_there_are_enough() -> None:
    assert len(GOOD) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow's, of metadata: the module ignores it, pytest takes it back
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_file_shows_the_pixels_that_it_means(case: Case) -> None:
    decoded = decode_page(case.data, Limits(), case.name)
    shown = np.asarray(decoded.image).astype(int)
    assert case.pixels is not None
    assert shown.shape == case.pixels.shape
    assert np.abs(shown - case.pixels).max() <= max(case.loss, 1)
    assert (decoded.pages, decoded.is_guessed) == (case.pages, case.guessed)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_file_that_cannot_be_read_is_refused_in_plain_words(case: Case) -> None:
    with pytest.raises(ImageError, match=case.told) as caught:
        decode_page(case.data, Limits(), case.name)
    assert str(caught.value).startswith(case.name)
    assert caught.value.hint
