"""A Mininet host whose network namespace is created at once, but whose shell starts with its first command.

A shell on a pseudo-terminal needs 15 ms to answer and 3.5 MB, and few hosts of a trial ever run a command.  Every host
has a small process that holds the namespace.  `cmd`, `popen` and all other methods of Mininet work as usual.
"""

from __future__ import annotations

from subprocess import PIPE
from typing import Any

from mininet.node import Host

# Says that it is in its namespace, then waits for an end of input that never comes; by its last word it is found.
_HOLD = ("sh", "-c", "echo; read -r end")


class NamespaceHost(Host):  # type: ignore[misc]
    """A host of the emulated network."""

    def startShell(self, mnopts: str | None = None) -> None:  # noqa: N802 (Mininet's names)
        """Start the process that holds the namespace (Mininet calls this); `settle` waits for it."""
        self._holder = self._popen(["mnexec", "-cdn", *_HOLD, f"mininet:{self.name}"], stdin=PIPE, stdout=PIPE)
        self.pid = self._holder.pid

    def settle(self) -> None:
        """Wait until the namespace is there."""
        self._holder.stdout.read(1)

    def cmd(self, *args: Any, **kwargs: Any) -> Any:
        """Give the shell a command and return what it says; see Mininet's."""
        self._open_shell()
        return super().cmd(*args, **kwargs)

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802 (Mininet's name)
        """Give the shell a command; see Mininet's."""
        self._open_shell()
        super().sendCmd(*args, **kwargs)

    def terminate(self) -> None:
        """End the shell, if there is one, and the namespace with what holds it."""
        super().terminate()
        self._holder.terminate()
        self._holder.communicate()

    def _open_shell(self) -> None:
        """Start the shell where the holder is, unless it runs; the host is still identified by the holder."""
        if self.shell is not None:
            return
        holder, self.inNamespace = self.pid, False
        super().startShell(f"-cda{holder}")
        self.pid, self.inNamespace = holder, True
