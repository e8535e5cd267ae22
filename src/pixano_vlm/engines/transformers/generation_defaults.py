"""What a checkpoint's generation config asks beside its end tokens: what is heeded, and what is not and why.

A setting that belongs to the model (tokens that it forces or forbids, strings that end its answers) is heeded. How to
sample is what each record says. What would make an answer depend on its batch, or on the machine, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["GenerationDefaults", "settle", "vllm_defaults"]

HEEDED = frozenset(
    {
        "bad_words_ids", "begin_suppress_tokens", "exponential_decay_length_penalty", "forced_bos_token_id",
        "forced_eos_token_id", "no_repeat_ngram_size", "remove_invalid_values", "renormalize_logits", "sequence_bias",
        "stop_strings", "suppress_tokens",
    }
)  # fmt: skip
OF_ENCODERS = frozenset({"encoder_no_repeat_ngram_size", "encoder_repetition_penalty"})
"""Heeded where there is an encoder whose tokens they are about."""
OF_RECORDS = frozenset(
    {
        "do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h",
        "repetition_penalty", "max_length", "max_new_tokens",
    }
)  # fmt: skip
"""Each record says these, or its run does."""
WITHOUT_EFFECT = frozenset(
    {
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version",
        "use_cache", "cache_implementation", "cache_config", "compile_config", "disable_compile", "low_memory",
        "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
        "prefill_chunk_size", "return_legacy_cache", "continuous_batching_config", "max_matching_ngram_size",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "assistant_early_exit", "assistant_lookbehind", "target_lookbehind", "is_assistant",
        "length_penalty", "early_stopping", "diversity_penalty", "num_beam_groups",
    }
)  # fmt: skip
"""Tokens, bookkeeping, and what says something only beside a setting that is not heeded."""


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What one generation config asks."""

    heeded: dict[str, Any]
    of_records: dict[str, Any]
    """Left to the records."""
    not_heeded: dict[str, Any]

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end every answer."""
        held = self.heeded.get("stop_strings") or ()
        return (held,) if isinstance(held, str) else tuple(held)


def settle(config: Any, *, has_encoder: bool) -> GenerationDefaults:
    """Sorts what a `GenerationConfig` asks, and takes out of it what is not heeded, and the stop strings.

    `generate` fills in what is left open from this config, so that nothing less would do.
    """
    plain = type(config)().to_dict()
    asked = {
        name: value
        for name, value in config.to_dict().items()
        if name in plain
        and name[0] != "_"
        and value != plain[name]
        and value not in (None, [], {})
        and name not in WITHOUT_EFFECT
        and not _is_off(name, value)
    }
    heeded = HEEDED | OF_ENCODERS if has_encoder else HEEDED
    found = GenerationDefaults(
        heeded={name: value for name, value in asked.items() if name in heeded},
        of_records={name: value for name, value in asked.items() if name in OF_RECORDS},
        not_heeded={name: value for name, value in asked.items() if name not in heeded | OF_RECORDS},
    )
    for name in asked.keys() - heeded - OF_RECORDS:
        setattr(config, name, plain[name])
    config.stop_strings = None
    return found


def vllm_defaults(named: dict[str, Any]) -> GenerationDefaults:
    """What a generation config asks of vLLM, which is told the strings that end answers, and nothing else of it.

    Args:
        named: What the generation config names.
    """
    from transformers import GenerationConfig

    found = settle(GenerationConfig.from_dict(named), has_encoder=False)
    kept = {name: value for name, value in found.heeded.items() if name == "stop_strings"}
    others = {name: value for name, value in found.heeded.items() if name not in kept}
    return GenerationDefaults(kept, found.of_records, found.not_heeded | others)


OFF = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "guidance_scale": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "penalty_alpha": 0,
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "token_healing": False,
    "prompt_lookup_num_tokens": 0,
}
"""What says the same as saying nothing."""


def _is_off(name: str, value: Any) -> bool:
    return bool(name in OFF and value == OFF[name])
