"""Counts the records of one trial, family by family (`families.EVENT_FAMILIES`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from testbed.openmetrics.families import EVENT_FAMILIES, Counts, Event, EventFamily


class EventCounts:
    """Takes in records in the order of their time; the counts only grow."""

    def __init__(self) -> None:
        self._counts: dict[EventFamily, Counter[str]] = {family: Counter() for family in EVENT_FAMILIES}
        self._of_any: list[tuple[EventFamily, Counts]] = []
        self._of_kind: defaultdict[str, list[tuple[EventFamily, Counts]]] = defaultdict(list)
        for family in EVENT_FAMILIES:
            counting = (family, family.counts())
            for kind in family.records:
                self._of_kind[kind.__name__].append(counting)
            if not family.records:
                self._of_any.append(counting)

    def take(self, event: Event) -> list[tuple[EventFamily, str]]:
        """Count a record and return the series it changed, by family and value of the family's label."""
        changed = []
        for family, counts in (*self._of_any, *self._of_kind.get(event["kind"], ())):
            values = counts(event)
            self._counts[family].update(values)
            changed += [(family, value) for value in dict.fromkeys(values)]
        return changed

    def count(self, family: EventFamily, value: str) -> int:
        """Return the count of a series."""
        return self._counts[family][value]

    def series(self) -> Iterator[tuple[EventFamily, list[tuple[str, int]]]]:
        """Yield each family with its series: value of its label, count.  One without a label is there from 0 on."""
        for family, counts in self._counts.items():
            yield family, [*(counts.items() if counts or family.label else [("", 0)])]
