"""What a service tells its manager: that it is ready, alive, reloading or stopping (sd_notify(3)).

A datagram to the socket that ``NOTIFY_SOCKET`` names; without it nobody listens and nothing is sent.  An abstract
socket's name begins with ``@``.  Sending never blocks and never fails the service.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from testbed.units import NS_PER_US


class ServiceManager:
    """Who started us as a service, if anybody did."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Take the address from the environment."""
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def ready(self) -> None:
        """Say that the service has begun, or has reloaded."""
        self._tell("READY=1")

    def alive(self) -> None:
        """Say that the service makes progress: without it, the manager ends the service after ``WatchdogSec``."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the configuration is being reloaded; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // NS_PER_US}")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in a line what the service does."""
        self._tell(f"STATUS={text}")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _tell(self, what: str) -> None:
        if self._address:
            with suppress(OSError):
                self._socket.sendto(what.encode(), self._address)
