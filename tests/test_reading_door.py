"""Files that may come from elsewhere are read by `testbed.files` and nowhere else, read from the source by AST.

What reads a file otherwise stands in `OWN`, with the reason: it was made by the system, by this process, or is a part
of the package.  Files below /proc and /sys are the kernel's; what names them in the call needs no entry.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.test_architecture import _dotted, project_sources

DOOR = "testbed/files/"
READERS = re.compile(
    r"(json|pickle|marshal|tomllib|msgpack)\.loads?|yaml\.\w*load\w*|pickle\.Unpickler|shelve\.open"
    r"|(numpy|np)\.(load|loadtxt|genfromtxt|fromfile|memmap)|zipfile\.ZipFile|tarfile\.open|gzip\.(open|decompress|GzipFile)"
    r"|pyarrow\.parquet\.(read_\w+|ParquetFile|ParquetDataset)|(open|io\.open|os\.open|os\.fdopen|codecs\.open)"
    r"|pandas\.read_\w+|csv\.(reader|DictReader)|onnx\.load|torch\.load|sqlite3\.connect"
)
METHODS = {"read_text", "read_bytes"}
KERNEL = re.compile(r"/(proc|sys|dev)\b")

PROC = "the kernel's, below /proc or /sys"
OURS = "made by this process and its children, in memory or in a folder of its own"
PACKAGE = "a part of an installed package"
SAID = "the answer of a command that we have started"

# path: function: why it may read by itself
OWN: dict[str, dict[str, str]] = {
    "testbed/bench/apart.py": {"rows": OURS},
    "testbed/bench/forecaster.py": {"_memory_mb": SAID},
    "testbed/bench/kill_moments.py": {"_until_signals_are_taken": PROC},
    "testbed/bench/leavings.py": {"_children": PROC, "_programs": SAID, "_programs_of": PROC},
    "testbed/bench/running_trial.py": {"finish": SAID, "_children": PROC},
    "testbed/commands/new.py": {"_filled": PACKAGE},
    "testbed/crate/contents.py": {"_licence": PACKAGE},
    "testbed/deployment/cluster.py": {"load": "`document.read_bytes` uses the door"},
    "testbed/deployment/tunnels.py": {"_forward": PROC},
    "testbed/doctor/kernel.py": {"_group_without_share": PROC},
    "testbed/doctor/resources.py": {"_neighbours": PROC},
    "testbed/emulation/cpu_quota.py": {"__init__": PROC},
    "testbed/emulation/entering.py": {"children": PROC, "_shells": PROC},
    "testbed/emulation/inventory/settings.py": {"_content": PROC},
    "testbed/emulation/inventory/switch_stock.py": {
        "lines": "what the switch of this very trial writes, within the sandbox",
        "_commands": "likewise: a line of the database's own log",
    },
    "testbed/emulation/processes/channel.py": {"read": OURS, "_whole": OURS},
    "testbed/emulation/processes/trial_process.py": {"reported": OURS},
    "testbed/emulation/processes/pool_lock.py": {"open_lock": OURS},
    "testbed/forecaster/data/traces.py": {"notices_of": PACKAGE},
    "testbed/forecaster/training/fitting.py": {"_resume": "bytes that the door has read; weights alone are unpacked"},
    "testbed/report/page.py": {"plotly_script": PACKAGE},
    "testbed/results/provenance.py": {"_text": PROC, "_package_version": PACKAGE},
    "testbed/results/running.py": {"_parent": PROC, "_looks_like_one": PROC},
    "testbed/scenario/claim.py": {"load_claim": "`document.read_bytes` uses the door"},
    "testbed/scenario/loading.py": dict.fromkeys(("read", "names_a_sweep"), "`document.read_bytes` uses the door"),
    "testbed/scenario/sweep.py": {"load_sweep": "`document.read_bytes` uses the door"},
    "testbed/system/allowance.py": {"_text": PROC},
    "testbed/system/control_groups.py": {"folders": PROC},
    "testbed/system/kernel.py": {"enter_namespace": PROC},
    "testbed/system/kernel_probes.py": {"_in_child": "a pipe to a child"},
    "testbed/system/probes.py": {"features_found": SAID, "_wait_until_made": OURS},
    "testbed/system/streams.py": {"secure": "standard input", "reserve": "/dev/null"},
    "testbed/traffic/csv_rows.py": {"_loaded": "rows that the door has read"},
    "testbed/trials/child.py": {"__init__": OURS},
    "testbed/trials/identity.py": {"_code": OURS},
    "testbed/trials/windows.py": {"__init__": "a folder, for its lock"},
}


class Breach(ast.NodeVisitor):
    """Collects the calls of a source that read a file, by the function they stand in."""

    def __init__(self, source: str) -> None:
        self.found: list[tuple[str, int, str]] = []
        self._where = ["module"]
        self._full: dict[str, str] = {}
        self.visit(ast.parse(source))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self._full[alias.asname] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._full[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._where.append(node.name)
        self.generic_visit(node)
        self._where.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:  # also where it is handed on and not called
        if node.attr in METHODS or READERS.fullmatch(self._name(node)):
            self._note(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _reads(node.func) and any(KERNEL.match(text) for text in _texts(node)):
            return
        if _writes(node):
            self.generic_visit(ast.Module([*map(ast.Expr, node.args)], []))
            return
        if isinstance(node.func, ast.Name) and READERS.fullmatch(self._name(node.func)):
            self._note(node.func)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "open" and _opens_a_path(node):
            self._note(node.func)
        self.generic_visit(node)

    def _name(self, node: ast.expr) -> str:
        first, dot, rest = _dotted(node).partition(".")
        return self._full.get(first, first) + dot + rest

    def _note(self, node: ast.expr) -> None:
        self.found.append((self._where[-1], node.lineno, ast.unparse(node)))


def _reads(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in METHODS or name in ("open", "fdopen")


def _texts(node: ast.AST) -> list[str]:
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def _writes(node: ast.Call) -> bool:
    """Tell whether a call opens a file for writing alone."""
    if not _reads(node.func):
        return False
    words = " ".join(ast.unparse(argument) for argument in [*node.args, *(k.value for k in node.keywords)])
    return bool(re.search(r"O_WRONLY|O_DIRECTORY|'[wax]b?t?'", words))


def _opens_a_path(node: ast.Call) -> bool:
    """Tell whether ``x.open(…)`` has the arguments of ``Path.open``: none, or a mode."""
    first = node.args[0] if node.args else None
    mode = isinstance(first, ast.Constant) and re.fullmatch(r"[rbt+]*", str(first.value)) is not None
    return mode or (first is None and all(k.arg in ("mode", "encoding", "errors", "newline") for k in node.keywords))


def reading(sources: Mapping[str, str]) -> Iterator[tuple[str, str, int, str]]:
    for path, source in sorted(sources.items()):
        if not path.startswith(DOOR):
            yield from ((path, *found) for found in Breach(source).found)


def breaches(sources: Mapping[str, str]) -> list[str]:
    found = [one for one in reading(sources) if one[1] not in OWN.get(one[0], {})]
    return [f"{path}:{line}: {function}: {call}" for path, function, line, call in found]


def test_files_from_elsewhere_are_read_by_the_door_alone() -> None:
    assert breaches(project_sources()) == []


def test_every_entry_of_the_list_is_needed() -> None:
    met = {(path, function) for path, function, _, _ in reading(project_sources())}
    assert {(path, function) for path, functions in OWN.items() for function in functions} - met == set()


HEAD = "import json, io, os, gzip, yaml, pickle\nimport numpy as np\nimport pyarrow.parquet as pq\n"
PLANTED = [
    "json.load(stream)", "json.loads(text)", "np.load(path)", "pq.read_table(path)", "pq.ParquetFile(path)",
    "yaml.safe_load(text)", "yaml.load(text, Loader=x)", "pickle.load(file)", "open(path)", "open(path, 'rb')",
    "io.open(path)", "path.open()", "path.open('r')", "path.open(encoding='utf-8')", "Path(path).read_text()",
    "path.read_bytes()", "os.open(path, os.O_RDONLY)", "os.fdopen(3)", "gzip.open(path)", "np.genfromtxt(path)",
    "map(Path.read_text, paths)", "map(json.loads, lines)", "open(path, 'r+')",
]  # fmt: skip
INNOCENT = [
    "open('/proc/self/stat', encoding='ascii')", "Path(f'/sys/class/{x}').read_text(encoding='ascii')",
    "open(path, 'wb')", "path.open('ab')", "os.open(path, os.O_CREAT | os.O_WRONLY)", "RecordedRun.open(path)",
    "json.dumps(x)", "pq.write_table(table, file)",
]  # fmt: skip


@pytest.mark.parametrize("call", PLANTED)
def test_a_planted_breach_is_found(call: str) -> None:
    found = breaches({"testbed/results/x.py": f"{HEAD}def f():\n    return {call}\n"})
    assert len(found) == 1, found
    assert found[0].startswith("testbed/results/x.py:5: f: ")


def test_a_name_taken_from_its_module_is_found() -> None:
    planted = "from json import loads as taken\nfrom pyarrow.parquet import read_table\nx = taken(a), read_table(b)\n"
    assert len(breaches({"testbed/report/x.py": planted})) == 2


@pytest.mark.parametrize("call", INNOCENT)
def test_what_does_not_read_from_elsewhere_passes(call: str) -> None:
    assert breaches({"testbed/results/x.py": f"{HEAD}def f():\n    return {call}\n"}) == []


def test_the_door_itself_may_read() -> None:
    assert breaches({"testbed/files/x.py": "x = open(path)\n"}) == []
