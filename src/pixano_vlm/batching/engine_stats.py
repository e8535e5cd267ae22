"""What a run of the continuous batching engine did: counts, and seconds by part."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineStats"]


@dataclass(slots=True)
class EngineStats:
    """What a run did: counts, and seconds by part."""

    vision_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prefill_calls: int = 0
    prefill_tokens: int = 0
    decode_steps: int = 0
    decode_rows: int = 0
    peak_cache_bytes: int = 0
    out_of_memory: int = 0

    @property
    def model_seconds(self) -> float:
        """Seconds inside the model's forward calls."""
        return self.vision_seconds + self.prefill_seconds + self.decode_seconds
