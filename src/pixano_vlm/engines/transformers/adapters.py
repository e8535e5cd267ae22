"""PEFT adapters (LoRA and its kin) over a base model: found, checked, and merged into its weights.

Merged, an adapter costs nothing per token and every way of batching stays open. Over quantized weights it is
kept beside them instead: merging would round most of it away. Knows no architecture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ModelLoadError, PixanoVLMError
from pixano_vlm.extras import import_extra
from pixano_vlm.models.deployment import TransformersParams

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SHOWN = 3
"""How many names of weights an error lists."""


def adapter_files(params: TransformersParams, *, download: bool = True) -> list[Path]:
    """The adapter's config and weights on this machine; none without an adapter.

    Args:
        params: The model's parameters.
        download: Whether the hub may be asked; without it, a file that is not here is left out.

    Raises:
        ModelLoadError: When one is missing; only where `download` is set.
    """
    if params.adapter is None:
        return []
    folder = Path(params.adapter)
    if not folder.is_dir():
        found = _from_hub(params, download=download)
        if found is None:
            return []
        folder = found
    files = [folder / CONFIG, folder / WEIGHTS]
    missing = [file.name for file in files if not file.is_file()]
    if not missing:
        return files
    if not download:
        return [file for file in files if file.is_file()]
    if (folder / "adapter_model.bin").is_file() and missing == [WEIGHTS]:
        raise ModelLoadError(
            f"the adapter {params.adapter!r} has pickled weights alone, and those are not loaded.",
            hint="Save it once more with peft's save_pretrained, which writes safetensors.",
        )
    raise ModelLoadError(
        f"{params.adapter!r} holds no adapter: it has no {' and no '.join(missing)}.",
        hint="Give the folder that peft's save_pretrained wrote, or its id on the hub.",
    )


def require_adapter(params: TransformersParams) -> None:
    """Refuses an adapter that cannot be had, before gigabytes of the base model are read.

    Raises:
        MissingPackageError: When peft is not installed.
        ModelLoadError: When the adapter is missing.
    """
    if params.adapter is not None:
        import_extra("peft", extra="peft", purpose="an adapter")
        adapter_files(params)


def apply_adapter(model: Any, params: TransformersParams, *, merge: bool) -> Any:
    """The model with its adapter; the model itself where none is asked.

    Args:
        model: The base model, on its device.
        params: The model's parameters.
        merge: Whether to add the adapter to the weights; else it is kept beside them.

    Raises:
        MissingPackageError: When peft is not installed.
        ModelLoadError: When the adapter is missing, damaged, of another kind, or for another model.
    """
    if params.adapter is None:
        return model
    peft = import_extra("peft", extra="peft", purpose="an adapter")
    files = adapter_files(params)
    where = f"the adapter {params.adapter!r} cannot be put on {params.path!r}"
    try:
        config = peft.PeftConfig.from_pretrained(files[0].parent)
        if config.is_prompt_learning:
            raise ModelLoadError(
                f"{where}: it is of the kind {config.peft_type.value}, which changes the prompt and not the weights.",
                hint="LoRA adapters and their kin can be used.",
            )
        # `get_base_model` below is the transformers model itself, its layers replaced by ones with adapters.
        adapted = peft.PeftModel.from_pretrained(
            model, files[0].parent, config=config, torch_device=str(model.device), use_safetensors=True
        )
        _check_all_used(adapted, peft, files[1], where)
        return (adapted.merge_and_unload(safe_merge=True) if merge else adapted.get_base_model()).eval()
    except PixanoVLMError:
        raise
    except Exception as error:  # peft raises ValueError, RuntimeError, KeyError, SafetensorError, ...
        text = " ".join(str(error).split())[:400]
        raise ModelLoadError(
            f"{where}: {type(error).__name__}: {text}", hint=_made_for(files[0], params)
        ) from error


def _check_all_used(adapted: Any, peft: Any, weights: Path, where: str) -> None:
    """Refuses an adapter of which some weights found no layer: peft leaves those out with a warning at most."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        saved = set(file.keys())
    unused = sorted(saved - set(peft.get_peft_model_state_dict(adapted)))
    if unused:
        raise ModelLoadError(
            f"{where}: {len(unused)} of its {len(saved)} weights have no place there "
            f"({', '.join(unused[:SHOWN])}{', ...' if len(unused) > SHOWN else ''}).",
            hint="It was made for another model, or for another version of this one.",
        )


def _made_for(config: Path, params: TransformersParams) -> str | None:
    """What the adapter says it was made for, where that is not the path that was given."""
    try:
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError):
        return None
    return f"It was made for {base!r}." if base and base != params.path else None


def _from_hub(params: TransformersParams, *, download: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    assert params.adapter is not None
    try:
        return Path(
            snapshot_download(
                params.adapter,
                allow_patterns=[CONFIG, WEIGHTS],  # a pickle is not even fetched
                cache_dir=params.cache_dir,
                local_files_only=params.local_files_only or not download,
            )
        )
    except Exception as error:  # the hub's own errors, those of the network, and names that are not ids
        if not download:
            return None
        raise ModelLoadError(
            f"the adapter {params.adapter!r} is not a folder here, and cannot be fetched: "
            f"{' '.join(str(error).split())[:300]}",
            hint="It is not on this machine, and local_files_only is set."
            if params.local_files_only
            else "Check the name, and your network; a gated adapter needs `hf auth login`.",
        ) from error
