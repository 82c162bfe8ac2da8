"""A terminal for a command inside a node: a pseudo-terminal of ours, connected to the user's terminal.

    user's terminal (raw) ⇄ this process ⇄ master │ slave ⇄ the command, which the slave controls

So a shell has job control, editors work, and Ctrl-C reaches the command in the node, not this process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.system import waiting
from testbed.units import NS_PER_S

_BATCH = 65_536
_SIZE = struct.Struct("HHHH")


class Terminal:
    """A pseudo-terminal: made before the command's process is forked, of which each side keeps one end."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        self._fit()

    def become_mine(self) -> None:
        """Make it the controlling terminal and the standard streams of this process."""
        os.setsid()
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)
        for stream in (0, 1, 2):
            os.dup2(self._slave, stream)
        self.forget()

    def forget(self) -> None:
        """Let go of both ends, in a process between the two sides."""
        os.close(self._master)
        os.close(self._slave)

    def relay(self) -> None:
        """Carry what is typed and what is printed, until nobody holds the other end any more."""
        os.close(self._slave)
        sources = [self._master, sys.stdin.fileno()]
        with _raw(sys.stdin.fileno()), self._following():
            while self._master in sources:
                for ready in waiting.readable(sources, NS_PER_S):
                    data = _read(ready)
                    if ready == self._master:
                        _write(sys.stdout.fileno(), data)
                    else:
                        _write(self._master, data or b"\x04")  # the end of what we are given is Ctrl-D there
                    if not data:
                        sources.remove(ready)
        os.close(self._master)

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Follow the size of the user's terminal for the length of the block."""
        before = signal.signal(signal.SIGWINCH, lambda *_: self._fit())
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)

    def _fit(self) -> None:
        try:
            size = os.get_terminal_size(sys.stdin.fileno())
        except OSError:  # it is none
            return
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, _SIZE.pack(size.lines, size.columns, 0, 0))


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Pass every key on for the length of the block; what is no terminal stays as it is."""
    try:
        before = termios.tcgetattr(descriptor)
        tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is not lost
    except termios.error:
        yield
        return
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _BATCH)
    except OSError as error:
        if error.errno != errno.EIO:  # nobody holds the other end
            raise
        return b""


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
