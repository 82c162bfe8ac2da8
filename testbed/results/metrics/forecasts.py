"""Figures of the forecasts: whether they announced the bursts (`results/prediction.py` defines them)."""

from __future__ import annotations

from testbed.results.metrics import Metric

ROWS = (
    Metric(
        name="prediction.bursts",
        unit="count",
        doc="number of bursts at nodes. Here a burst is an interval in which the node would "
        "need a buffer larger than `buffer.min` to avoid loss, computed from its arrivals "
        "(not an on period of a source)",
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
        doc="fraction of all bursts for which an alarm was active at the onset, no matter when the alarm began",
        section="Prediction",
        label="announced (recall)",
        lower_is_better=False,
        line="recall {}",
    ),
    *(
        Metric(
            name=f"prediction.lead_ms.{part}",
            unit="ms",
            doc="lead time: time from the start of the alarm to the onset of the burst (bursts "
            "without an alarm are excluded)",
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
        doc="fraction of all alarms with a burst during the alarm or within 200 ms after it",
        section="Prediction",
        label="alarms followed by a burst",
        lower_is_better=False,
        line="precision {}",
    ),
    Metric(
        name="prediction.false_alarms_per_min",
        unit="per minute",
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
        label="bursts with an alarm within 1 s before",
        lower_is_better=False,
    ),
    Metric(
        name="prediction.event_precision",
        unit="ratio",
        doc="fraction of all alarms that are followed by the onset of a burst less than 1 s "
        "after the start of the alarm",
        section="Prediction",
        label="alarms with an onset within 1 s",
        lower_is_better=False,
    ),
    Metric(
        name="prediction.first_alarm_ms.p50",
        unit="ms",
        doc="median time from the first alarm of a burst to its onset. Alarms that began more "
        "than 1 s before the onset are ignored; a negative value means that the alarm "
        "came after the onset",
        section="Prediction",
        label="first alarm before the onset, median",
        lower_is_better=False,
    ),
    Metric(
        name="prediction.time_in_alarm_ratio",
        unit="ratio",
        doc="fraction of time in which an alarm is active, averaged over the nodes",
        section="Prediction",
        label="time in alarm",
        lower_is_better=True,
    ),
    Metric(
        name="prediction.recall_over_chance",
        unit="ratio",
        doc="recall minus `prediction.time_in_alarm_ratio`. It is 0 for random alarms and for "
        "an alarm that is always active",
        section="Prediction",
        label="recall over chance",
        lower_is_better=False,
    ),
)
