"""What is left of a scenario without what is wrong in it, so that later checks can look at the rest.

A check of traffic against topology needs a whole `Scenario`, and a file with a mistake is none.  For `validate --all`
the mistakes are taken out, an entry of a list whole, a key so that its default holds, until a scenario is left.
What is then found in a part that was touched may come of the taking out, and is not said.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from testbed.scenario.complaints import Complaint, complaints_of
from testbed.scenario.document import KeyPath
from testbed.scenario.model import Scenario

_LISTS = ("traffic", "faults", "expect")
_LEANT_ON = ("topology", "duration", "plugins")  # too much depends on them
_MOST_ROUNDS = 20


class Remains:
    """A scenario's data without what complaints are about.

    Attributes:
        scenario: what is left, None where that is none.
        found: what is wrong beside the first complaints.
    """

    def __init__(self, data: dict[str, Any], first: Iterable[Complaint]) -> None:
        self._data = copy.deepcopy(data)
        self._entries = {key: list(range(len(self._data.get(key) or ()))) for key in _LISTS}
        self._touched: set[KeyPath] = set()
        self.scenario: Scenario | None = None
        self.found: list[Complaint] = []
        whole = self._without([complaint.path for complaint in first])
        for _ in range(_MOST_ROUNDS):
            if not whole:
                return
            try:
                self.scenario = Scenario.model_validate(self._data)
                return
            except ValidationError as error:
                complaints, _ = complaints_of(error, self._data)
                self.found += self.told(complaints)
                whole = self._without([self._origin(complaint.path) for complaint in complaints])

    def told(self, complaints: Iterable[Complaint]) -> Iterator[Complaint]:
        """Yield the complaints about parts as they were written, with the places they have in the file."""
        for complaint in complaints:
            path = self._origin(complaint.path)
            if path and _part(path) not in self._touched:
                yield Complaint(path, complaint.happened, complaint.remedy)

    def _origin(self, path: KeyPath) -> KeyPath:
        """Return the place in the file of a place in what is left."""
        if len(path) > 1 and path[0] in _LISTS and isinstance(path[1], int):
            return (path[0], self._entries[str(path[0])][path[1]], *path[2:])
        return path

    def _without(self, paths: list[KeyPath]) -> bool:
        """Take out what stands at these places of the file; tell whether a scenario can be left."""
        if any(not path or path[0] in _LEANT_ON for path in paths):
            return False
        for path in paths:
            self._touched.add(_part(path))
            if path[0] in _LISTS and len(path) > 1:
                self._drop_entry(str(path[0]), path[1])
            else:
                self._drop_key(path)
        return True

    def _drop_entry(self, key: str, index: Any) -> None:
        if index in self._entries[key]:
            place = self._entries[key].index(index)
            del self._entries[key][place]
            del self._data[key][place]

    def _drop_key(self, path: KeyPath) -> None:
        holder: Any = self._data
        for element in path[:-1]:
            holder = holder.get(element) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and path[-1] in holder:
            del holder[path[-1]]
        else:
            self._data.pop(str(path[0]), None)
        if path == ("name",):
            self._data["name"] = "unnamed"


def _part(path: KeyPath) -> KeyPath:
    return path[:2] if path[0] in _LISTS else path[:1]
