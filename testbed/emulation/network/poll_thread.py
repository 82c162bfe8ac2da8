"""The thread of the switch that forwards between AF_XDP ports; Open vSwitch calls it a poll mode driver (PMD).

The main thread of the switch also handles OpenFlow messages, statistics and port changes.  If it forwards as well,
packets wait while it does something else, and at 300 Mbit/s it is close to its capacity.  A poll thread only forwards.
By default it polls without end and occupies a core.  With ``pmd-maxsleep`` it sleeps as soon as its ports deliver few
packets, longer each time, up to `LONGEST_SLEEP_US`.

    forwarding thread (burst.yaml)            client to node, p99       cores in use, of 2
    main thread, priority 7                   4.5 to 14.8 ms            1.16 to 1.19
    poll thread, priority 7, on one core      1.5 to 2.5 ms; 91 ms once 0.91 to 1.06
    poll thread, priority 11, on any core     0.17 to 0.20 ms           1.07 to 1.12

A longer sleep makes packets wait longer, but more of them are forwarded at each wake-up.  With short sleeps the thread
interrupts the processes of lower priority some thousand times a second in bursts, and the balancer does not keep up:

    longest sleep     client to node, p50, p99     runs in which the balancer stalled for more than 20 ms
    50 us             0.06 ms, 0.2 ms              7 of 14
    150 us            0.12 ms, 0.3 ms              1 of 5
    250 us            0.17 ms, 0.4 ms              1 of 10
    500 us            0.28 ms, 0.7 ms              0 of 3

Its priority is higher than that of agents and controllers: a packet takes microseconds, a control loop milliseconds.
Senders have a higher one, because they must send at the planned times.  Open vSwitch binds the thread to one core.  If
a process of higher priority used that core, packets would wait although another core is idle, so the thread is allowed
to run on every core.

Source: Open vSwitch 3.1, lib/dpif-netdev.c (pmd_thread_main) and NEWS: ``pmd-maxsleep`` since 3.1, named
``pmd-sleep-max`` since 3.2.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from testbed.system import kernel

PRIORITY = 11
LONGEST_SLEEP_US = 250
OLDEST_SWITCH = (3, 1)
_NAME = "pmd-"


def options() -> list[str]:
    """Return the settings of the switch: one poll thread, which sleeps when there is little to forward."""
    core = max(os.sched_getaffinity(0))
    sleeps = [f"other_config:{key}={LONGEST_SLEEP_US}" for key in ("pmd-maxsleep", "pmd-sleep-max")]
    return [f"other_config:pmd-cpu-mask={1 << core:#x}", *sleeps]


def sleeps(version: str) -> bool:
    """Tell whether the poll thread of this Open vSwitch (``ovs-vswitchd --version``) sleeps when it is idle."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return found is not None and tuple(map(int, found.groups())) >= OLDEST_SWITCH


def give_priority(tid: int) -> None:
    """Give a poll thread its priority and all cores."""
    os.sched_setaffinity(tid, os.sched_getaffinity(0))
    kernel.run_in_real_time(PRIORITY, tid)


def is_poll_thread(pid: int, tid: int) -> bool:
    """Return whether a thread of a process is a poll thread, by its name."""
    return Path(f"/proc/{pid}/task/{tid}/comm").read_text(encoding="utf-8").startswith(_NAME)
