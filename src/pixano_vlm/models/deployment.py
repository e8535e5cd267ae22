"""How a model is deployed, and the parameters that model classes take. Plain data, checked strictly."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.region import Convention


class ModelDeploymentConfig(BaseModel):
    """One deployable model: its name, its class, the class's parameters, and what a replica takes."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str = Field(min_length=1, description="The name it is asked for by.")
    capability: str = Field(default="vlm", description="What kind of model it is.")
    model_class: str = Field(
        default="TransformersVLMModel", description="A class name in the registry of model classes."
    )
    model_params: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the class; `path` is the Hugging Face id or folder."
    )
    description: str = Field(default="", description="What it is and what it is good for, in one line.")
    architecture: str = Field(
        default="", description="The checkpoint's `model_type`; tests hold it against transformers' own list."
    )
    parameters: float | None = Field(
        default=None, gt=0, description="Billions of parameters, of all its parts together."
    )
    license: str = Field(
        default="",
        validation_alias=AliasChoices("license", "licence"),
        description="The weights' license, as far as it was looked up.",
    )
    gated: bool = Field(
        default=False,
        description="Whether the hub wants an account and an agreement before it gives the weights.",
    )
    generation: GenerationSettings = Field(
        default_factory=GenerationSettings, description="This model's own defaults of generation."
    )
    regions: Convention | None = Field(
        default=None,
        description="How it writes coordinates: the name of a convention, or `form`, `scale` and `order`.",
    )
    num_cpus: float = Field(default=1, ge=0, description="CPUs a replica takes.")
    num_gpus: float = Field(default=0, ge=0, description="GPUs a replica takes; a fraction shares one.")

    @property
    def memory_gb(self) -> float | None:
        """Gigabytes (10**9 bytes) that the weights take in bfloat16, two bytes each; None where it is not said."""
        return None if self.parameters is None else 2 * self.parameters


DtypeName = Literal["auto", "float32", "float16", "bfloat16"]


class TransformersParams(BaseModel):
    """Parameters of `TransformersVLMModel`. Those of loading go to `from_pretrained` under the same names."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    path: str = Field(min_length=1, description="Hugging Face id, or a local folder.")
    revision: str | None = Field(default=None, description="Branch, tag or commit of the id.")
    dtype: DtypeName = Field(
        default="auto",
        description="`auto`: the checkpoint's; on a CPU without bfloat16 instructions, float32.",
    )
    device: str = Field(default="auto", description="`auto`: a GPU where there is one, else `cpu`.")
    attn_implementation: str | None = Field(
        default=None, description="As in from_pretrained; None lets the engine choose."
    )
    local_files_only: bool = Field(default=False, description="Never ask the hub.")
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the checkpoint. Off unless asked."
    )
    cache_dir: str | None = Field(default=None, description="Where downloaded checkpoints are kept.")
    adapter: str | None = Field(
        default=None,
        description="PEFT adapter (LoRA) over the weights: its folder, or Hugging Face id; extra `peft`.",
    )
    quantization: Literal["int8", "int4"] | None = Field(
        default=None,
        description="Weights in fewer bits: `int8` by torchao, `int4` by bitsandbytes; extra `quantization`.",
    )
    chat_template: str | None = Field(
        default=None,
        description="Instead of the checkpoint's default chat template: the name of another one of its own, the path "
        "of a Jinja file, or `none` for prompts as they are.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Variables of the chat template, such as a switch for thinking; a record's own win over these.",
    )
    skip_special_tokens: bool | None = Field(
        default=None,
        description="Special tokens in answers: by default those that frame the turn are left out; true: all of "
        "them, false: none.",
    )
    processor_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Options of the processor, such as min_pixels and max_pixels."
    )
    engine: Literal["auto", "in-flight", "static"] = Field(
        default="auto",
        description="`auto`: continuous (in-flight) batching where the model allows it, else static.",
    )
    max_batch_size: int = Field(default=64, ge=1, description="Most records decoded together.")
    max_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens, prompts and room for answers, held at a time; None: what memory has room for.",
    )
    prefill_tokens: int = Field(default=4_096, ge=1, description="Most prompt tokens in one prefill call.")
    image_cache_bytes: int = Field(
        default=512 * 2**20, ge=0, description="Budget for encoded images kept for reuse."
    )
    prefix_cache_bytes: int = Field(
        default=512 * 2**20, ge=0, description="Budget for keys and values of shared prefixes; 0: off."
    )
    prepare_workers: int = Field(default=2, ge=1, description="Threads that decode and process images.")
