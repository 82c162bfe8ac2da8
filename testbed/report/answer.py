"""The answer to the question of a scenario in one sentence, with its figure.

A question is free text.  What answers it follows from what a run was made to show: with faults, how soon the service
recovered and what that cost; else what the buffers lost, for how much memory and delay.  Several runs are placed by the
same figures.  An INVALID run answers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.report.written import count, figure, many, megabits, milliseconds, percent, short
from testbed.results.confidence import Estimate

Summary = Mapping[str, Any]


def answer_of_run(summary: Summary) -> str:
    """Return the answer of one run; empty where it has no summary yet."""
    if not summary:
        return ""
    if summary["verdict"] == "INVALID":
        return "No answer: the run is INVALID; do not use its results."
    parts = [_failover(summary), _takeover(summary)] if figure(summary, "failover.faults") else []
    found = [part for part in parts if part] or [_buffers(summary)]
    caveat = " The run is DEGRADED: see the reasons." if summary["verdict"] == "DEGRADED" else ""
    return " ".join(found) + caveat


def _failover(summary: Summary) -> str:
    count_of_nodes = figure(summary, "failover.count") or 0
    if not count_of_nodes:
        return ""
    took = figure(summary, "failover.recovered_ms.max")
    steps = [
        f"{word} after at most {milliseconds(value)}"
        for word in ("detected", "rerouted")
        if (value := figure(summary, f"failover.{word}_ms.max")) is not None
    ]
    lost = figure(summary, "failover.lost_packets")
    head = f"{many(count_of_nodes, 'node')} failed"
    ended = "" if took is None else f"; the last packet was lost {milliseconds(took)} after the fault"
    cost = "" if lost is None else f", {_of_sent(lost, summary)} in all"
    return f"{head}{ended}{cost}{' (' + ', '.join(steps) + ')' if steps else ''}."


def _takeover(summary: Summary) -> str:
    took = figure(summary, "failover.takeover_ms.max")
    if took is not None:
        return f"The standby controller had taken over after {milliseconds(took)}; {_lost(summary)}."
    return "" if figure(summary, "failover.count") else f"{_faults(summary)}: {_lost(summary)}."


def _faults(summary: Summary) -> str:
    whats = [fault["what"].replace("_", " ") for fault in figure(summary, "failover.faults") or ()]
    return f"Under {' and '.join(dict.fromkeys(whats))}"


def _lost(summary: Summary) -> str:
    lost = sum((figure(summary, "traffic.dropped_packets") or {}).values())
    return f"{_of_sent(lost, summary)} lost"


def _of_sent(lost: float, summary: Summary) -> str:
    sent = figure(summary, "traffic.sent_packets") or 0
    words = f"{many(lost, 'packet')}"
    return f"{words} of {count(sent)} ({percent(lost / sent)})" if sent else words


def _buffers(summary: Summary) -> str:
    loss, policy = figure(summary, "buffer.loss_ratio"), figure(summary, "buffer.policy")
    if loss is None:
        goodput = figure(summary, "traffic.goodput_bps")
        return "" if goodput is None else f"Goodput was {megabits(goodput)}."
    reserved, p99 = figure(summary, "buffer.reserved_mb_s"), figure(summary, "delay_ms.p99")
    memory = "" if reserved is None else f" with {short(reserved)} MB·s of memory reserved"
    delay = "" if p99 is None else f"; 99 % of the rest arrived within {milliseconds(p99)}"
    return f"Under {policy} the buffers lost {percent(loss)} of the packets{memory}{delay}."


def answer_of_rows(losses: Mapping[str, Sequence[float]]) -> str:
    """Return how runs side by side are placed by loss.

    Args:
        losses: the loss ratios of the runs that count, by what was compared.
    """
    means = {name: sum(values) / len(values) for name, values in losses.items() if values}
    if not means:
        return "No answer: no run is valid." if losses else ""
    if len(means) == 1:
        ((name, loss),) = means.items()
        return f"{name}: the buffers lost {percent(loss)} of the packets."
    least, most = min(means.values()), max(means.values())
    if percent(least) == percent(most):
        return f"All {len(means)} lost the same share of the packets: {percent(least)}."
    best, worst = _names(means, least), _names(means, most)
    seeds = min(len(values) for values in losses.values() if values)
    chance = " This is a single seed: repeat with others before relying on the order." if seeds == 1 else ""
    return f"{best} lost least, {percent(least)} of the packets; {worst} most, {percent(most)}.{chance}"


def answer_of_means(means: Mapping[str, Estimate | None]) -> str:
    """Return how the combinations of a sweep are placed by loss, and which the seeds do not tell apart.

    Args:
        means: the loss ratio of each combination over its seeds.
    """
    known = {name: found for name, found in means.items() if found is not None}
    if len(known) < 2:
        return answer_of_rows({name: [found.mean] for name, found in known.items()})
    best = min(known, key=lambda name: known[name].mean)
    worst = max(known, key=lambda name: known[name].mean)
    if percent(known[best].mean) == percent(known[worst].mean):
        return f"All {len(known)} combinations lost the same share of the packets: {percent(known[best].mean)}."
    like = [name for name in known if name != best and _overlap(known[best], known[name])]
    apart = f" With these seeds, it cannot be distinguished from {_joined(like)}." if like else ""
    text = f"{best} lost least, {_written(known[best])} of the packets; {worst} most, {_written(known[worst])}."
    return text + apart


def _overlap(a: Estimate, b: Estimate) -> bool:
    if a.half_width is None or b.half_width is None:
        return True
    return abs(a.mean - b.mean) <= a.half_width + b.half_width


def _written(found: Estimate) -> str:
    return percent(found.mean) + ("" if found.half_width is None else f" ({found.interval_text(percent)})")


def _names(means: Mapping[str, float], value: float) -> str:
    return _joined([name for name, mean in means.items() if percent(mean) == percent(value)])


def _joined(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= 4 else [*names[:3], f"{len(names) - 3} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
