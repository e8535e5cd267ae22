"""What a run came to: counts, tokens, rates. Plain numbers; who prints them is not known here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pixano_vlm.records.output_line import error_message
from pixano_vlm.records.result import Result


@dataclass(slots=True)
class Summary:
    """Counts of one run. Tokens and images are those of the records this run answered itself."""

    ok: int = 0
    """Records answered in this run."""
    failed: int = 0
    """Records that this run could not answer."""
    reused: int = 0
    """Records whose answer was there already."""
    reused_failed: int = 0
    """Records whose error was there already, not tried again."""
    images: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    seconds: float = 0.0
    """Wall time, loading the model included."""
    generating_seconds: float = 0.0
    """Wall time from the moment the model was loaded."""
    retried: int = 0
    """Records that were asked more than once, because the first answer was flagged."""
    flags: Counter[str] = field(default_factory=Counter)
    """Flag -> how many records this run answered carry it."""
    errors: Counter[str] = field(default_factory=Counter)
    """Error type -> how many records."""
    first_errors: dict[str, str] = field(default_factory=dict)
    """Error type -> the message of the first such record."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Of a folder, suffix -> how many files were not read."""
    interrupted: bool = False
    sidecars_written: int = 0
    """Files that were written beside images."""

    @property
    def records(self) -> int:
        """Records with a line in the output."""
        return self.ok + self.failed + self.reused + self.reused_failed

    @property
    def records_per_second(self) -> float:
        """Records this run answered, per second of generating."""
        return self.ok / self.generating_seconds if self.generating_seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second of generating."""
        return self.completion_tokens / self.generating_seconds if self.generating_seconds else 0.0

    @property
    def tokens_per_record(self) -> float:
        """Mean of generated tokens over the records this run answered."""
        return self.completion_tokens / self.ok if self.ok else 0.0

    def add(self, result: Result) -> None:
        """Counts one result."""
        self.retried += result.attempts > 1
        if result.output is None:
            self.failed += 1
            kind = type(result.error).__name__
            self.errors[kind] += 1
            self.first_errors.setdefault(kind, error_message(result.request, result.error))
            return
        for flag in (*result.flags, *result.image_flags):
            self.flags[flag] += 1
        usage = result.output.usage
        self.ok += 1
        self.images += len(result.request.images)
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.total_tokens += usage.total_tokens

    def to_dict(self) -> dict[str, Any]:
        """Every figure under its name, for `--summary-json`."""
        return {
            "records": self.records,
            "ok": self.ok,
            "failed": self.failed,
            "reused": self.reused,
            "reused_failed": self.reused_failed,
            "interrupted": self.interrupted,
            "images": self.images,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "tokens_per_record": round(self.tokens_per_record, 3),
            "seconds": round(self.seconds, 3),
            "generating_seconds": round(self.generating_seconds, 3),
            "records_per_second": round(self.records_per_second, 3),
            "tokens_per_second": round(self.tokens_per_second, 3),
            "retried": self.retried,
            "flags": dict(sorted(self.flags.items())),
            "errors": dict(sorted(self.errors.items())),
            "passed_over": dict(sorted(self.passed_over.items())),
        }
