"""Every setting of generation, defined once: its type, its bounds, what it is for, and how it takes part.

A setting is one field of `GenerationFields`. The keys of a manifest line and their checks, the aliases of other
tools, the content key that resuming compares, the key of a static batch, the `generation_config` of an output line
and what vLLM and servers are sent are all read from the fields here. Knows no file and no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "DEFAULT_GENERATION",
    "SETTINGS",
    "GenerationFields",
    "GenerationSettings",
    "Setting",
    "named_elsewhere",
    "settings_used",
]


@dataclass(frozen=True, slots=True)
class Setting:
    """How one setting takes part, beside its type and bounds, which pydantic knows."""

    aliases: tuple[str, ...] = ()
    """Names that other tools give to the key."""
    sampling: bool = False
    """Whether it takes part only where a record is sampled."""
    kind_only: bool = False
    """Whether `generation_config` shows only the `type` of its value."""
    metavar: str = ""
    """What its flag's value is called in help."""
    flag: str | None = None
    """Its flag; None: the name's own."""
    flag_text: str = ""
    """What the help of its flag says beside its description."""
    elsewhere: str | None = None
    """Its name in vLLM and in the bodies that servers are sent; None: the same."""
    is_local: bool = False
    """Whether only this package knows it: vLLM and servers are not sent it."""
    is_the_runs: bool = False
    """Whether the run acts on it once the model has answered, so that no model has to know it."""


class GenerationFields(BaseModel):
    """The settings themselves. A setting that is left open is None."""

    # Validators are built when they are first used: `list` and `--help` use few.
    model_config = ConfigDict(defer_build=True)

    max_new_tokens: Annotated[
        int | None,
        Field(ge=1, description="Most new tokens to generate."),
        Setting(
            aliases=(
                "max_tokens", "max_completion_tokens", "max_length", "max_output_tokens", "num_predict", "n_predict",
            ),
            elsewhere="max_tokens",
        ),
    ] = None  # fmt: skip
    temperature: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False, description="Sampling temperature; 0 is greedy decoding."),
        Setting(aliases=("temp",), metavar="T"),
    ] = None
    top_p: Annotated[
        float | None,
        Field(gt=0, le=1, description="Sample from the likeliest tokens that sum to this probability."),
        Setting(aliases=("topp",), sampling=True, metavar="P"),
    ] = None
    top_k: Annotated[
        int | None,
        Field(ge=1, description="Sample from this many likeliest tokens."),
        Setting(aliases=("topk",), sampling=True, metavar="K"),
    ] = None
    min_p: Annotated[
        float | None,
        Field(ge=0, le=1, description="Drop tokens below this share of the likeliest's probability."),
        Setting(aliases=("minp",), sampling=True, metavar="P"),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        Field(
            gt=0, allow_inf_nan=False, description="Above 1: tokens that were there before are less likely."
        ),
        Setting(aliases=("repeat_penalty", "rep_penalty"), metavar="R"),
    ] = None
    stop: Annotated[
        list[str] | None,
        Field(description="End before any of these strings."),
        Setting(aliases=("stop_sequences", "stop_strings", "stop_words")),
    ] = None
    seed: Annotated[
        int | None,
        Field(ge=0, lt=2**63, description="Seed of this record's own sampling."),
        Setting(aliases=("random_seed",), sampling=True),
    ] = None
    n: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000,
            description="Draw so many samples of the answer, and answer with what most of them say.",
        ),
        Setting(aliases=("num_samples", "num_return_sequences"), sampling=True),
    ] = None
    response_format: Annotated[
        dict[str, Any] | None,
        Field(
            description="OpenAI's form of a JSON schema that the answer must follow, or of any JSON object."
        ),
        Setting(aliases=("json_schema", "guided_json"), kind_only=True),
    ] = None
    min_new_tokens: Annotated[
        int | None,
        Field(ge=0, description="Least new tokens: the answer does not end before."),
        Setting(aliases=("min_tokens", "min_length"), elsewhere="min_tokens"),
    ] = None
    presence_penalty: Annotated[
        float | None,
        Field(
            ge=-2, le=2, description="Taken from the scores of tokens that the answer has already, -2 to 2."
        ),
    ] = None
    frequency_penalty: Annotated[
        float | None,
        Field(
            ge=-2, le=2, description="The same, once for each time that the answer has the token, -2 to 2."
        ),
    ] = None
    logprobs: Annotated[
        bool | None,
        Field(description="Write the answer's tokens with the logarithms of their probabilities."),
    ] = None
    top_logprobs: Annotated[
        int | None,
        Field(
            ge=0,
            le=20,
            description="Write the answer's tokens and this many alternatives, with log-probabilities.",
        ),
        Setting(flag="--logprobs", metavar="K"),
    ] = None
    choices: Annotated[
        list[str] | None,
        Field(description="Answer with exactly one of these labels, and give the probability of each."),
        Setting(aliases=("guided_choice",), metavar="A,B", flag_text=" Separated by commas."),
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None,
        Field(description="Variables of the chat template, such as a switch for thinking."),
        Setting(aliases=("template_kwargs", "chat_template_args")),
    ] = None
    thinking_budget: Annotated[
        int | None,
        Field(ge=0, description="Most tokens of thoughts: then they are ended, and the answer follows."),
        Setting(
            aliases=(
                "thinking_token_budget",
                "thinking_budget_tokens",
                "max_thinking_tokens",
                "reasoning_budget",
            ),
            elsewhere="thinking_token_budget",
        ),
    ] = None
    regions: Annotated[
        bool | None,
        Field(
            description="Read boxes and points from the answer, in pixels of the image, by the model's `regions`."
        ),
        Setting(is_local=True, is_the_runs=True),
    ] = None
    min_pixels: Annotated[
        int | None,
        Field(
            ge=1,
            description="Fewest pixels of each image that the model looks at; a smaller one is enlarged.",
        ),
        Setting(is_local=True),
    ] = None
    max_pixels: Annotated[
        int | None,
        Field(
            ge=1,
            description="Most pixels of each image that the model looks at; a larger one is made smaller, and costs "
            "fewer tokens.",
        ),
        Setting(is_local=True),
    ] = None


SETTINGS: dict[str, Setting] = {
    name: next((item for item in field.metadata if isinstance(item, Setting)), Setting())
    for name, field in GenerationFields.model_fields.items()
}
"""Every setting by its name, in the order of the fields."""


class GenerationSettings(GenerationFields):
    """Settings of generation, each of which may be left open.

    Where one is given several times, the nearest wins: a manifest line over the command's flags, those over the
    model's config, that over the defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def over(self, other: GenerationSettings) -> GenerationSettings:
        """These settings, with the open ones taken from `other`."""
        settled = other.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)
        return GenerationSettings(**settled)


DEFAULT_GENERATION = GenerationSettings(max_new_tokens=128, temperature=1.0)
"""What holds where nobody says anything: the documented temperature, and the command's `--max-new-tokens`."""


def named_elsewhere(used: dict[str, Any]) -> dict[str, Any]:
    """Settings as vLLM and servers call them, from what `settings_used` returns; without what they take otherwise.

    `response_format` has a form of its own there, and greedy decoding is temperature 0.
    """
    taken_otherwise = {"do_sample", "response_format"}
    return {
        SETTINGS[name].elsewhere or name: value
        for name, value in used.items()
        if name not in taken_otherwise and not SETTINGS[name].is_local
    }


def settings_used(input: GenerationFields, max_new_tokens: int) -> dict[str, Any]:
    """The settings that took part in an answer, and no others: the `generation_config` of an output.

    Args:
        input: The request; its temperature is set.
        max_new_tokens: Most new tokens it could have had: what it asked for, or the room that the context left.
    """
    sample = bool(input.temperature)
    used: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": sample}
    for name, setting in SETTINGS.items():
        value = getattr(input, name)
        if (
            name in used
            or value is None
            or value == []
            or value is False
            or (setting.sampling and not sample)
        ):
            continue
        if setting.kind_only:
            value = value.get("type")
        used[name] = list(value) if isinstance(value, list) else value
    return used
