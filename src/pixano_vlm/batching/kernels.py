"""Faster kernels on a CPU, in bfloat16 where it computes in that, and in float32.

Five gains, each measured in docs/explanation/performance.md, none by a model's name:

- Linear layers keep their weights in the order in which oneDNN multiplies them, instead of reordering them in
  every call. The products are the same; a decode step, which is nothing but reading weights, gains most.
- A GELU between two linear layers, or the SiLU of a gate, is computed while the layer's result is in registers.
- Attention without a mask over many tokens, as in vision encoders, goes by a few heads at a time through plain
  matrix products, whose intermediate results stay in the cache. In bfloat16 scores are rounded to it, as in
  transformers' own "eager" attention.
- Attention of few new tokens over few kept ones, as in decode steps and the prefill of short prompts, goes through
  plain matrix products in float32, which are closer to exact than the library's own.
- Patch embeddings are laid out token by token, as every layer after them reads them.

Attention is replaced only where a trial on this processor shows a gain. In float32 results differ from the library's
by the rounding of another order of additions. `packed` linear layers use `torch.ops.mkldnn`, which TorchInductor uses
for the same purpose; where a build of torch lacks it, the layers stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from time import perf_counter
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
SCORES_BYTES = 4 * 2**20
"""How many bytes of attention scores are in work at a time."""
FEW_BYTES = 32 * 2**20
"""Scores, keys and values of up to this many bytes in float32 are few."""
MARGIN = 1.2
"""How many times as fast a way of attention must be to be taken: less is noise, or not worth another rounding."""
TRIES = 5

ACTIVATIONS: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {
    ("gelu", "tanh"): partial(functional.gelu, approximate="tanh"),
    ("gelu", "none"): functional.gelu,
    ("swish", ""): functional.silu,
}
"""Activations that oneDNN computes with a linear layer, by its name and its form."""

Undo = Callable[[], None]


class PackedLinear(nn.Module):
    """A linear layer whose weight is kept in oneDNN's own order, with an activation after it if asked.

    Args:
        linear: The layer to replace; of a packed one, the packed weight is taken over.
        activation: What follows, as oneDNN names it: `ACTIVATIONS`.
    """

    def __init__(self, linear: nn.Linear | PackedLinear, activation: tuple[str, str] = ("none", "")) -> None:
        super().__init__()
        self.in_features: int = linear.in_features
        self.out_features: int = linear.out_features
        self.bias: nn.Parameter | None = linear.bias
        self.activation = activation
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
        kind, options = self.activation
        output: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, kind, [], options)
        return output

    def unpacked(self) -> nn.Linear:
        """The plain layer again."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        linear.register_parameter("bias", self.bias)
        return linear


def is_applicable(model: Any) -> bool:
    """Whether there is anything to gain: a CPU that computes in its dtype, and a torch with packed linear layers."""
    if model.device.type != "cpu" or model.dtype not in (torch.bfloat16, torch.float32):
        return False
    with suppress(AttributeError, RuntimeError):
        if model.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        return bool(torch.ops.mkldnn._linear_pointwise)
    return False


@torch.inference_mode()
def speed_up(model: Any, *, attention: bool) -> Undo:
    """Replaces what can be replaced; returns a function that puts everything back.

    Args:
        model: A transformers model for which `is_applicable`.
        attention: Whether attention may be replaced too.
    """
    undo: list[Undo] = []
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype == model.dtype:
                setattr(module, name, PackedLinear(child))
                undo.append(partial(_unpack, module, name))
    for module in list(model.modules()):
        if any(isinstance(child, nn.Conv2d) for child in module.children()):
            undo.append(module.register_forward_hook(_straighten).remove)
        fused = _fuse_activation(module)
        if fused is not None:
            undo.append(fused)
    parts = [
        part
        for part in ("vision_config", "text_config")
        if getattr(getattr(model.config, part, None), "_attn_implementation", None) == "sdpa"
    ]
    if attention and parts and faster_attention(model.dtype):
        AttentionInterface.register(ATTENTION, attend)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(dict.fromkeys(parts, ATTENTION))
        undo.append(lambda: model.set_attn_implementation(dict.fromkeys(parts, "sdpa")))

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


def _fuse_activation(module: nn.Module) -> Undo | None:
    """Fuses the activation of `fc2(activation_fn(fc1(x)))` and `down_proj(act_fn(gate_proj(x)) * up_proj(x))`.

    These are the forms of transformers' vision encoders and decoders; a module is one of them when fusing does not
    change what comes out.
    """
    for first_name, name in (("fc1", "activation_fn"), ("gate_proj", "act_fn")):
        first, activation = getattr(module, first_name, None), getattr(module, name, None)
        if isinstance(first, PackedLinear) and isinstance(activation, nn.Module):
            break
    else:
        return None
    ramp = torch.linspace(-4, 4, 257)
    form = next(
        (form for form, same in ACTIVATIONS.items() if torch.equal(activation(ramp), same(ramp))), None
    )
    if form is None or first.activation != ("none", ""):
        return None
    dtype = first.packed.dtype
    probe = torch.sin(torch.arange(4 * first.in_features, dtype=torch.float32)).to(dtype)
    probe = probe.view(1, 4, first.in_features)

    def put_back() -> None:
        setattr(module, first_name, first)
        setattr(module, name, activation)

    try:
        expected = module(probe)
        setattr(module, first_name, PackedLinear(first, form))
        setattr(module, name, nn.Identity())
        got = module(probe)
    except (RuntimeError, TypeError, ValueError):  # a module that takes more than hidden states
        put_back()
        return None
    # The module may do more between its layers than it seems: then it stays as it was.
    rounding = 0.02 if dtype == torch.bfloat16 else 1e-4
    if not isinstance(got, Tensor) or (got - expected).norm() > rounding * expected.norm():
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

    Without a mask and over many tokens, a few heads at a time; over few tokens, in float32; else the library's own.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    tokens, dim = query.shape[2:]
    scale = dim**-0.5 if scaling is None else scaling
    plain = not options.get("dropout") and all(
        options.get(name) is None for name in ("softcap", "position_bias", "s_aux", "cache")
    )
    ways = faster_attention(query.dtype)
    if (
        plain
        and "few" in ways
        and (tokens == 1 or attention_mask is not None)
        and _are_few(query, key, attention_mask)
    ):
        return _attend_to_few(query, key, value, attention_mask, scale), None
    if (
        not plain
        or "many" not in ways
        or attention_mask is not None
        or causal
        or tokens < MANY_TOKENS
        or query.shape[:2] != key.shape[:2]
    ):
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **options
        )
        return output
    return _attend_to_many(query, key, value, scale), None


def _attend_to_many(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention without a mask, a few heads at a time; `[batch, tokens, heads, head_dim]`."""
    batch, heads, tokens, dim = query.shape
    # Head by head in memory: else the products copy what they are given, every time.
    queries = (query * scale).reshape(batch * heads, tokens, dim).contiguous()
    keys = key.reshape(batch * heads, -1, dim).contiguous().transpose(1, 2)
    values = value.reshape(batch * heads, -1, value.shape[-1]).contiguous()
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
    return result.view(batch, heads, tokens, -1).transpose(1, 2).contiguous()


@cache
def faster_attention(dtype: torch.dtype) -> frozenset[str]:
    """Which ways through plain products are faster here than the library's own: of `many` tokens, of `few`.

    Found out by trying, since it depends on who made the processor: the library's own goes through MKL, which is
    at home on Intel's. On two EPYCs products were 1.9 times as fast over many tokens, on a Xeon with AMX 0.7 times.
    """
    module = nn.Identity()
    many = torch.zeros(1, 4, 4 * MANY_TOKENS, 64, dtype=dtype)
    one, kept = torch.zeros(16, 8, 1, 64, dtype=dtype), torch.zeros(16, 2, 160, 64, dtype=dtype)
    mask = torch.ones(16, 1, 1, 160, dtype=torch.bool)
    module.num_key_value_groups = 4  # type: ignore[assignment]  # what transformers reads of a module
    tried = {
        "many": (
            lambda: _attend_to_many(many, many, many, 0.125),
            lambda: sdpa_attention_forward(module, many, many, many, None, is_causal=False),
        ),
        "few": (
            lambda: _attend_to_few(one, kept, kept, mask, 0.125),
            lambda: sdpa_attention_forward(module, one, kept, kept, mask, is_causal=False),
        ),
    }
    with torch.inference_mode():
        return frozenset(
            name
            for name, (ours, theirs) in tried.items()
            if _seconds(theirs, ours) > MARGIN * _seconds(ours, theirs)
        )


def _seconds(call: Callable[[], object], other: Callable[[], object]) -> float:
    """The least time that a call took of several, the other between them."""
    least = float("inf")
    for _ in range(TRIES):
        other()
        began = perf_counter()
        call()
        least = min(least, perf_counter() - began)
    return least


def _are_few(query: Tensor, key: Tensor, mask: Tensor | None) -> bool:
    """Whether all scores, and the keys, are few enough to be held in float32; and the mask one for all heads."""
    if mask is not None and (mask.dim() != 4 or mask.shape[1] != 1 or mask.shape[-1] != key.shape[2]):
        return False
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return 4 * max(scores, key.numel()) <= FEW_BYTES


def _attend_to_few(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention in float32, the queries of one key's heads together; `[batch, tokens, heads, head_dim]`."""
    batch, heads, tokens, dim = query.shape
    groups = key.shape[1]
    grouped = (query.float() * scale).reshape(batch, groups, heads // groups * tokens, dim)
    scores = torch.matmul(grouped, key.float().transpose(-1, -2))
    if mask is not None:
        by_head = scores.view(batch, groups, heads // groups, tokens, -1)
        if mask.dtype == torch.bool:
            # Not minus infinity: a row that sees nothing (padding) must not become NaN.
            by_head.masked_fill_(~mask[:, :, None], torch.finfo(torch.float32).min)
        else:
            by_head += mask[:, :, None]
    result = torch.matmul(torch.softmax(scores, dim=-1), value.float())
    return result.view(batch, heads, tokens, -1).transpose(1, 2).to(query.dtype).contiguous()
