"""The description of a package as an RO-Crate: entities as JSON-LD, each run an action of the software.

Source: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1); Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_CRATE = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_SOFTWARE = "#testbed"
_LICENCE = "https://www.apache.org/licenses/LICENSE-2.0"
_FORMATS = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
    ".yaml": "application/yaml",
}
_FORMATS |= {".parquet": "application/vnd.apache.parquet", ".md": "text/markdown", ".py": "text/x-python"}
_NEVER = "1980-01-01T00:00:00Z"


def metadata_of(described: Mapping[str, Any], files: Iterable[str]) -> dict[str, Any]:
    """Return ``ro-crate-metadata.json`` of a package: its description, and the names of its files."""
    names = sorted(files)
    actions = [_action(number, run, names) for number, run in enumerate(described["runs"])]
    last = max((run["ended_utc"] for run in described["runs"]), default="") or _NEVER
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{described['name']}: results of the testbed for predictive buffers",
        "description": f"A {described['kind']} of {len(actions)} runs, with all inputs of its results.",
        "datePublished": last[:10],
        "license": {"@id": _LICENCE},
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": name} for name in names],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    about = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "conformsTo": {"@id": _CRATE},
        "about": {"@id": "./"},
    }
    graph = [about, root, *_context(described), *actions, *map(_file, names)]
    return {"@context": f"{_CRATE}/context", "@graph": graph}


def _context(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    software = {
        "@id": _SOFTWARE,
        "@type": "SoftwareApplication",
        "name": "testbed for predictive buffers",
        "version": described["version"],
        "softwareVersion": described["version"],
        "url": "https://pypi.org/project/predictive-buffer-testbed/",
    }
    licence = {"@id": _LICENCE, "@type": "CreativeWork", "name": "Apache License 2.0", "description": "the licence"}
    profile = {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    agent = {"@id": "#agent", "@type": "Person", "name": f"the authors of {described['name']}"}
    return [software, licence, profile, agent]


def _action(number: int, run: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    own = [name for name in names if name.startswith(f"{run['path']}/")]
    scenario = f"{run['path']}/scenario.yaml"
    return {
        "@id": f"#run-{number}",
        "@type": "CreateAction",
        "name": f"{run['engine']} of {run['scenario']}, seed {run['seed']}",
        "description": f"outcome: {run['outcome']}",
        "instrument": {"@id": _SOFTWARE},
        "agent": {"@id": "#agent"},
        "object": [{"@id": scenario}],
        "result": [{"@id": name} for name in own if name != scenario],
        "startTime": run["started_utc"] or _NEVER,
        "endTime": run["ended_utc"] or _NEVER,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }


def _file(name: str) -> dict[str, Any]:
    suffix = f".{name.rpartition('.')[2]}"
    return {
        "@id": name,
        "@type": "File",
        "name": name.rpartition("/")[2],
        "encodingFormat": _FORMATS.get(suffix, "text/plain"),
    }
