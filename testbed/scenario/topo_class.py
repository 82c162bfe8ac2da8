"""`topology: {file: ./mytopo.py, class: MyTopo}`: another way to write a plug-in and the family that it declares.

    plugins: [./mytopo.py]
    topology: {family: MyTopo}

Everything behind the loader knows this second form alone: what holds for plug-ins (consent, hashes, copies, replay)
holds for a `Topo` class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.scenario import complaints, plugins
from testbed.scenario.complaints import Complaint
from testbed.scenario.tables import FamilyTraits


def file_of(data: dict[str, Any]) -> str | None:
    """Return the file that a scenario's topology names, None for none."""
    topology = data.get("topology")
    file = topology.get("file") if isinstance(topology, dict) else None
    return file if isinstance(file, str) else None


def name_family(data: dict[str, Any], path: Path) -> Iterator[Complaint]:
    """Put the family into the topology in place of file and class; yield why it cannot be found.

    Args:
        data: a scenario whose `topology.file` has been loaded.
        path: that file.
    """
    topology = data["topology"]
    names = [row.name for row in plugins.load(path).rows if isinstance(row, FamilyTraits)]
    chosen = topology.get("class", names[0] if len(names) == 1 else None)
    if "family" in topology:
        yield Complaint(("topology", "family"), "family and file both define the network", "give one of the two")
    elif not names:
        yield Complaint(("topology", "file"), f"{path} has no Topo class of Mininet", "give another file")
    elif chosen not in names:
        wrong = "class is not given" if chosen is None else f"there is no class {complaints.shown(chosen)}"
        near = complaints.nearest(chosen, names) if chosen is not None else ""
        yield Complaint(("topology", "class"), wrong, near or f"there are {', '.join(names)}")
    else:
        data["topology"] = {k: v for k, v in topology.items() if k not in ("file", "class")} | {"family": chosen}
