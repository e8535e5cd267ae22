"""A disk that writes in pieces, fills up, fails now and then, takes time, and forgets what was not fsynced."""

from __future__ import annotations

import errno
import os
import random

from tests.fakes import FakeDisk, PowerCut
from tests.simulate.world import VirtualClock

__all__ = ["SimulatedDisk"]


class SimulatedDisk(FakeDisk):
    """Files in memory.

    Args:
        clock: Syncing takes time by it.
        rng: Decides everything.
    """

    def __init__(self, clock: VirtualClock, rng: random.Random) -> None:
        super().__init__()
        self.random = rng
        self.clock = clock
        self.fail_at: int | None = None
        """The operation that fails once, with an error of the system."""
        self.latency = 0.0
        """Seconds that a sync takes at most."""
        self.failed_at: float | None = None
        """When an operation of this process first did."""

    def calm(self) -> None:
        """From now on nothing fails."""
        self.fail_at = self.room = self.cut_at = None
        self.latency, self.failed_at = 0.0, None

    def die(self) -> None:
        """The process is killed now: it does nothing more."""
        self.cut_at = -1
        raise PowerCut

    def _has_failed(self) -> None:
        if self.failed_at is None:
            self.failed_at = self.clock.now()

    def _step(self) -> bool:
        is_cut = super()._step()
        if self.fail_at is not None and self.operations >= self.fail_at and not is_cut:
            self.fail_at = None
            self._has_failed()
            number = self.random.choice([errno.EIO, errno.ENOSPC, errno.EDQUOT])
            raise OSError(number, os.strerror(number))
        return is_cut

    def write_some(self, fd: int, data: bytes, offset: int) -> int:
        if len(data) > 1 and self.random.random() < 0.2:
            data = data[: self.random.randint(1, len(data) - 1)]
        try:
            return super().write_some(fd, data, offset)
        except OSError:
            self._has_failed()
            raise

    def sync(self, fd: int) -> None:
        if self.latency:
            # Not by the alarms: the process that syncs does nothing else meanwhile.
            self.clock.time += self.random.random() * self.latency
        super().sync(fd)
