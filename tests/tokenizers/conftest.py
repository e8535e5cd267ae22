from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.tiny.building import save
from tests.tokenizers.families import FAMILIES, FOLDER, Family, template

from pixano_vlm.batching.constraint import Grammars
from pixano_vlm.batching.prepare import PromptMaker
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer
from pixano_vlm.prompts.control_tokens import heed_marks


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    found = FAMILIES[request.param]
    if not found.is_here:
        pytest.skip(f"no tokenizer in {FOLDER / found.name}; `make test-tokenizers` fetches it")
    return found


@pytest.fixture(scope="session")
def untouched(family: Family) -> Any:
    """The processor as transformers makes it, without a template."""
    return family.processor(None)


@pytest.fixture(scope="session")
def tokenizer(untouched: Any) -> Any:
    """The tokenizer as transformers makes it."""
    return untouched.tokenizer


@pytest.fixture(scope="session")
def maker(family: Family) -> Callable[..., PromptMaker]:
    """`maker("string")`: what prepares prompts, with the template of that style."""

    @cache
    def make(style: str, **variables: Any) -> PromptMaker:
        processor: Any = family.processor(template(family, style))
        renderer = ChatTemplateRenderer(processor, prepends_images=True, variables=variables)
        heed_marks(processor.tokenizer, renderer.control)
        grammars = Grammars(processor.tokenizer, len(processor.tokenizer), frozenset())
        image = processor.tokenizer.convert_tokens_to_ids(family.image)
        return PromptMaker(processor, renderer, grammars, image_token_id=image, limits=Limits(), context=None)

    return make


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of an image."""
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    return str(path)


@pytest.fixture(scope="session")
def checkpoint(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model over the family's whole vocabulary."""
    folder = tmp_path_factory.mktemp(family.name) / "m"
    return save(family.parts(template(family, "thinking")), folder, seed=1)


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> TransformersVLMModel:
    """The same, loaded."""
    opened = TransformersVLMModel(
        ModelDeploymentConfig(name="m", model_params={"path": str(checkpoint), "device": "cpu"})
    )
    opened.load_model()
    return opened
