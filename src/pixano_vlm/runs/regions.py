"""The regions of the answers of a run: read from each answer that was asked for them, in pixels of its images.

An engine that opens images itself says how large they are; of any other, they are opened here.
"""

from __future__ import annotations

from pixano_vlm.errors import PromptError
from pixano_vlm.media.images import load_image
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.region import ImageSize, RegionConvention
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput
from pixano_vlm.prompts.messages import image_sources
from pixano_vlm.regions.find import find_regions

__all__ = ["HINT", "UNKNOWN", "RegionReader"]

UNKNOWN = "how model {name!r} writes coordinates is not known."
HINT = (
    "Register it in a config file with `regions`: the name of a convention such as 0-1000 or pixels-of-resized. "
    "docs/guides/find-things.md lists them."
)


class RegionReader:
    """Reads the regions of one model's answers.

    Args:
        model: The model, whose config names the convention.
        limits: What may be opened to find out how large an image is.
    """

    def __init__(self, model: VLMModel, limits: Limits) -> None:
        self._convention: RegionConvention | None = model.config.regions
        self._name, self._limits = model.model_name, limits

    def refusal(self, input: VLMInput) -> PromptError | None:
        """Why a record cannot be answered with regions, where it asks for them; known before the model is asked."""
        if not input.regions or self._convention is not None:
            return None
        return PromptError(UNKNOWN.format(name=self._name), hint=HINT)

    def read(self, input: VLMInput, output: VLMOutput) -> tuple[VLMOutput, tuple[str, ...]]:
        """The answer with its regions, and their quality flags.

        Raises:
            VLMError: When an image cannot be opened, or the regions cannot be placed in it.
        """
        if (refused := self.refusal(input)) is not None:
            raise refused
        if not input.regions or self._convention is None:
            return output, ()
        sizes = self._sizes(input) if output.image_sizes is None else output.image_sizes
        if not sizes:
            raise PromptError(
                "the record asks for regions and has no image.", hint="Give it one, or leave regions out."
            )
        regions, flags = find_regions(output, self._convention, sizes)
        return output.model_copy(update={"regions": regions, "image_sizes": sizes}), flags

    def _sizes(self, input: VLMInput) -> list[ImageSize]:
        in_messages = image_sources(input.prompt) if isinstance(input.prompt, list) else ()
        sizes = [load_image(source, self._limits).size for source in (*(input.images or ()), *in_messages)]
        return [ImageSize(width=width, height=height) for width, height in sizes]
