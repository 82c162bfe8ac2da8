"""Alarms and bursts as events: which alarm announced which burst, its lead time, and the score of random alarms.

`prediction.recall` only requires that an alarm was *active* at the onset of a burst, and `prediction.precision` accepts
alarms that come late or never end.  So a permanent alarm has a recall and a precision of 1.  The metrics defined here
do not reward it.

- *Event recall*: bursts with an alarm that **begins** less than the matching window W = 1 s before their onset, of all
  bursts.  *Event precision*: alarms with an onset less than W after they begin, of all alarms.  An alarm at the onset
  or after it does not count.  An event counts once, however many match it.
- *First alarm* of a burst: the first to begin from W before its onset, but not before the burst before ended, until the
  end of the burst.  Its time is that of the onset minus that of the alarm: positive ahead of the burst, negative in it.
- *Time in alarm*: fraction of the time of the nodes in which an alarm is active.
- *Recall over chance*: recall minus the time in alarm.  Random alarms with the same time in alarm are active at the
  same fraction of the onsets, so the value is 0 for random alarms and for a permanent alarm.

Source: N. Tatbul, T. J. Lee, S. Zdonik, M. Alam, J. Gottschlich, "Precision and recall for time series", NeurIPS 2018
(events in place of samples); D. E. Snyder, J. Echauz, D. B. Grimes, B. Litt, "The statistics of a practical seizure
warning system", Journal of Neural Engineering 5, 2008 (time in warning, and sensitivity over that of chance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.records.events import Floats
from testbed.results.queues import Spans
from testbed.units import NS_PER_MS, NS_PER_S

WINDOW_NS = NS_PER_S


@dataclass(frozen=True, slots=True)
class Watched:
    """One node: its bursts, its alarms, and how long (ns) it was watched."""

    bursts: Spans
    alarms: Spans
    watched_ns: int


def alarm_figures(nodes: Sequence[Watched], recall: float | None) -> dict[str, Any]:
    """Return the figures of the head of this file; one without a single case is left out.

    Args:
        nodes: those that forecast.
        recall: share of the bursts with an alarm in force at their onset, if there were bursts.
    """
    bursts, alarms = sum(len(node.bursts) for node in nodes), sum(len(node.alarms) for node in nodes)
    section: dict[str, Any] = {}
    if bursts:
        section["event_recall"] = sum(int(np.sum(announced(node))) for node in nodes) / bursts
    if alarms:
        section["event_precision"] = sum(int(np.sum(announcing(node))) for node in nodes) / alarms
    first = np.concatenate([first_alarms_ns(node) for node in nodes])
    if first.size:
        section["first_alarm_ms"] = {"p50": float(np.median(first)) / NS_PER_MS}
    watched_ns = sum(node.watched_ns for node in nodes)
    if watched_ns:
        in_alarm_ns = sum(int(np.sum(node.alarms.end_ns - node.alarms.begin_ns)) for node in nodes)
        section["time_in_alarm_ratio"] = in_alarm_ns / watched_ns
        if recall is not None:
            section["recall_over_chance"] = recall - section["time_in_alarm_ratio"]
    return section


def announced(node: Watched) -> np.ndarray:
    """Return for each burst whether an alarm begins less than the window before it; bool, shape [bursts]."""
    onsets, begins = node.bursts.begin_ns, node.alarms.begin_ns
    answer: np.ndarray = np.searchsorted(begins, onsets) > np.searchsorted(begins, onsets - WINDOW_NS, side="right")
    return answer


def announcing(node: Watched) -> np.ndarray:
    """Return for each alarm whether a burst begins less than the window after it; bool, shape [alarms]."""
    onsets, begins = node.bursts.begin_ns, node.alarms.begin_ns
    answer: np.ndarray = np.searchsorted(onsets, begins + WINDOW_NS) > np.searchsorted(onsets, begins, side="right")
    return answer


def first_alarms_ns(node: Watched) -> Floats:
    """Return how long before their onset the first alarms of the bursts begin; of bursts that have one, float64."""
    bursts, begins = node.bursts, node.alarms.begin_ns
    since = np.maximum(bursts.begin_ns - WINDOW_NS, np.concatenate(([0], bursts.end_ns))[: len(bursts)])
    first, after = np.searchsorted(begins, since), np.searchsorted(begins, bursts.end_ns)
    has = first < after
    lead: Floats = (bursts.begin_ns[has] - begins[first[has]]).astype(np.float64)
    return lead
