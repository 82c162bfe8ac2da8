"""The pulse of a process: two beats too far apart are a stall, and it is known whatever became of the process."""

from __future__ import annotations

import os

from testbed.emulation.processes.pulse import Pulse
from testbed.records.stages import KEPT_STALLS, Stall
from testbed.units import NS_PER_MS

PERIOD_NS = 10 * NS_PER_MS
T0_NS = 5_000 * NS_PER_MS


def beaten(*times_ms: float) -> Pulse:
    pulse = Pulse(PERIOD_NS)
    first, *others = (T0_NS + round(time_ms * NS_PER_MS) for time_ms in times_ms)
    pulse.begin(first)
    for time_ns in others:
        pulse.beat(time_ns)
    return pulse


def ms(began: float, lasted: float) -> Stall:
    return Stall(round(began * NS_PER_MS), round(lasted * NS_PER_MS))


def test_beats_a_period_apart_are_no_stall() -> None:
    assert beaten(0, 10, 20.9, 25, 35).stalls(T0_NS) == ()


def test_beats_further_apart_are_a_stall_without_the_time_of_waiting() -> None:
    assert beaten(0, 10, 120, 130, 145).stalls(T0_NS) == (ms(20, 100), ms(140, 5))


def test_a_process_that_stands_still_now_is_seen() -> None:
    pulse = beaten(0, 10)
    assert pulse.stalls(T0_NS) == ()
    assert pulse.stalls(T0_NS, T0_NS + 15 * NS_PER_MS) == ()
    assert pulse.stalls(T0_NS, T0_NS + 320 * NS_PER_MS) == (ms(20, 300),)


def test_what_was_before_the_start_does_not_count() -> None:
    pulse = Pulse(PERIOD_NS)
    pulse.begin(T0_NS - 900 * NS_PER_MS)
    pulse.beat(T0_NS - 500 * NS_PER_MS)
    pulse.beat(T0_NS + 40 * NS_PER_MS)
    assert pulse.stalls(T0_NS) == (ms(0, 40),)


def test_a_new_life_owes_nothing_to_the_former() -> None:
    pulse = beaten(0, 10)
    pulse.begin(T0_NS + 900 * NS_PER_MS)
    pulse.beat(T0_NS + 905 * NS_PER_MS)
    assert pulse.stalls(T0_NS) == ()


def test_a_loop_that_never_began_is_no_stall() -> None:
    pulse = Pulse(PERIOD_NS)
    assert pulse.stalls(T0_NS, T0_NS + PERIOD_NS * 100) == ()
    pulse.beat(T0_NS)
    assert pulse.stalls(T0_NS) == ()


def test_the_longest_are_kept() -> None:
    pulse = Pulse(PERIOD_NS)
    now_ns = T0_NS
    pulse.begin(now_ns)
    lengths = [2 + k % 100 for k in range(3 * KEPT_STALLS)]
    for length_ms in lengths:
        now_ns += PERIOD_NS + length_ms * NS_PER_MS
        pulse.beat(now_ns)
    kept = sorted(stall.lasted_ns // NS_PER_MS for stall in pulse.stalls(T0_NS))
    assert kept == sorted(lengths)[-KEPT_STALLS:]


def test_a_process_that_is_gone_has_left_its_stalls() -> None:
    pulse = Pulse(PERIOD_NS)
    child = os.fork()
    if child == 0:
        pulse.begin(T0_NS)
        pulse.beat(T0_NS + 110 * NS_PER_MS)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert pulse.stalls(T0_NS) == (ms(10, 100),)
