"""Plug-ins: files of a user that add rows to the tables: policies, topology families, traffic shapes, metrics.

    plugins: [./ewma_peak.py]  of a scenario, relative to it ─┐
    --plugin FILE              of a verb                      ├──▶ load ──▶ the registries of `tables`
    entry points `testbed.plugins` of installed packages ─────┘

A plug-in declares rows in `ROWS`, as the files of the testbed itself do; nothing about it is second class.  A file with
`Topo` classes of Mininet declares a family by each of them (`mininet_topo`).

**A plug-in is code.**  Whoever runs a scenario runs its plug-ins, with all rights of the user.  What only looks at
files that may come from elsewhere (`validate`, `replay`) executes none by default: `executing_none`.

A file is read once, hashed and executed from the very bytes that were hashed.  It is loaded again when they change; its
rows then replace those it declared before.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from testbed import failures
from testbed.errors import InputError
from testbed.files.reading import Source
from testbed.registry import Registry
from testbed.scenario import mininet_topo
from testbed.scenario.tables import (
    BALANCER_POLICIES,
    BUFFER_POLICIES,
    METRICS,
    TOPOLOGIES,
    TRAFFIC_SHAPES,
    BalancerTraits,
    BufferTraits,
    FamilyTraits,
    MetricTraits,
    ShapeTraits,
    Traits,
)

GROUP = "testbed.plugins"
MAX_BYTES = 10**6
_TABLES: tuple[tuple[type[Traits], Registry[Any]], ...] = (
    (BufferTraits, BUFFER_POLICIES),
    (BalancerTraits, BALANCER_POLICIES),
    (FamilyTraits, TOPOLOGIES),
    (ShapeTraits, TRAFFIC_SHAPES),
    (MetricTraits, METRICS),
)
_NOT_MADE = (BufferTraits, BalancerTraits, ShapeTraits, MetricTraits)  # only rows of their children can be made
_CODE = "a plug-in is code: read it, then say `--plugins allow`"
_OF_MININET = ("mininet", "mininet.topo")
_MININET = "install Mininet: its package is called mininet in Debian and Ubuntu"
_consent = ContextVar("consent", default=True)


class PluginError(InputError):
    """A plug-in cannot be used; the message names it and its line."""


@dataclass(frozen=True, slots=True, eq=False)
class Plugin:
    """A plug-in that is in the tables.

    Attributes:
        path: its file.
        source: the bytes that were executed.
        rows: what it declared.
    """

    path: Path
    source: bytes
    rows: tuple[Traits, ...]

    @property
    def sha256(self) -> str:
        """Return the hash of its source."""
        return hashlib.sha256(self.source).hexdigest()


_loaded: dict[Path, Plugin] = {}


def loaded() -> tuple[Plugin, ...]:
    """Return the plug-ins that are in the tables, in the order in which they came."""
    return tuple(_loaded.values())


def plugin_of(table: Registry[Any], name: str) -> Plugin | None:
    """Return the plug-in that declared a row, None for a row of the testbed itself."""
    if name not in table:
        return None
    return next((plugin for plugin in loaded() if any(row is table[name] for row in plugin.rows)), None)


def load(path: Path) -> Plugin:
    """Execute a plug-in and add its rows.

    Raises:
        PluginError: it cannot be read, does not end, raises, or declares what is no row or has a name that is taken.
    """
    path = _true(path)
    source = Source(path, "give a Python file", f"load the plug-in {path}").read(MAX_BYTES)
    known = _loaded.get(path)
    if known is not None and known.source == source:
        return known
    rows = _rows_of(_executed(path, source), path)
    others = (plugin_of(_table_of(row), row.name) for row in rows)
    forget([path, *(other.path for other in others if other is not None)])
    _add(rows, path)
    _loaded[path] = Plugin(path, source, rows)
    failures.blame(path)
    return _loaded[path]


def _true(path: Path) -> Path:
    """Return where links lead; `Path.resolve` raises for a link to itself, which reading it refuses in words."""
    return Path(os.path.realpath(path))


@contextmanager
def executing_none(wanted: bool = True) -> Iterator[None]:
    """Refuse, for the length of the block, to execute the plug-ins that a scenario names (unless not `wanted`)."""
    before = _consent.set(not wanted)
    try:
        yield
    finally:
        _consent.reset(before)


def load_named(folder: Path, texts: Sequence[str]) -> Iterator[Plugin]:
    """Execute the plug-ins that a scenario in `folder` names, one after the other.

    Raises:
        PluginError: as of `load`, when two declare the same name, and where none is to be executed.
    """
    done: list[Plugin] = []
    for text in texts:
        if not _consent.get():
            raise PluginError(f"load the plug-in {text}", "not executed", _CODE)
        done.append(load(folder / text))
        lost = next((plugin for plugin in done if plugin not in loaded()), None)
        if lost is not None:
            raise PluginError(f"load the plug-in {text}", f"{lost.path} declares the same name", "rechoose one of them")
        yield done[-1]


def forget(paths: Iterable[Path]) -> None:
    """Take the rows of plug-ins out of the tables, such as those of a run that was replayed."""
    for path in paths:
        plugin = _loaded.pop(_true(path), None)
        for row in plugin.rows if plugin is not None else ():
            _table_of(row).remove(row.name)


@cache
def load_installed() -> tuple[Plugin, ...]:
    """Add the rows of installed packages: each entry point of the group names a module with `ROWS`.

    Raises:
        PluginError: as of `load`.
    """
    found = []
    for point in metadata.entry_points(group=GROUP):
        place = _place_of(point.module)
        if place is None:
            raise PluginError(f"load the plug-in {point.value}", "there is no such file", "fix or remove its package")
        found.append(load(place))
    return tuple(found)


def _place_of(module: str) -> Path | None:
    """Return the file of a module, which is not imported: it is to be executed once, by `load`."""
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:  # of a package around it
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _executed(path: Path, source: bytes) -> types.ModuleType:
    name = f"testbed_plugin_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    before, sys.modules[name] = sys.modules.get(name), module  # dataclasses and models look their module up
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 (whoever runs it has consented)
    except (Exception, SystemExit) as error:
        if before is not None:
            sys.modules[name] = before
        remedy = _MININET if isinstance(error, ModuleNotFoundError) and error.name in _OF_MININET else "fix it"
        raise PluginError(f"load the plug-in {path}", failures.words_within(error, path), remedy) from error
    return module


def _rows_of(module: types.ModuleType, path: Path) -> tuple[Traits, ...]:
    attempted, rows = f"load the plug-in {path}", getattr(module, "ROWS", ())
    remedy = "end it with ROWS = (BufferPolicy(...),), or a BalancerRow, FamilyTraits, Shape or Metric"
    if isinstance(rows, (tuple, list)):
        rows = [*rows, *mininet_topo.rows_of(module, path)]
    if not isinstance(rows, list) or not rows:
        raise PluginError(attempted, "it declares no ROWS, and no Topo class of Mininet", remedy)
    for row in rows:
        if not isinstance(row, Traits) or not any(isinstance(row, kind) for kind, _ in _TABLES):
            raise PluginError(attempted, f"its ROWS hold a {type(row).__name__}, which is not a table row", remedy)
        if type(row) in _NOT_MADE:
            raise PluginError(attempted, f"{row.name} is a {type(row).__name__}, which is only a base class", remedy)
        if defect := row.defect():
            raise PluginError(attempted, f"{row.name}: {defect}", "fix it")
    return tuple(rows)


def _add(rows: Sequence[Traits], path: Path) -> None:
    """Add all rows, or none."""
    done: list[Traits] = []
    try:
        for row in rows:
            _table_of(row).add(row)
            done.append(row)
    except InputError as error:
        for row in done:
            _table_of(row).remove(row.name)
        raise PluginError(f"load the plug-in {path}", f"{error.attempted}: {error.happened}", error.remedy) from error


def _table_of(row: Traits) -> Registry[Any]:
    return next(table for kind, table in _TABLES if isinstance(row, kind))
