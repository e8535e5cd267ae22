"""From a path to a transformers model and its processor: what can go wrong there, said plainly.

Knows nothing of batches. The one place that calls `from_pretrained`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import utils as hub_utils

from pixano_vlm.engines.base import read_parameters
from pixano_vlm.engines.transformers.adapters import apply_adapter, require_adapter
from pixano_vlm.engines.transformers.checkpoint import check_whole, checkpoint_folder
from pixano_vlm.engines.transformers.quantization import is_quantized, quantization_config
from pixano_vlm.errors import ConfigError, MissingPackageError, ModelLoadError, PixanoVLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig, TransformersParams
from pixano_vlm.prompts.template_files import adopt_template


def read_params(config: ModelDeploymentConfig) -> TransformersParams:
    """Checks a deployment's parameters.

    Raises:
        ConfigError: When one is unknown or wrong; names it and the nearest known one.
    """
    return read_parameters(config, TransformersParams)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{name!r} is not a device.", hint="Use auto, cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {name!r} was asked for, but this torch sees no GPU.", hint="Use --device cpu."
        )
    return device


def choose_dtype(name: str, checkpoint: Any, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` is the checkpoint's, as far as the device computes in it."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    dtype = checkpoint if isinstance(checkpoint, torch.dtype) else torch.float32
    if device.type == "cpu" and dtype in (torch.float16, torch.bfloat16):
        return torch.bfloat16 if cpu_computes_bfloat16() else torch.float32
    return dtype


def cpu_computes_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16, without which it is slower than float32."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(check is not None and check())


def load_processor(params: TransformersParams) -> Any:
    """The model's processor, with the one chat template that its prompts are written with.

    Raises:
        ConfigError: When the template that is asked for is not there.
        ModelLoadError: When it cannot be built; says which package to install where that is why.
    """
    check_whole(params)
    processor = _processor(params)
    adopt_template(processor, checkpoint_folder(params), params.chat_template)
    return processor


def load_untouched(params: TransformersParams) -> tuple[Any, str | None]:
    """A processor as transformers makes it, and the chat template as it finds it for processor or tokenizer.

    Where it finds none, or another one is asked for, the template is that of `load_processor`.
    """
    processor = _processor(params)
    holders = (processor, getattr(processor, "tokenizer", None))
    found = next((held for holder in holders if (held := getattr(holder, "chat_template", None))), None)
    if isinstance(found, dict):
        found = found.get("default")
    if params.chat_template is None and isinstance(found, str):
        return processor, found
    template: str | None = load_processor(params).chat_template
    processor.chat_template = template
    return processor, template


def _processor(params: TransformersParams) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            params.path,
            revision=params.revision,
            local_files_only=params.local_files_only,
            trust_remote_code=params.trust_remote_code,
            cache_dir=params.cache_dir,
            **params.processor_kwargs,
        )
    except Exception as error:  # from_pretrained raises what the model's code raises
        raise explain(error, params, "processor") from error


@contextmanager
def without_bars() -> Iterator[None]:
    """`transformers` draws no bar of its own over the weights; those of the hub's downloads stay as they are."""
    bars: Any = transformers.utils.logging  # untyped, both
    hub: Any = hub_utils
    shown, downloads = bars.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    bars.disable_progress_bar()  # the hub's too
    if downloads:
        hub.enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
            if not downloads:
                hub.disable_progress_bars()


def load_model(params: TransformersParams) -> Any:
    """The model in eval mode, on its device and in its dtype, quantized and with its adapter where asked.

    Raises:
        ConfigError: When a parameter does not fit this machine or checkpoint.
        ModelLoadError: When it cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    check_whole(params)
    device = choose_device(params.device)
    require_adapter(params)
    source = {
        "revision": params.revision,
        "local_files_only": params.local_files_only,
        "trust_remote_code": params.trust_remote_code,
        "cache_dir": params.cache_dir,
    }
    attention = {"attn_implementation": params.attn_implementation} if params.attn_implementation else {}
    try:
        config = AutoConfig.from_pretrained(params.path, **source)
        stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
        dtype = choose_dtype(params.dtype, stored, device)
        fewer_bits = quantization_config(params, config, dtype)
        # Quantized weights are made on their device, and some kinds cannot be moved afterwards.
        placing = (
            {} if fewer_bits is None else {"quantization_config": fewer_bits, "device_map": {"": device}}
        )
        with without_bars():
            model: Any = AutoModelForImageTextToText.from_pretrained(
                params.path,
                config=config,
                dtype=dtype,
                use_safetensors=True,  # never a pickle
                **source,
                **attention,
                **placing,
            )
    except PixanoVLMError:
        raise
    except Exception as error:  # from_pretrained raises what the model's code raises
        raise explain(error, params, "model") from error
    if fewer_bits is None:
        model = model.to(device)
    return apply_adapter(model.eval(), params, merge=not is_quantized(model))


def explain(error: Exception, params: TransformersParams, part: str) -> ModelLoadError:
    """Turns what `from_pretrained` raised into what is wrong and what to do."""
    text = " ".join(str(error).split())
    where = f"the {part} of {params.path!r} cannot be loaded"
    if "torchvision::" in text or ("torchvision" in text and "operator" in text):
        return MissingPackageError(
            f"{where}: the installed torchvision does not match torch {torch.__version__}.",
            hint="Install the pair that belongs together: pip install -U torch torchvision.",
        )
    if (unknown := _unknown_type(params)) is not None:
        return ModelLoadError(
            f"{where}: transformers {transformers.__version__} does not know its architecture, {unknown!r}.",
            hint="A later release may: pip install -U transformers.",
        )
    packages = _missing_packages(error, text)
    if packages:
        names = " ".join(packages)
        extra = ", or the extra: pip install 'pixano-vlm[torchvision]'" if "torchvision" in packages else ""
        return MissingPackageError(f"{where}: it needs {names}.", hint=f"Run: pip install {names}{extra}.")
    folder = Path(params.path)
    if folder.is_dir() and not (folder / "config.json").exists():
        return ModelLoadError(
            f"{where}: the folder has no config.json.", hint="Give the folder of a saved model."
        )
    if not folder.exists() and (folder.is_absolute() or params.path.startswith((".", "~"))):
        return ModelLoadError(f"{where}: there is no such folder.", hint="Check its spelling.")
    if "safetensors" in text:
        return ModelLoadError(
            f"{where}: it has no safetensors weights, and pickled ones are not loaded.",
            hint="Convert it once with transformers' save_pretrained, or use a revision that has them.",
        )
    if "trust_remote_code" in text:
        return ModelLoadError(
            f"{where}: it brings code of its own.",
            hint="If you trust it, set trust_remote_code: true in its config.",
        )
    if isinstance(error, OSError):
        hint = "Check the name, and your network or cache; a gated model needs `hf auth login`."
        if params.local_files_only:
            hint = "It is not on this machine, and local_files_only is set."
        return ModelLoadError(f"{where}: {text[:300]}", hint=hint)
    return ModelLoadError(f"{where}: {type(error).__name__}: {text[:500]}")


def _unknown_type(params: TransformersParams) -> str | None:
    """The type of a checkpoint on this machine that the installed transformers does not know; None for others."""
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(
            params.path, revision=params.revision, cache_dir=params.cache_dir, local_files_only=True
        )
    except Exception:  # whatever keeps the config from being read is told by what was raised before
        return None
    name = config.get("model_type")
    # One that brings code of its own is not transformers' to know.
    return None if name is None or name in transformers.CONFIG_MAPPING or "auto_map" in config else str(name)


def _missing_packages(error: Exception, text: str) -> list[str]:
    """Packages that an error says are missing. transformers says so in prose alone."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return [error.name.split(".")[0]]
    if not isinstance(error, (ImportError, ValueError)):
        return []
    known = {"PIL": "pillow", "Pillow": "pillow"}
    found = re.findall(r"requires the (\w+) library", text) + re.findall(r"pip install ([\w-]+)", text)
    if isinstance(error, ImportError) and "orchvision" in text:
        found.append("torchvision")
    return sorted({known.get(name, name.lower()) for name in found})
