"""Ports for servers that a test starts as processes."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port that nobody listens on, below those that systems hand out to outgoing connections.

    Those begin at 32768 or higher, so that no connection of another process takes it while the server is not there.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) != 0:
                return port
