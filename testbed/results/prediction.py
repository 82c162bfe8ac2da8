"""Did the forecasts announce the bursts?  Definitions, and their scores.

- *Burst*: an interval in which the node would need more than the floor (`queues.bursts`; computed from the arrivals
  only, so all policies with the same plan have the same bursts).  Its onset is the time at which the demand exceeds the
  floor.
- *Alarm*: an interval of samples whose forecast is above the floor.  Pauses of up to 50 ms do not end a burst or an
  alarm, so a forecast that fluctuates around the floor is one alarm, not ten.
- *Lead* of a burst: from the beginning of the alarm that is active at its onset (or from the end of the previous burst,
  if the alarm began earlier) to the onset; at most 1 s, so that a permanent alarm gains no more than that.
- *Recall*: bursts with a lead above 0, of all bursts.  *Precision*: alarms with a burst during them or within 200 ms
  after them, of all alarms.  *False alarms* are the others, per minute of one node.

`alarms` defines the metrics of alarms and bursts as events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.records.events import Floats
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.results.alarms import Watched, alarm_figures
from testbed.results.queues import Spans, bursts, stretches
from testbed.units import NS_PER_MS, NS_PER_S

JOIN_GAP_NS = 50 * NS_PER_MS
LEAD_CAP_NS = NS_PER_S
REACH_NS = 200 * NS_PER_MS  # how long after its end an alarm may still have been right
_NS_PER_MIN = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class NodeScore:
    """The score of one node: how many alarms were right, and the lead (ns) of each burst that had one."""

    watched: Watched
    true_alarms: int
    leads_ns: Floats


def bursts_of(samples: Mapping[str, NodeSamples], facts: RunFacts) -> dict[str, Spans]:
    """Return the bursts of every node whose rate is known."""
    rates, floor, cap = facts.node_rate_bps, facts.floor_bytes, facts.cap_bytes
    return {node: bursts(rows, rates[node], floor, cap, JOIN_GAP_NS) for node, rows in samples.items() if node in rates}


def score_node(samples: NodeSamples, found: Spans, floor_bytes: int) -> NodeScore:
    """Return how well the forecasts of one node announced its bursts `found`."""
    predicted = np.nan_to_num(samples.optional["predicted_bytes"], nan=0.0)
    alarms = stretches(samples.t_ns, predicted > floor_bytes, JOIN_GAP_NS)
    leads = leads_ns(found, alarms)
    hits = int(np.sum(overlapped(alarms, found, REACH_NS)))
    watched_ns = int(samples.t_ns[-1]) if len(samples.t_ns) else 0
    return NodeScore(Watched(found, alarms, watched_ns), hits, leads[leads > 0])


def leads_ns(found: Spans, alarms: Spans) -> Floats:
    """Return the lead of each burst, 0 where no alarm was in force at its onset; float64, shape [bursts]."""
    leads = np.zeros(len(found))
    if not len(alarms):
        return leads
    latest = np.searchsorted(alarms.begin_ns, found.begin_ns, side="left") - 1  # the last alarm before the onset
    in_force = (latest >= 0) & (alarms.end_ns[latest] >= found.begin_ns)
    since = np.maximum(alarms.begin_ns[latest], np.concatenate(([0], found.end_ns[:-1])))
    leads[in_force] = np.clip(found.begin_ns - since, 0, LEAD_CAP_NS)[in_force]
    return leads


def overlapped(spans: Spans, others: Spans, reach_ns: int) -> np.ndarray:
    """Return for each span whether one of `others` overlaps it or begins within `reach_ns` after it; bool, [k]."""
    begun = np.searchsorted(others.begin_ns, spans.end_ns + reach_ns, side="right")
    over = np.searchsorted(others.end_ns, spans.begin_ns, side="left")
    answer: np.ndarray = begun > over
    return answer


def prediction_section(
    samples: Mapping[str, NodeSamples], needs: Mapping[str, Spans], facts: RunFacts
) -> dict[str, Any] | None:
    """Return the `prediction` section, None when the policy makes no forecasts; `needs` are the bursts by node.

    A score without a single case (recall without bursts) is left out rather than called 0 or 1.
    """
    forecasting = [node for node in needs if "predicted_bytes" in samples[node].optional]
    scores = [score_node(samples[node], needs[node], facts.floor_bytes) for node in forecasting]
    if not facts.predicts or not scores:
        return None
    leads = np.concatenate([score.leads_ns for score in scores])
    watched = [score.watched for score in scores]
    n_bursts, n_alarms = sum(len(node.bursts) for node in watched), sum(len(node.alarms) for node in watched)
    true_alarms = sum(score.true_alarms for score in scores)
    minutes = sum(node.watched_ns for node in watched) / _NS_PER_MIN
    section: dict[str, Any] = {"bursts": n_bursts, "alarms": n_alarms}
    if leads.size:
        p10, p50 = np.quantile(leads, [0.1, 0.5]) / NS_PER_MS
        section["lead_ms"] = {"p10": float(p10), "p50": float(p50)}
    if n_bursts:
        section["recall"] = leads.size / n_bursts
    if n_alarms:
        section["precision"] = true_alarms / n_alarms
    if minutes:
        section["false_alarms_per_min"] = (n_alarms - true_alarms) / minutes
    return {**section, **alarm_figures(watched, section.get("recall"))}
