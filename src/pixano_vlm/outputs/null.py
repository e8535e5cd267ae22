"""Results that are only handed out, and written nowhere."""

from __future__ import annotations

from pixano_vlm.outputs.sink import Sink
from pixano_vlm.records.result import Result

__all__ = ["NullSink"]


class NullSink(Sink):
    """Writes nothing."""

    def write(self, result: Result) -> Result:
        """The result as it is."""
        return result

    def finish(self, *, complete: bool) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is open."""
