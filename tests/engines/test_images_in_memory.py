"""Every engine takes images that are in memory as it takes their files, and the page of a file that is named."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.media.gallery import CASES_BY_NAME, RGB, saved

from pixano_vlm import Limits, VLMInput, VLMModel, load_model
from pixano_vlm.engines.openai.request import RequestWriter
from pixano_vlm.engines.pixano.adopted import _to_theirs
from pixano_vlm.engines.vllm.request import _Pictures
from pixano_vlm.errors import ImageError
from pixano_vlm.media.images import load_image

pytestmark = pytest.mark.filterwarnings(
    "ignore:Cannot disable progress bars"
)  # another test has said so before


def asked(image: Any, **settings: Any) -> VLMInput:
    return VLMInput(prompt="What is this?", images=[image], max_new_tokens=8, **settings)


@pytest.fixture(scope="module")
def shapes() -> Iterator[VLMModel]:
    model = load_model("shapes", device="cpu")
    yield model
    model.unload()


@pytest.fixture
def photo(repository: Path) -> Path:
    return repository / "examples" / "shapes" / "images" / "002.jpg"


def forms(path: Path) -> list[Any]:
    data = path.read_bytes()
    with Image.open(path) as opened:
        opened.load()
        return [path, str(path), data, opened.copy(), base64.b64encode(data).decode()]


def test_the_transformers_engine_answers_alike(shapes: VLMModel, photo: Path) -> None:
    inputs = [(number, asked(form, temperature=0)) for number, form in enumerate(forms(photo))]
    answers = dict(shapes.stream(inputs))
    texts = [answer.generated_text for answer in answers.values()]  # type: ignore[union-attr]  # none failed
    assert len(texts) == 5
    assert len(set(texts)) == 1
    assert texts[0].strip()


def test_images_in_memory_may_be_in_messages(shapes: VLMModel, photo: Path) -> None:
    def chat(image: Any) -> VLMInput:
        parts = [{"type": "image", "image": image}, {"type": "text", "text": "What is this?"}]
        return VLMInput(prompt=[{"role": "user", "content": parts}], max_new_tokens=8, temperature=0)

    of_file, of_bytes, of_image = (
        shapes.predict(chat(form)).generated_text
        for form in (str(photo), photo.read_bytes(), Image.open(photo))
    )
    assert of_file == of_bytes == of_image


def test_limits_hold_for_them(shapes: VLMModel, photo: Path) -> None:
    before = shapes.limits
    shapes.limits = Limits(max_image_pixels=100)
    try:
        for form in forms(photo):
            with pytest.raises(ImageError, match="pixels, and the limit is 100"):
                shapes.predict(asked(form))
    finally:
        shapes.limits = before


def sent(image: Any) -> Image.Image:
    writer = RequestWriter(send_urls=False, max_image_side=None, extra_body={})
    content = writer.write(asked(image), Limits()).messages[0]["content"]
    _, _, data = content[0]["image_url"]["url"].partition(",")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_server_is_sent_them(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(RGB, "PNG"))
    for form in forms(path):
        assert sent(form).convert("RGB").tobytes() == RGB.tobytes()


@pytest.mark.parametrize(
    "name", ["scan12.png", "scan12-rgb.png", "cmyk-adobe.jpg", "rgba16.png", "turned6.tif", "lab.tif"]
)
def test_a_server_is_sent_the_pixels_that_other_engines_see(name: str) -> None:
    case = CASES_BY_NAME[name]
    shown = np.asarray(sent(case.data).convert("RGB")).astype(int)
    ours = np.asarray(load_image(case.data).image).astype(int)
    assert np.abs(shown - ours).max() <= 12  # JPEG stays JPEG


def test_a_server_is_sent_the_page_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(CASES_BY_NAME["three-pages.tif"].data)
    assert sent(f"{path}#page=2").convert("RGB").tobytes() == RGB[::-1].tobytes()
    png = tmp_path / "frames.png"
    png.write_bytes(CASES_BY_NAME["animated.png"].data)
    assert sent(f"{png}#page=2").convert("RGB").tobytes() == RGB[::-1].tobytes()
    assert sent(str(png)).convert("RGB").tobytes() == RGB.tobytes()


def test_vllm_is_given_them_opened_and_recognises_equal_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(RGB, "PNG"))
    pictures = _Pictures()
    opened = [pictures.open(form, Limits()) for form in forms(path)]
    assert {image.tobytes() for _, image in opened} == {RGB.tobytes()}
    digests = [digest for digest, _ in opened]
    assert len({*digests[:3], digests[4]}) == 1
    assert digests[3] == pictures.open(Image.open(path), Limits())[0]


def test_a_worker_in_another_process_is_given_them_whole(photo: Path) -> None:
    for form in forms(photo):
        again = pickle.loads(pickle.dumps(asked(form)))
        assert load_image(again.images[0]).image.tobytes() == load_image(form).image.tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(saved(RGB, "PNG", exif=exif)))
    again = pickle.loads(pickle.dumps(asked(turned)))
    assert load_image(again.images[0]).size == load_image(turned).size == (16, 24)


def test_a_class_of_the_pixano_server_is_given_a_data_url() -> None:
    pytest.importorskip("pixano_inference")
    (url,) = _to_theirs(asked(Image.fromarray(RGB))).images
    assert load_image(url).image.tobytes() == RGB.tobytes()
