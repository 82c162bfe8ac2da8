"""One difference between expected and present state: where, of what, before, after and when."""

from __future__ import annotations

from typing import NamedTuple

ABSENT = "absent"


class Difference(NamedTuple):
    """One difference.

    Attributes:
        namespace: whose network it is: a host's name, ``switch``, or empty for things that are in none.
        kind: of the thing: ``link``, ``qdisc``, ``process``…
        thing: which one, in words that follow the kind.
        what: which of its attributes; empty when it came or went as a whole.
        before, after: values in words.
        t_ns: when, on the run's clock; None: at some time between start and end.
        interface: that the thing belongs to; empty for none.
        by_ns: by when at the latest, where `t_ns` is only the time after which; None: it is the time itself.
    """

    namespace: str
    kind: str
    thing: str
    what: str
    before: str
    after: str
    t_ns: int | None = None
    interface: str = ""
    by_ns: int | None = None
