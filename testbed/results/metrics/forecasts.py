"""Figures of the forecasts: whether they announced the bursts (`results/prediction.py` defines them)."""

from __future__ import annotations

from testbed.results.metrics import Metric

ROWS = (
    Metric(
        name="prediction.bursts",
        unit="count",
        doc="intervals in which a node would need more than `buffer.min`, computed from the arrivals alone",
        section="Prediction",
        label="bursts",
        line="{}",
        noun="burst",
    ),
    Metric(
        name="prediction.alarms",
        unit="count",
        doc="intervals in which the forecast is above `buffer.min`",
        section="Prediction",
        label="alarms",
        line="{}",
        noun="alarm",
    ),
    Metric(
        name="prediction.recall",
        unit="ratio",
        doc="bursts with an alarm in force at their onset, whenever it began, of all bursts",
        section="Prediction",
        label="announced (recall)",
        lower_is_better=False,
        line="recall {}",
    ),
    *(
        Metric(
            name=f"prediction.lead_ms.{part}",
            unit="ms",
            doc="how long before a burst its alarm began, of the bursts that were announced",
            section="Prediction",
            label=f"lead, {label}",
            lower_is_better=False,
            line=line,
        )
        for part, label, line in (("p10", "p10", ""), ("p50", "median", "lead {} at the median"))
    ),
    Metric(
        name="prediction.precision",
        unit="ratio",
        doc="alarms with a burst during them or within 200 ms after, of all alarms",
        section="Prediction",
        label="alarms that were right",
        lower_is_better=False,
        line="precision {}",
    ),
    Metric(
        name="prediction.false_alarms_per_min",
        unit="a minute",
        doc="alarms not followed by a burst, per node and minute",
        section="Prediction",
        label="false alarms",
        lower_is_better=True,
        line="{bare} false alarms per node and minute",
    ),
    Metric(
        name="prediction.event_recall",
        unit="ratio",
        doc="bursts with an alarm that began within 1 s before their onset (the matching window), of all bursts; "
        "an alarm that began earlier does not count",
        section="Prediction",
        label="announced by an alarm that began within 1 s",
        lower_is_better=False,
    ),
    Metric(
        name="prediction.event_precision",
        unit="ratio",
        doc="alarms with the onset of a burst less than 1 s after they begin, of all alarms",
        section="Prediction",
        label="alarms with an onset within 1 s",
        lower_is_better=False,
    ),
    Metric(
        name="prediction.first_alarm_ms.p50",
        unit="ms",
        doc="median time from a burst's first alarm (1 s before its onset at most) to the onset; negative: late",
        section="Prediction",
        label="first alarm before the onset, median",
        lower_is_better=False,
    ),
    Metric(
        name="prediction.time_in_alarm_ratio",
        unit="ratio",
        doc="share of the time of the nodes with an alarm in force",
        section="Prediction",
        label="time in alarm",
        lower_is_better=True,
    ),
    Metric(
        name="prediction.recall_over_chance",
        unit="ratio",
        doc="recall minus the time in alarm: 0 for random alarms and for an alarm without end",
        section="Prediction",
        label="recall over chance",
        lower_is_better=False,
    ),
)
