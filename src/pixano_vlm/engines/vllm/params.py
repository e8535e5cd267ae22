"""The parameters of `VLLMVLMModel`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pixano_vlm.models.deployment import DtypeName

__all__ = ["VLLMParams"]


class VLLMParams(BaseModel):
    """Parameters of `VLLMVLMModel`."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    path: str = Field(min_length=1, description="Hugging Face id, or a local folder.")
    revision: str | None = Field(default=None, description="Branch, tag or commit of the id.")
    dtype: DtypeName = Field(default="auto", description="`auto`: vLLM's choice for the checkpoint.")
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the checkpoint. Off unless asked."
    )
    processor_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Options of the processor, such as min_pixels and max_pixels."
    )
    max_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Most records decoded together (vLLM's max_num_seqs); None: its choice.",
    )
    prepare_workers: int = Field(default=2, ge=1, description="Threads that open images.")
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        description="vLLM's own engine arguments, such as tensor_parallel_size, max_model_len, "
        "gpu_memory_utilization, enforce_eager.",
    )
