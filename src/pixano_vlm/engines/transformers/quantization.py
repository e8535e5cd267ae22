"""Weights in fewer bits: what `quantization` asks of `from_pretrained`, and what it saves.

Knows two methods, each of which works on a CPU and a GPU; knows no architecture.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from pixano_vlm.errors import ConfigError
from pixano_vlm.extras import import_extra
from pixano_vlm.models.deployment import TransformersParams

EXTRA = "quantization"


def quantization_config(params: TransformersParams, config: Any, dtype: torch.dtype) -> Any:
    """What goes to `from_pretrained` as `quantization_config`; None where nothing is asked.

    - `int8`: torchao, weights alone, one scale for each output; half of bfloat16.
    - `int4`: bitsandbytes' NF4, one scale for each 64 weights; about a quarter of bfloat16.

    The output layer stays as it is, as transformers decides for both.

    Args:
        params: The model's parameters.
        config: The checkpoint's own.
        dtype: What the model computes in.

    Raises:
        ConfigError: When the checkpoint is quantized already.
        MissingPackageError: When the method's package is not there; says how to install it.
    """
    if params.quantization is None:
        return None
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        method = (
            stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", "")
        )
        raise ConfigError(
            f"{params.path!r} is quantized already ({getattr(method, 'value', method)}), so it cannot be "
            f"loaded with quantization: {params.quantization}.",
            hint="Leave the parameter `quantization` out, or give the unquantized checkpoint.",
        )
    purpose = f"quantization: {params.quantization}"
    if params.quantization == "int8":
        for package in ("torchao", "accelerate"):
            import_extra(package, extra=EXTRA, purpose=purpose)
        torchao = import_extra("torchao.quantization", extra=EXTRA, purpose=purpose)
        from transformers import TorchAoConfig

        # Nothing is compiled here; and older releases would set how precise every float32 product in the process is.
        return TorchAoConfig(torchao.Int8WeightOnlyConfig(set_inductor_config=False))
    for package in ("bitsandbytes", "accelerate"):
        import_extra(package, extra=EXTRA, purpose=purpose)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def is_quantized(model: Any) -> bool:
    """Whether a loaded model's weights are quantized, by a parameter or as its checkpoint was saved."""
    return getattr(model, "hf_quantizer", None) is not None


def weight_bytes(model: Any) -> int:
    """Bytes that a model's weights really take, scales and tables of quantized ones included."""
    held = {id(tensor): tensor for tensor in (*model.state_dict().values(), *model.parameters())}
    storages = {}
    for tensor in held.values():
        for part in _parts(tensor):
            storages[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
    return sum(storages.values())


def unquantized(model: Any) -> tuple[int, int]:
    """Parameters of a quantized model, and the bytes they would take as they were; from its config alone."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    count = sum(parameter.numel() for parameter in plain.parameters())
    return count, count * model.dtype.itemsize


def _parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a tensor is made of; a quantized one holds its integers and its scales."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return [tensor.detach()]
    return [part for name in flatten()[0] for part in _parts(getattr(tensor, name))]
