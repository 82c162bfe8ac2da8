"""The inventory of the switch: its configuration, ports, groups and meters, and the flow entries that must not change.

Two files record what happens during the run.  The database is a log: every change of the configuration is appended to
it, with the command that made it.  When a connection ends, the daemon logs how many flow entries it changed.
Connections of the controllers are called ``tcp:…``, those of ``ovs-ofctl`` ``unix#…``; in a run, none of the latter
changes flow entries.  Queries to the switch itself are sent at the start and at the end, all at once.

Tables that change by design are left out: pins and turns are learned; slots and the states of nodes belong to the
controller.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from testbed.controllers.table_numbers import Table
from testbed.emulation.inventory.difference import ABSENT, Difference
from testbed.errors import ToolError

SWITCH = "switch"
_STEERED = {Table.PINS, Table.SLOTS, Table.NODES, Table.TURN}
_ASKED = {
    "flow": "dump-flows",
    "group": "dump-groups",
    "meter": "dump-meters",
    "port": "dump-ports-desc",
}
_OUTSIDER = re.compile(r"<->(unix#\d+: \d+ flow_mods.*)")
_PORT = re.compile(r"^ *(\w+)\((\S+)\):")
_ANSWER_WITHIN_S = 10.0

_Things = dict[str, str]


class Appended:
    """What is appended to a file from now on, line by line."""

    def __init__(self, path: Path) -> None:
        self._path, self._end = path, path.stat().st_size
        self._part = b""

    def lines(self) -> list[str]:
        """Return the whole lines that were appended since the last call."""
        size = os.stat(self._path).st_size
        if size <= self._end:
            self._end = size  # the log was rewritten, which is not a change
            return []
        with self._path.open("rb") as file:
            file.seek(self._end)
            data = self._part + file.read(size - self._end)
        self._end = size
        *lines, self._part = data.split(b"\n")
        return [line.decode(errors="replace") for line in lines]


class SwitchStock:
    """The stock of the bridges of one daemon, the balancer's first."""

    def __init__(self, bridges: Sequence[str], database: Path, log: Path) -> None:
        """Take stock; call `settled` before the first packet."""
        self._bridges = bridges
        self._database, self._log = Appended(database), Appended(log)
        self._found: list[Difference] = []
        self._asking = [_ask(bridge) for bridge in bridges]
        self._first: dict[str, _Things] = {}

    def settled(self) -> None:
        """Wait for what was asked of the switch."""
        self._first = self._answered(self._asking)

    def look(self, now_ns: int) -> None:
        """Process what was appended to the two files."""
        self._found += [_change("configuration", command, now_ns) for command in _commands(self._database.lines())]
        outsiders = (_OUTSIDER.search(line) for line in self._log.lines())
        self._found += [_change("flow", f"by {found[1]}", now_ns) for found in outsiders if found]

    def differences(self, now_ns: int) -> list[Difference]:
        """Return all that has changed since the start."""
        self.look(now_ns)
        last = self._answered([_ask(bridge) for bridge in self._bridges])
        return [*self._found, *(found for kind in _ASKED for found in _between(kind, self._first[kind], last[kind]))]

    def _answered(self, asked: Sequence[dict[str, subprocess.Popen[str]]]) -> dict[str, _Things]:
        """Return what each bridge says of itself; things of others than the balancer's have its name before theirs."""
        found: dict[str, _Things] = {kind: {} for kind in _ASKED}
        for bridge, processes in zip(self._bridges, asked, strict=True):
            for kind, things in _answers(processes).items():
                plainly = kind == "port" or bridge == self._bridges[0]  # names of ports are there once anyway
                found[kind] |= {name if plainly else f"{bridge}: {name}": thing for name, thing in things.items()}
        return found


def _change(kind: str, what: str, now_ns: int) -> Difference:
    return Difference(SWITCH, kind, what, "", "as set up", "changed", now_ns)


def _commands(lines: list[str]) -> Iterator[str]:
    """Yield what made each transaction of the database's log."""
    for line in lines:
        if line.startswith("{"):
            yield str(json.loads(line).get("_comment", "an unknown program")).split("): ", 1)[-1]


def _ask(bridge: str) -> dict[str, subprocess.Popen[str]]:
    base = ["ovs-ofctl", "-O", "OpenFlow13", "--no-names"]
    return {
        kind: subprocess.Popen(
            [*base, *(["--no-stats"] if kind == "flow" else []), command, bridge],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for kind, command in _ASKED.items()
    }  # fmt: skip


def _answers(asked: dict[str, subprocess.Popen[str]]) -> dict[str, _Things]:
    texts = {}
    for kind, process in asked.items():
        texts[kind], errors = _answer(process)
        if process.returncode != 0:
            raise ToolError(f"asking the switch for its {kind}s", errors.strip(), "read logs/ovs-vswitchd.log")
    return {
        "flow": _flows(texts["flow"]),
        "port": _ports(texts["port"]),
        **{k: _blocks(texts[k]) for k in ("group", "meter")},
    }


def _answer(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=_ANSWER_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "", f"no answer within {_ANSWER_WITHIN_S:g} s"


def _flows(text: str) -> _Things:
    """Return actions by match, of the tables that do not change by design."""
    found = {}
    for line in text.splitlines():
        matched, actions, done = line.strip().partition(" actions=")
        table = re.search(r"table=(\d+)", matched)
        if actions and (int(table[1]) if table else 0) not in _STEERED:
            found[matched] = done
    return found


def _blocks(text: str) -> _Things:
    """Return what is said of each thing: its line, and those that follow it without an identifier."""
    found: _Things = {}
    name = ""
    for line in text.splitlines()[1:]:
        head = re.match(r" ?(group_id=\d+|meter=\w+)", line)
        name = head[1] if head else name
        found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def _ports(text: str) -> _Things:
    """Return configuration and state of each port."""
    found: _Things = {}
    name = ""
    for line in text.splitlines():
        head = _PORT.match(line)
        name = head[2] if head else name
        if re.match(r" +(config|state):", line):
            found[name] = f"{found.get(name, '')} {' '.join(line.split())}".strip()
    return found


def _between(kind: str, before: _Things, after: _Things) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, ABSENT), after.get(name, ABSENT)
        if old != new:
            yield Difference(SWITCH, kind, name, "", old, new, None, name if kind == "port" else "")
