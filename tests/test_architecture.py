"""The packages and what each may import, read from the source by AST.

The table is the one in ARCHITECTURE.md, read from there.  Every rule is shown to bite by planting a breach of it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES, TOPOLOGIES

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("testbed", "controllers", "topologies")
PACKAGE = "testbed"
STDLIB = frozenset(sys.stdlib_module_names)

FRAMEWORKS = {"os_ken", "ryu"}
BASE = ("units", "errors", "registry", "records/events", "records/engines")


class Room(NamedTuple):
    """What a room may import of the project and of third parties; any standard library unless `pure`."""

    project: set[str]
    third: set[str]
    pure: bool = False


def table_of(text: str) -> tuple[dict[str, Room], set[str]]:
    """Return the rooms of the table in ARCHITECTURE.md by module, and the modules that may import everything."""
    rooms: dict[str, Room] = {}
    composition: set[str] = set()
    for line in text.split("## Packages and their allowed imports", 1)[1].split("\n## ", 1)[0].splitlines():
        if not line.startswith("| `"):
            continue
        named, _, project, third, io = (cell.strip() for cell in line.strip("|").split("|"))
        modules = [module_name(path) for path in _quoted(named)]
        if "all" in _quoted(project):
            composition.update(modules)
            continue
        allowed = {room for name in _quoted(project) for room in _rooms_named(name)}
        rooms.update(dict.fromkeys(modules, Room(allowed, set(_quoted(third)), pure=io == "no")))
    return rooms, composition


def _quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def _rooms_named(name: str) -> list[str]:
    names = BASE if name == "base" else (name,)
    return [PACKAGE if one == PACKAGE else f"{PACKAGE}.{one.replace('/', '.')}" for one in names]


def module_name(path: str) -> str:
    """Return the dotted name of a source path such as ``testbed/scenario/loading.py`` or ``testbed/scenario/``."""
    parts = path.removesuffix(".py").rstrip("/").split("/")
    # controllers/ and topologies/ are imported as testbed.controllers and testbed.topologies
    inside = [PACKAGE, *parts] if parts[0] in FOLDERS and parts[0] != PACKAGE else parts
    return ".".join(inside[:-1] if inside[-1] == "__init__" else inside)


ROOMS, COMPOSITION = table_of((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))

# A room without I/O: no clock, no file, no socket, no process, no log, no global randomness.
PURE_STDLIB = {
    *("__future__", "abc", "bisect", "collections", "contextlib", "dataclasses", "enum", "fractions", "functools"),
    *("hashlib", "heapq", "itertools", "math", "numbers", "operator", "random", "statistics", "struct", "typing"),
}
IO_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
SEEDED = {"Generator", "Random", "PCG64", "Philox", "SeedSequence", "BitGenerator"}

# From these rooms, what follows must not be reached by module-level imports, however long the way.
UNREACHABLE = {
    "testbed.simulation": {"mininet", "pyroute2", *FRAMEWORKS, "torch"},
    "testbed.emulation": {"torch"},
    "testbed.forecaster": {"torch", "sklearn", "scipy"},
    "testbed.forecaster.runtime": {"torch", "sklearn", "scipy"},
    "testbed.policies": {"torch", "mininet", *FRAMEWORKS},
    "testbed.report": {"mininet", "pyroute2", "torch", *FRAMEWORKS},
    # The door is there before anything that may be missing, broken or interrupted while it is imported.
    "testbed.commands": {"numpy", "scapy", "pyarrow"},  # for a quick --help
    "testbed.cli": {"typer", "rich", "numpy", "pydantic", "yaml", "pyarrow"},
}


class Import(NamedTuple):
    """One imported module: `target` in full, whether at module level."""

    target: str
    line: int
    at_import: bool


def room_of(module: str) -> str | None:
    """Return the room a module of the project belongs to, None for a stranger."""
    composed = next((name for name in COMPOSITION if module == name or module.startswith(name + ".")), None)
    if composed:
        return composed
    fitting = [room for room in ROOMS if module == room or module.startswith(room + ".")]
    return max(fitting, key=len, default=None)


def imports_of(source: str, known: set[str]) -> Iterator[Import]:
    """Yield what a source imports; ``from package import module`` counts as the module where there is one."""
    tree = ast.parse(source)
    inside = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
    inside |= {id(node) for outer in ast.walk(tree) if _is_type_checking(outer) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        at_import = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(full if full in known else base, node.lineno, at_import)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def breaches(sources: Mapping[str, str]) -> list[str]:
    """Return every breach of the table in the sources, by path; one line each."""
    known = {module_name(path) for path in sources}
    found = []
    for path, source in sorted(sources.items()):
        module = module_name(path)
        room = room_of(module)
        if room is None:
            found.append(f"{path}: belongs to no room")
            continue
        for imported in imports_of(source, known):
            reason = _refusal(room, imported.target)
            if reason:
                found.append(f"{path}:{imported.line}: {room} {reason}")
        if room in ROOMS and ROOMS[room].pure:
            found += [f"{path}:{line}: {room} {reason}" for line, reason in _impurities(source)]
    found = list(dict.fromkeys(found))  # one import statement may name several modules
    return found + list(_framework_files(sources, known)) + list(_reached(sources, known))


def _refusal(room: str, target: str) -> str:
    """Return why `room` may not import `target`, or ""."""
    top = target.partition(".")[0]
    if target.startswith("."):
        return f"uses the relative import {target}"
    if top == PACKAGE:
        other = room_of(target)
        allowed = room in COMPOSITION or other == room or other in ROOMS[room].project
        return "" if allowed else f"may not import {target}"
    if room in COMPOSITION:
        return ""
    if top in STDLIB:
        return "" if not ROOMS[room].pure or top in PURE_STDLIB else f"does I/O: imports {target}"
    return "" if top in ROOMS[room].third else f"may not import {target}"


def _impurities(source: str) -> Iterator[tuple[int, str]]:
    """Yield calls of a pure room that read or write the world, or draw from a global random source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IO_CALLS:
            yield node.lineno, f"does I/O: calls {node.func.id}()"
        if isinstance(node, ast.Call) and _dotted(node.func).endswith("default_rng") and not node.args + node.keywords:
            yield node.lineno, "draws from the system's randomness: default_rng()"
        if isinstance(node, ast.Attribute):
            owner = _dotted(node.value)
            if owner in ("random", "np.random", "numpy.random") and node.attr not in {*SEEDED, "default_rng"}:
                yield node.lineno, f"draws from a global random source: {owner}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            for alias in node.names:
                if alias.name not in SEEDED:
                    yield node.lineno, f"draws from a global random source: {node.module}.{alias.name}"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _framework_files(sources: Mapping[str, str], known: set[str]) -> Iterator[str]:
    using = {
        path for path, text in sources.items() for i in imports_of(text, known) if i.target.split(".")[0] in FRAMEWORKS
    }
    if len(using) > 1:
        yield f"the OpenFlow framework is imported in {len(using)} files: {', '.join(sorted(using))}"


def _reached(sources: Mapping[str, str], known: set[str]) -> Iterator[str]:
    """Yield forbidden modules that a room imports through others when it is imported."""
    graph = {
        module_name(path): {imported.target for imported in imports_of(text, known) if imported.at_import}
        for path, text in sources.items()
    }
    for room, forbidden in UNREACHABLE.items():
        for start in sorted(module for module in graph if room_of(module) == room):
            for way in _ways(graph, start):
                if way[-1].partition(".")[0] in forbidden:
                    yield f"{start} reaches {way[-1]} by way of {' > '.join(way[1:-1]) or 'itself'}"


def _ways(graph: Mapping[str, set[str]], start: str) -> Iterator[tuple[str, ...]]:
    """Yield a shortest way to every module reachable from `start`."""
    seen, queue = {start}, [(start,)]
    while queue:
        way = queue.pop(0)
        yield way
        for target in sorted(graph.get(way[-1], set()) - seen):
            seen.add(target)
            queue.append((*way, target))


def project_sources() -> dict[str, str]:
    """Return the project's sources by their path from the root."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_the_tree_keeps_to_the_table() -> None:
    assert breaches(project_sources()) == []


def test_every_room_of_the_table_exists() -> None:
    modules = {module_name(path) for path in project_sources()}
    assert {room for room in {*ROOMS, *COMPOSITION} if room not in modules} == set()
    assert len(ROOMS) > 15


def test_the_files_that_declare_rows_exist_and_reach_nothing_that_a_node_must_not_have() -> None:
    graph = {
        module_name(path): {one.target for one in imports_of(text, set())} for path, text in project_sources().items()
    }
    for module in {name for table in (BUFFER_POLICIES, BALANCER_POLICIES, TOPOLOGIES) for name in table.modules}:
        assert module in graph
        reached = {way[-1].partition(".")[0] for way in _ways(graph, module)}
        assert not reached & {"torch", "mininet", "pyroute2", *FRAMEWORKS}, module


PLANTED = [
    ("testbed/units.py", "import testbed.records.events\n", "may not import testbed.records.events"),
    ("testbed/errors.py", "import numpy\n", "may not import numpy"),
    ("testbed/scenario/x.py", "from testbed.policies.base import Policy\n", "may not import testbed.policies.base"),
    ("testbed/scenario/x.py", "import testbed.topologies\n", "may not import testbed.topologies"),
    ("topologies/x.py", "from mininet.topo import Topo\n", "may not import mininet.topo"),
    ("topologies/x.py", "import os\n", "does I/O: imports os"),
    ("testbed/policies/x.py", "import time\n", "does I/O: imports time"),
    ("testbed/policies/x.py", "def f():\n    import socket\n", "does I/O: imports socket"),
    ("testbed/policies/x.py", "import logging\n", "does I/O: imports logging"),
    ("testbed/policies/x.py", "import random\nx = random.random()\n", "global random source: random.random"),
    ("testbed/policies/x.py", "from random import choice\n", "global random source: random.choice"),
    ("testbed/policies/x.py", "import numpy as np\nx = np.random.rand()\n", "global random source: np.random.rand"),
    ("testbed/policies/x.py", "import numpy as np\nx = np.random.default_rng()\n", "the system's randomness"),
    ("testbed/policies/x.py", "x = open('y')\n", "does I/O: calls open()"),
    ("testbed/policies/x.py", "print(1)\n", "does I/O: calls print()"),
    ("testbed/policies/x.py", "from testbed.emulation import kernel\n", "may not import testbed.emulation"),
    ("testbed/policies/x.py", "from . import base\n", "relative import"),
    ("testbed/traffic/x.py", "import torch\n", "may not import torch"),
    ("testbed/simulation/x.py", "import testbed.emulation.sandbox\n", "may not import testbed.emulation"),
    ("testbed/results/x.py", "from testbed.report import page\n", "may not import testbed.report"),
    ("testbed/report/x.py", "from testbed.emulation import sandbox\n", "may not import testbed.emulation"),
    ("testbed/emulation/x.py", "from os_ken.lib import hub\n", "may not import os_ken.lib"),
    ("testbed/emulation/x.py", "import testbed.cli\n", "may not import testbed.cli"),
    ("elsewhere/x.py", "", "belongs to no room"),
    ("testbed/traffic/x.py", "import topologies\n", "may not import topologies"),
]


@pytest.mark.parametrize(("path", "source", "expected"), PLANTED, ids=[f"{p}: {e}" for p, _, e in PLANTED])
def test_a_planted_breach_is_found(path: str, source: str, expected: str) -> None:
    found = breaches({path: source})
    assert len(found) == 1, found
    assert expected in found[0]


def test_a_framework_in_two_files_is_found() -> None:
    planted = {"controllers/a.py": "from os_ken.base import app_manager\n", "controllers/b.py": "import ryu\n"}
    assert breaches(planted) == ["the OpenFlow framework is imported in 2 files: controllers/a.py, controllers/b.py"]


def test_torch_behind_a_detour_is_found() -> None:
    planted = {
        "testbed/forecaster/maker.py": "from testbed.forecaster.runtime import lstm\n",
        "testbed/forecaster/runtime/lstm.py": "import testbed.forecaster.training.network\n",
        "testbed/forecaster/training/network.py": "import torch\n",
    }
    way = "testbed.forecaster.runtime.lstm > testbed.forecaster.training.network"
    assert f"testbed.forecaster.maker reaches torch by way of {way}" in breaches(planted)


def test_torch_within_a_function_is_not_reached_at_import() -> None:
    planted = {
        "testbed/forecaster/training/data.py": "from testbed.forecaster.training import train\n",
        "testbed/forecaster/training/train.py": "def train():\n    import torch\n",
    }
    assert breaches(planted) == []


def test_seeded_generators_pass() -> None:
    pure = "import random\nimport numpy as np\n\ndef f(r: random.Random, g: np.random.Generator) -> None: ...\n"
    assert breaches({"testbed/policies/x.py": pure}) == []
