"""Measurements of this machine, stored for later runs.

A file in the user's cache folder (`XDG_CACHE_HOME`) contains the costs by the settings under which they were measured:
all of a scenario except its traffic, its faults and its size.  A measurement is valid until the next reboot of the
machine, and only for the code it was made with.  A file that cannot be read is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

import testbed
from testbed.capacity.costs import Costs
from testbed.errors import TestbedError
from testbed.files import json_text, writing
from testbed.files.reading import Source
from testbed.scenario.model import Scenario
from testbed.system import allowance

_MOST = 20
_OF_THE_RUN = ("name", "seed", "duration", "topology", "traffic", "faults", "expect", "plugins")


def keep(scenario: Scenario, costs: Costs) -> None:
    """Keep what was measured; where nothing can be written it is measured again the next time."""
    entries = {name: entry for name, entry in _entries().items() if name != _key(scenario)}
    entries[_key(scenario)] = {"machine": _machine(), "costs": costs.to_record()}
    newest = dict([*entries.items()][-_MOST:])
    with suppress(TestbedError, OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        writing.replace_json(_path(), newest, durable=False)


class Recalled(NamedTuple):
    """A measurement that holds, and whether it was made under the very settings."""

    costs: Costs
    same_settings: bool


def recall(scenario: Scenario) -> Recalled | None:
    """Return what was measured under the settings of a scenario, or else last; None when nothing holds any more."""
    machine, key = _machine(), _key(scenario)
    holding = {
        name: entry["costs"]
        for name, entry in _entries().items()
        if isinstance(entry, dict) and entry.get("machine") == machine and "costs" in entry
    }
    if not holding:
        return None
    with suppress(pydantic.ValidationError):
        return Recalled(Costs.from_record(holding.get(key, [*holding.values()][-1])), key in holding)
    return None


def free_bytes() -> int:
    """Return the memory that new processes can have."""
    return allowance.free_bytes()


def _path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "testbed" / "capacity.json"


def _entries() -> dict[str, Any]:
    with suppress(TestbedError):
        return json_text.read_object(Source(_path(), "remove it"))
    return {}


def _key(scenario: Scenario) -> str:
    """Return the settings a measurement depends on, and the size of packets, as a short text."""
    settings = {key: value for key, value in scenario.resolved().items() if key not in _OF_THE_RUN}
    settings["packet_bytes"] = max(source.packet_bytes for source in scenario.planned)
    return _digest(settings)


def _machine() -> str:
    """Return what a measurement holds for: this start of the machine, our processors, this code."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    folder = Path(testbed.__file__).parent
    code = [(str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*.py"))]
    return _digest([boot, sorted(os.sched_getaffinity(0)), code])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
