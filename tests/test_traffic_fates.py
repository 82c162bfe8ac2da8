"""What became of every packet: each counts once, and no duplicate makes up for a loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from testbed.traffic.fates import NOWHERE, Fates
from testbed.traffic.numbers import PacketNumbers, Words

NUMBERS = PacketNumbers(np.array([100, 100]))
NODES = ("n1", "n2")


def words(numbers: Iterable[int]) -> Words:
    return NUMBERS.set_of(np.array(sorted(numbers), dtype=np.int64))


def fates(
    sent: Iterable[int] = range(200),
    delivered: Mapping[str, Iterable[int]] | None = None,
    dropped: Mapping[str, Iterable[int]] | None = None,
    drawn: Mapping[str, Iterable[int]] | None = None,
    swallowed: Mapping[str, Iterable[int]] | None = None,
    again: int = 0,
) -> Fates:
    def by_node(given: Mapping[str, Iterable[int]] | None) -> dict[str, Words]:
        return {node: words((given or {}).get(node, ())) for node in NODES}

    ends = (by_node(given) for given in (delivered, dropped, drawn, swallowed))
    return Fates(NUMBERS, words(sent), *ends, again)


def counts(of: Fates) -> tuple[int, ...]:
    names = ("delivered_pkts", "dropped_pkts", "fault_pkts", "missing_pkts", "repeated_pkts", "unsent_pkts")
    return tuple(of.counts()[name] for name in names)


def test_every_packet_is_at_one_end() -> None:
    made = fates(
        delivered={"n1": range(50), "n2": range(100, 150)},
        dropped={"n1": range(50, 70)},
        drawn={"n2": range(150, 160)},
        swallowed={"n1": range(70, 75), "n2": range(160, 190)},
    )
    assert counts(made) == (100, 20, 45, 35, 0, 0)
    assert made.counts()["sent_pkts"] == 200


def test_a_packet_delivered_at_two_backends_makes_up_for_no_lost_one() -> None:
    made = fates(delivered={"n1": set(range(200)) - {17}, "n2": [42]})
    assert counts(made) == (199, 0, 0, 1, 1, 0)


def test_a_packet_that_was_delivered_and_dropped_makes_up_for_no_lost_one() -> None:
    made = fates(delivered={"n1": set(range(200)) - {17}}, dropped={"n2": [42]})
    assert counts(made) == (199, 0, 0, 1, 1, 0)


def test_what_came_to_one_end_again_is_repeated() -> None:
    assert counts(fates(delivered={"n1": range(200)}, again=3)) == (200, 0, 0, 0, 3, 0)


def test_what_nobody_sent_is_no_packet_of_the_run() -> None:
    assert counts(fates(sent=range(199), delivered={"n1": range(200)})) == (200, 0, 0, 0, 0, 1)


def test_lost_is_what_no_sink_saw_nor_buffer_or_chance_took() -> None:
    made = fates(
        sent=range(190),
        delivered={"n1": range(100)},
        dropped={"n2": [100]},
        drawn={"n2": [101]},
        swallowed={"n2": [102, 103], "n1": [0]},
    )
    assert np.flatnonzero(made.lost()).tolist() == list(range(102, 190))
    at = made.swallowed_at(NODES)
    assert (at[102], at[103], at[104], at[0]) == (1, 1, NOWHERE, 0)
