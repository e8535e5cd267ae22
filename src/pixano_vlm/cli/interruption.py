"""Ctrl-C and SIGTERM: the first asks the run to stop in good order, the second ends the process at once.

Both are safe, because a record counts as done only when it is written and flushed; the first also finishes
what is in flight and says how to resume.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from pixano_vlm.cli.errors import EXIT_INTERRUPTED

__all__ = ["Interruption"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SHOW_CURSOR = "\x1b[?25h"


class Interruption:
    """While entered, calls `on_first` at the first signal and ends the process at the second.

    Args:
        on_first: Called once, from the signal handler, when the first signal arrives.
    """

    def __init__(self, on_first: Callable[[], object]) -> None:
        self.ends_at_once = False
        """While set, the first signal raises KeyboardInterrupt: there is nothing yet to end well."""
        self._is_first = True
        self._on_first = on_first
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Interruption:
        # Python lets only the main thread set handlers; a run in another is stopped by whoever started it.
        for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._is_first:
            if sys.stderr.isatty():
                os.write(2, SHOW_CURSOR.encode())
            os._exit(EXIT_INTERRUPTED)
        self._is_first = False
        if self.ends_at_once:
            raise KeyboardInterrupt
        self._on_first()
