"""The inventory of one network namespace: state at the start, notifications, state at the end.

While traffic flows, messages are only stored with their times.  At the end they are applied to the first dump one after
the other, which gives every change with the previous state.  Then the result is compared with a new dump, because the
kernel does not announce every change (for example, it deletes the IPv4 routes of a link without a notification).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from testbed.emulation.inventory import messages, settings
from testbed.emulation.inventory.difference import ABSENT, Difference
from testbed.emulation.inventory.rtnetlink import LINK, Raw, RouteSocket
from testbed.system import kernel

_AS_SET = "as set up"
_SETTLED_WITHIN_S, _POLL_S = 1.5, 0.005
_Stock = dict[messages.Identity, Raw]


class NamespaceStock:
    """The stock of the network namespace of a process.

    Attributes:
        name: what the namespace is called in differences.
    """

    def __init__(self, name: str, pid: int) -> None:
        """Take stock; changes are heard from now on."""
        self.name, self._pid = name, pid
        with kernel.network_of(pid):
            self._socket = RouteSocket()
            self._first = self._settled()
            self._settings = settings.read(_names(self._first).values())
        self._heard: list[tuple[int, Raw]] = []

    def _settled(self) -> list[Raw]:
        """Return all there is once set-up has come to rest: what it leads to later is no change."""
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while any(map(messages.settles, first := self._socket.everything())) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._socket.heard()
        return first

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._socket.fileno()

    def hear(self, now_ns: int) -> None:
        """Keep what has changed since the last call."""
        self._heard += [(now_ns, message) for message in self._socket.heard() if message.family in messages.KINDS]

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def differences(self, now_ns: int) -> list[Difference]:
        """Return all that changed from the start until `now_ns`, heard or not."""
        with kernel.network_of(self._pid):
            self.hear(now_ns)
            last = self._socket.everything()
            read = settings.read(_names(last).values())
            reader = _Reader(self.name, {**_names(last), **_names(self._first)})
            found = [*reader.changes(self._first, self._heard, last), *reader.set_anew(self._settings, read)]
        if self._socket.lost:
            lost = f"some lost: the socket buffer was full {self._socket.lost} times"
            found.append(Difference(self.name, "notifications", "of the kernel", "", "all received", lost))
        return found


class _Reader:
    """Puts differences into words."""

    def __init__(self, namespace: str, interfaces: Mapping[int, str]) -> None:
        self._namespace, self._interfaces = namespace, {**messages.EVERY_INTERFACE, **interfaces}

    def changes(self, first: Iterable[Raw], heard: Iterable[tuple[int, Raw]], last: Iterable[Raw]) -> list[Difference]:
        found: list[Difference] = []
        stock = _stock(first)
        for t_ns, message in heard:
            self._interfaces = {**_names([message]), **self._interfaces}
            found += self._one(stock, message, t_ns)
        rest = _stock(last)
        for key in stock.keys() | rest.keys():
            found += self._between(stock.get(key), rest.get(key), None)
        return found

    def _one(self, stock: _Stock, message: Raw, t_ns: int) -> Iterator[Difference]:
        """Lay a message over the stock, and yield what it changes there."""
        key = messages.identity(message)
        if key is None:
            return
        before, after = stock.pop(key, None), None if message.gone or not messages.counts(message) else message
        if before and after:
            after = messages.merged(before, after)
        if after is not None and not messages.passes(after):
            stock[key] = after
        if messages.passes(message):  # no notification said when it came: this is all that is known of it
            before, after = (message, None) if message.gone else (None, message)
        yield from self._between(before, after, t_ns)
        if messages.tells_of_offloads(message):
            yield self._difference(message, "offloads", self._interface(message), "", _AS_SET, "switched", t_ns)

    def _between(self, before: Raw | None, after: Raw | None, t_ns: int | None) -> Iterator[Difference]:
        message = before or after
        if message is None or (before and after and messages.essence(before) == messages.essence(after)):
            return
        old, new = ({} if raw is None else messages.words(raw) for raw in (before, after))
        kind, thing = messages.KINDS[message.family], self._thing(message, old or new)
        if before and after:
            for name in sorted(old.keys() | new.keys()):
                pair = old.get(name, ABSENT), new.get(name, ABSENT)
                if pair[0] != pair[1]:
                    yield self._difference(message, kind, thing, name, *pair, t_ns)
        else:
            summary = messages.summary(message, old or new)
            pair = (summary, ABSENT) if before else (ABSENT, summary)
            yield self._difference(message, kind, thing, "", *pair, t_ns)

    def set_anew(self, before: settings.Settings, after: settings.Settings) -> Iterator[Difference]:
        for key in sorted(before.keys() | after.keys()):
            kind, name = key
            old, new = before.get(key, ABSENT), after.get(key, ABSENT)
            if old == new:
                continue
            if kind == "offloads" and ABSENT not in (old, new):
                old, new = _AS_SET, settings.in_words(settings.feature_names(name), old, new)
            interface = name if kind in ("offloads", "channels") else ""
            yield Difference(self._namespace, kind, name, "", old, new, None, interface)

    def _difference(
        self, message: Raw, kind: str, thing: str, what: str, before: str, after: str, t_ns: int | None
    ) -> Difference:
        return Difference(self._namespace, kind, thing, what, before, after, t_ns, self._interface(message))

    def _interface(self, message: Raw) -> str:
        index = messages.interface_index(message)
        return "" if index is None else self._interfaces.get(index, f"interface {index}")

    def _thing(self, message: Raw, words: Mapping[str, str]) -> str:
        name, interface = messages.name_of(message, words), self._interface(message)
        return interface if message.family == LINK else f"{name} on {interface}".strip() if interface else name


def _stock(raws: Iterable[Raw]) -> _Stock:
    keyed = ((messages.identity(raw), raw) for raw in raws if messages.counts(raw))
    return {key: raw for key, raw in keyed if key is not None}


def _names(raws: Iterable[Raw]) -> dict[int, str]:
    """Return the name of each interface that the messages tell of, by index."""
    return {
        index: name
        for raw in raws
        if raw.family == LINK and (index := messages.interface_index(raw)) and (name := messages.link_name(raw))
    }
