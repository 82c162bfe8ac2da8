"""Numbers as people read them: units on everything, no more digits than the measurement has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from testbed.results.metrics import Metric

Summary = Mapping[str, Any]


def figure(summary: Summary, path: str) -> Any:
    """Return the value at a dotted path of a summary, None when it is absent."""
    found: Any = summary
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def count(value: float) -> str:
    """Return a whole number with thousands apart."""
    return f"{value:,.0f}"


def percent(ratio: float) -> str:
    """Return a ratio in percent; small ones keep two digits that say something."""
    value = 100 * ratio
    return f"{value:.2g} %" if 0 < abs(value) < 0.1 else f"{value:.2f} %"


def short(value: float) -> str:
    """Return a number with three digits, four where a thousand would else become an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def milliseconds(value: float) -> str:
    """Return milliseconds."""
    return f"{short(value)} ms"


def microseconds(value: float) -> str:
    """Return microseconds, or milliseconds when there are many."""
    return milliseconds(value / 1000) if value >= 10_000 else f"{short(value)} µs"


def megabytes(value_bytes: float) -> str:
    """Return bytes in MB (10^6)."""
    return f"{short(value_bytes / 10**6)} MB"


def megabits(value_bps: float) -> str:
    """Return bits a second in Mbit/s."""
    return f"{short(value_bps / 10**6)} Mbit/s"


def many(value: float, singular: str) -> str:
    """Return a count with its noun."""
    return f"{count(value)} {singular}{'' if value == 1 else 's'}"


UNITS: Mapping[str, Callable[[Any], str]] = {
    "name": str,
    "count": count,
    "packets": count,
    "bytes": megabytes,
    "bit/s": megabits,
    "ms": milliseconds,
    "µs": microseconds,
    "s": lambda value: f"{value:.2f} s",
    "node·s": lambda value: f"{short(value)} node·s",
    "USD": lambda value: f"{short(value)} USD",
    "ratio": percent,
    "factor": lambda value: f"{value:.3f}",
    "MB": lambda value: f"{short(value)} MB",
    "MB·s": lambda value: f"{short(value)} MB·s",
    "per minute": lambda value: f"{short(value)} per minute",
}
_BARE = ("ratio", "factor")  # units whose numbers are written in their own way, in a column too


def written(metric: Metric, value: Any) -> str:
    """Return the value of a figure with its unit."""
    if metric.unit not in UNITS:  # of a plug-in
        return f"{short(value)} {metric.unit}"
    return UNITS[metric.unit](value)


def bare(metric: Metric, value: float) -> str:
    """Return the value of a figure for a column whose header has the unit."""
    return UNITS[metric.unit](value) if metric.unit in _BARE else short(value)


def in_line(metric: Metric, value: Any) -> str:
    """Return the part of a line of the terminal that shows a figure."""
    shown = many(value, metric.noun) if metric.noun else written(metric, value)
    return metric.line.format(shown, bare="" if isinstance(value, str) else bare(metric, value))
