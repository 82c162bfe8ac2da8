"""Tables of what a scenario may name: policies, topology families, and whatever a user's own file adds.

A *row* declares one thing: its name, one line of documentation, its traits, and what makes it.  Whoever wants to know
something of a policy asks its row, so that a new one is a new row and no change anywhere else.

    the file that implements it ── ROWS = (row, …) ──┐
                                                     ├──▶ Registry ──▶ validation, engines, reports, documents
    a user's file ─────────────── add(row) ──────────┘

The rows of our own are found by the modules that declare them, in `modules`: they are imported when a table is read for
the first time, so that the scenario, which everything imports, imports nobody.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from testbed.errors import InputError


class Row(Protocol):
    """What every row has.

    Attributes:
        name: as a scenario writes it.
        doc: what it is, in a line.
    """

    @property
    def name(self) -> str:
        """Return the name."""
        ...

    @property
    def doc(self) -> str:
        """Return the line."""
        ...


R = TypeVar("R", bound=Row)


class Registry(Generic[R]):
    """Rows by name, in the order in which they were declared.

    Args:
        what: one of them, such as ``buffer policy``.
        modules: where our own are declared, each a module with a tuple `ROWS`.
    """

    def __init__(self, what: str, modules: Sequence[str] = ()) -> None:
        self.what, self.modules = what, tuple(modules)
        self._rows: dict[str, R] = {}
        self._ours: frozenset[str] = frozenset()
        self._loaded = not modules

    def add(self, row: R) -> R:
        """Add a row and return it; for files that come in at run time.

        Raises:
            InputError: when a row of that name is there, or the row says nothing of itself.
        """
        self._load()
        return self._add(row)

    def remove(self, name: str) -> None:
        """Take a row out again, such as that of a file that only one scenario uses."""
        self._load()
        del self._rows[name]

    def is_ours(self, name: str) -> bool:
        """Return whether a row is declared by the testbed itself, and did not come in at run time."""
        self._load()
        return name in self._ours

    def __getitem__(self, name: str) -> R:
        self._load()
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._rows

    def __iter__(self) -> Iterator[R]:
        self._load()
        return iter(tuple(self._rows.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names, in order."""
        return tuple(row.name for row in self)

    def _add(self, row: R) -> R:
        if row.name in self._rows:
            raise InputError(f"add {self.what} {row.name}", "this name is already in use", "choose another name")
        if not row.doc.strip():
            raise InputError(f"add {self.what} {row.name}", "its doc is empty", "add a description of one line")
        self._rows[row.name] = row
        return row

    def _load(self) -> None:
        if self._loaded:
            return
        found = [importlib.import_module(module) for module in self.modules]
        if not self._loaded:  # one of them may have read the table meanwhile
            self._loaded = True
            for module in found:
                for row in module.ROWS:
                    self._add(row)
            self._ours = frozenset(self._rows)
