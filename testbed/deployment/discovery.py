"""Where the members of a cluster are: names, asked for again and again, since a pod that is replaced has a new address.

    thread ─ getaddrinfo of every name, each `INTERVAL_S` ─▶ addresses ◀─ who sends: the last one known

A name that is not known (the pod does not run yet) is no error: whoever sends to it gets an `OSError`, as from a host
that is down.  A name that stops resolving keeps its last address: the DNS may be away for longer than the pod.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from testbed.errors import TestbedError

INTERVAL_S = 0.5
Address = tuple[str, int]
Lookup = Callable[[str], str]


class Unknown(OSError):
    """A name has no address (yet)."""


class Directory(Mapping[str, Address]):
    """The addresses of members by name; a mapping that changes while it is read."""

    def __init__(
        self,
        hosts: Mapping[str, Address],
        lookup: Lookup | None = None,
        fixed: Mapping[str, Address] | None = None,
    ) -> None:
        """Know nobody yet.

        Args:
            hosts: host and port of each member.
            lookup: returns the IPv4 address of a host, raises `OSError` without one; default the system's resolver.
            fixed: addresses that are never looked up: where this process itself listens.
        """
        self._hosts, self._lookup = dict(hosts), lookup or resolved
        self._known: dict[str, Address] = dict(fixed or {})
        self._over = threading.Event()
        self._changed: Callable[[str, str], None] = lambda _name, _ip: None

    def __getitem__(self, name: str) -> Address:
        """Return the last known address.

        Raises:
            Unknown: there is none.
            KeyError: there is no such member.
        """
        if name in self._known:
            return self._known[name]
        raise Unknown(f"{name} ({self._hosts[name][0]}) is not known")

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def look(self) -> None:
        """Ask for every name once."""
        for name, (host, port) in self._hosts.items():
            try:
                ip = self._lookup(host)
                if self._known.get(name) != (ip, port):
                    self._changed(name, ip)
                    self._known[name] = ip, port
            except OSError:
                continue
            except TestbedError as error:
                sys.stderr.write(f"testbed: {error}\n")

    def on_change(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed` with a name and its new IP whenever it has one; if that fails, once more at the next look."""
        self._changed = changed

    def start(self) -> None:
        """Ask again and again, in a thread of this process."""
        threading.Thread(target=self._repeat, name="directory", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()

    def _repeat(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(INTERVAL_S)


def resolved(host: str) -> str:
    """Return the IPv4 address of a host.

    Raises:
        OSError: it has none.
    """
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
