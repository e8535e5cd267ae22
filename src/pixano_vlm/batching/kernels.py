"""Faster kernels on a CPU that computes in bfloat16, where they cost no exactness worth the name.

Four gains, each measured in docs/performance.md, none by a model's name:

- Linear layers keep their weights in the order in which oneDNN multiplies them, instead of reordering them in
  every call. The products are the same; a decode step, which is nothing but reading weights, gains most.
- A GELU between two linear layers is computed while the first one's result is in registers.
- Attention without a mask over many tokens, as in vision encoders, goes by a few heads at a time through plain
  matrix products, whose intermediate results stay in the cache. Scores are rounded to bfloat16, as in
  transformers' own "eager" attention.
- Patch embeddings are laid out token by token, as every layer after them reads them.

In float32 nothing is touched. `packed` linear layers use `torch.ops.mkldnn`, which TorchInductor uses for the
same purpose; where a build of torch lacks it, the layers stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION = "pixano_vlm_cpu"
MANY_TOKENS = 256
"""Fewer tokens than this, and the library's fused attention is as good."""
SCORES_BYTES = 8 * 2**20
"""How many bytes of attention scores are in work at a time."""

Undo = Callable[[], None]


class PackedLinear(nn.Module):
    """A linear layer whose weight is kept in oneDNN's own order, with a GELU after it if asked.

    Args:
        linear: The layer to replace.
        gelu: None, "none" (the exact GELU) or "tanh" (its approximation), as in `torch.nn.functional.gelu`.
        packed: The packed weight of an earlier replacement, to be taken over.
    """

    def __init__(self, linear: nn.Linear | PackedLinear, gelu: str | None = None) -> None:
        super().__init__()
        self.in_features: int = linear.in_features
        self.out_features: int = linear.out_features
        self.bias: nn.Parameter | None = linear.bias
        self.gelu = gelu
        self.packed: Tensor = (
            linear.packed
            if isinstance(linear, PackedLinear)
            else torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        )

    @property
    def weight(self) -> Tensor:
        """The weight in its usual order, for code that looks at it; unpacked at every call."""
        return self.packed.to_dense()

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Linear`."""
        kind, options = ("none", "") if self.gelu is None else ("gelu", self.gelu)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, kind, [], options)
        return output

    def unpacked(self) -> nn.Linear:
        """The plain layer again."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        linear.register_parameter("bias", self.bias)
        return linear


def is_applicable(model: Any) -> bool:
    """Whether there is anything to gain: a CPU, bfloat16, and a torch with packed linear layers."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16:
        return False
    with suppress(AttributeError, RuntimeError):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(torch.ops.mkldnn._linear_pointwise)
    return False


@torch.inference_mode()
def speed_up(model: Any, *, attention: bool) -> Undo:
    """Replaces what can be replaced; returns a function that puts everything back.

    Args:
        model: A transformers model for which `is_applicable`.
        attention: Whether the attention of vision encoders may be replaced too.
    """
    undo: list[Undo] = []
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:
                setattr(module, name, PackedLinear(child))
                undo.append(partial(_unpack, module, name))
    for module in list(model.modules()):
        if any(isinstance(child, nn.Conv2d) for child in module.children()):
            undo.append(module.register_forward_hook(_straighten).remove)
        fused = _fuse_gelu(module)
        if fused is not None:
            undo.append(fused)
    if attention and hasattr(model.config, "vision_config"):
        before = model.config.vision_config._attn_implementation
        if before == "sdpa":
            AttentionInterface.register(ATTENTION, attend)
            AttentionMaskInterface.register(ATTENTION, sdpa_mask)
            model.set_attn_implementation({"vision_config": ATTENTION})
            undo.append(lambda: model.set_attn_implementation({"vision_config": before}))

    def put_back() -> None:
        for action in reversed(undo):
            action()

    return put_back


_buffers = threading.local()


def _scratch(dtype: torch.dtype, size: int) -> Tensor:
    """Memory of this thread for `size` intermediate numbers.

    The same at every call: fresh memory of this size would come from the system a page at a time, which costs as
    much as the softmax.
    """
    kept: Tensor | None = getattr(_buffers, "scratch", None)
    if kept is None or kept.dtype != dtype or kept.numel() < size:
        kept = _buffers.scratch = torch.empty(size, dtype=dtype)
    return kept


def _straighten(module: nn.Module, inputs: Any, output: Any) -> Any:
    """A forward hook: patches come out of a convolution channel by channel, and stay so through every layer."""
    return output.contiguous() if isinstance(output, Tensor) and output.dim() == 3 else output


def _unpack(module: nn.Module, name: str) -> None:
    setattr(module, name, getattr(module, name).unpacked())


def _fuse_gelu(module: nn.Module) -> Undo | None:
    """Fuses `fc2(activation_fn(fc1(x)))`, the form of transformers' vision encoders, where it is just that."""
    first, second = getattr(module, "fc1", None), getattr(module, "fc2", None)
    activation = getattr(module, "activation_fn", None)
    if not isinstance(first, PackedLinear) or not isinstance(second, PackedLinear) or first.gelu is not None:
        return None
    if not isinstance(activation, nn.Module):
        return None
    ramp = torch.linspace(-4, 4, 257)
    forms = [
        form
        for form in ("tanh", "none")
        if torch.equal(activation(ramp), functional.gelu(ramp, approximate=form))
    ]
    if not forms:
        return None
    probe = torch.sin(torch.arange(4 * first.in_features, dtype=torch.float32)).to(torch.bfloat16)
    probe = probe.view(1, 4, first.in_features)
    expected = module(probe)
    module.fc1, module.activation_fn = PackedLinear(first, forms[0]), nn.Identity()

    def put_back() -> None:
        module.fc1, module.activation_fn = first, activation

    got = module(probe)
    # The module may do more between its layers than it seems: then it stays as it was.
    if (got - expected).norm() > 0.02 * expected.norm():
        put_back()
        return None
    return put_back


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' interface calls it: `[batch, heads, tokens, head_dim]` in, tokens first out.

    Without a mask and over many tokens, a few heads at a time; else the library's own.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    batch, heads, tokens, dim = query.shape
    if (
        attention_mask is not None
        or causal
        or tokens < MANY_TOKENS
        or query.shape[:2] != key.shape[:2]
        or any(options.get(name) is not None for name in ("softcap", "position_bias", "s_aux", "cache"))
        or options.get("dropout")
    ):
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **options
        )
        return output
    scale = dim**-0.5 if scaling is None else scaling
    queries = (query * scale).reshape(batch * heads, tokens, dim)
    keys = key.reshape(batch * heads, -1, dim).transpose(1, 2)
    values = value.reshape(batch * heads, -1, value.shape[-1])
    result = queries.new_empty(batch * heads, tokens, value.shape[-1])
    size = tokens * keys.shape[2]  # of one head's scores
    step = max(1, min(batch * heads, SCORES_BYTES // (size * query.element_size())))
    scratch = _scratch(query.dtype, 2 * step * size)
    for head in range(0, batch * heads, step):
        part = slice(head, head + step)
        count = len(queries[part])
        scores, weights = (
            scratch[place : place + count * size].view(count, tokens, -1) for place in (0, step * size)
        )
        torch.bmm(queries[part], keys[part], out=scores)
        torch.softmax(scores, dim=-1, out=weights)
        torch.bmm(weights, values[part], out=result[part])
    return result.view(batch, heads, tokens, -1).transpose(1, 2).contiguous(), None
