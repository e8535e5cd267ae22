"""What a family gives (`Parts`), and how a checkpoint folder is made of it.

It knows no architecture. Weights are drawn so that a tiny random model behaves: each layer keeps the scale of
what it reads, so that answers depend on the whole prompt and on the picture, special tokens are hardly ever
the answer, and the end token is one now and then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import AutoModelForImageTextToText, PreTrainedConfig, ProcessorMixin

PROJECTION_GAIN = (
    2.5  # above 1, so that layers outweigh the residual stream, which alone would repeat its token
)
SPECIAL_GAIN = 0.3  # of the rows of special tokens in the output layer: placeholders are no answers
END_GAIN = 1.5  # of the end token's row: the best of 600 about one step in thirty
TIED_SCALE = (
    0.2  # of embeddings that are the output layer too, or the best answer would be the token just read
)


@dataclass(frozen=True, slots=True)
class Parts:
    """One family's processor and config, which agree on sizes and token ids, before there are weights.

    Attributes:
        config: the model's config.
        processor: what turns text and images into the model's inputs.
        generation: settings of its generation config, beside the token ids.
        gains: by a part of a parameter's name, the gain of its matrices where `PROJECTION_GAIN` does not do:
            layers that normalise after adding would otherwise forget the token they read.
        end_gain: how much the end token is preferred, where `END_GAIN` would end answers too early or never.
    """

    config: PreTrainedConfig
    processor: ProcessorMixin
    generation: Mapping[str, Any] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)
    end_gain: float = END_GAIN


@dataclass(frozen=True, slots=True)
class Builder:
    """The recipe of one tiny architecture, and what a test must know to ask it something.

    Attributes:
        name: the folder's name; the model type, with a suffix for a variant.
        parts: builds config and processor.
        needs: packages without which the processor cannot be built.
        since: the release of transformers that brought it, or that builds it as it is built here (5.19 reads nested
            configs otherwise, and needs torchvision for more), where that is later than the lowest that is tested.
        min_images: 1 where the processor or the model refuses text alone.
        max_images: the most images one record may have; None where there is no limit.
        chat: whether the checkpoint has a chat template.
        prompts: whether the prompt counts, or the answer is read off the image whatever was asked.
    """

    name: str
    parts: Callable[[], Parts]
    needs: tuple[str, ...] = ()
    since: str = ""
    min_images: int = 0
    max_images: int | None = None
    chat: bool = True
    prompts: bool = True

    @property
    def missing(self) -> list[str]:
        """The packages this architecture needs and this environment lacks."""
        packages = [package for package in self.needs if not has(package)]
        if self.since and Version(transformers.__version__) < Version(self.since):
            packages.append(f"transformers {self.since}")
        return packages


@cache
def has(package: str) -> bool:
    """Whether a package can be imported here, without importing it."""
    return find_spec(package) is not None


def image_processor(family: str, **kwargs: Any) -> Any:
    """The image processor of a family in the backend a user would get here: torchvision's, else PIL's."""
    suffix = "ImageProcessor" if has("torchvision") else "ImageProcessorPil"
    return getattr(transformers, family + suffix)(**kwargs)


def video_processor(family: str, **kwargs: Any) -> Any:
    """The video processor of a family; all of them need torchvision."""
    return getattr(transformers, family + "VideoProcessor")(**kwargs)


def save(parts: Parts, folder: Path, seed: int) -> Path:
    """Draw the weights and write model, processor and generation config to `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(parts.config, dtype=torch.float32)
        draw_weights(model, parts, seed)
    tokenizer = parts.processor.tokenizer
    settings = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    if tokenizer.bos_token_id is not None:
        settings["bos_token_id"] = tokenizer.bos_token_id
    for key, value in (settings | dict(parts.generation)).items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(folder)
    parts.processor.save_pretrained(folder)
    return folder


@torch.no_grad()
def draw_weights(model: Any, parts: Parts, seed: int) -> None:
    """Draw every parameter anew, whatever the family's own initialisation does.

    Matrices and convolutions get the variance that keeps their input's scale; embeddings unit variance;
    vectors (norms, biases) some noise on their initial values; single numbers, which are gates that start
    closed, are opened.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    convolutions = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Conv1d)}
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.numel() == 1:
            parameter.copy_(0.75 + 0.1 * noise.reshape(parameter.shape))
        elif name.endswith("A_log"):
            # The decay of a recurrent layer, which starts so fast that the state would forget the prompt at
            # once.
            parameter.copy_(noise - 3.0)
        elif parameter.dim() < 2:
            parameter.add_(0.1 * noise)
        elif id(parameter) in embeddings:
            parameter.copy_(noise)
        else:
            stacked = parameter.dim() == 3 and id(parameter) not in convolutions
            fan_in = min(parameter.shape[1:]) if stacked else parameter[0].numel()
            gain = next((gain for part, gain in parts.gains.items() if part in name), PROJECTION_GAIN)
            parameter.copy_(noise * gain / fan_in**0.5)
    output = model.get_output_embeddings()
    if output is None:
        return
    if id(output.weight) in embeddings:
        width = output.weight.shape[1]
        for module_name, module in model.named_modules():
            positions = isinstance(module, torch.nn.Embedding) and "position" in module_name
            # Learned positions of the same width are added to tokens, so they must not drown them.
            if positions and module.weight.shape[1] == width:
                module.weight *= TIED_SCALE / width**0.5
        output.weight *= TIED_SCALE / width**0.5
    tokenizer = parts.processor.tokenizer
    rows = [i for i in tokenizer.added_tokens_decoder if i < output.weight.shape[0]]
    output.weight[rows] *= SPECIAL_GAIN
    output.weight[tokenizer.eos_token_id] *= parts.end_gain / SPECIAL_GAIN
