"""What a package holds: runs as they are, what describes them, and a hash of every file.

    ro-crate-metadata.json   the RO-Crate: which software made what, from what, when
    package.json             what `reproduce` reads: kind, and the runs with scenario, engine, seed and outcome
    manifest-sha256.txt      a line for each other file: hash and name, as `sha256sum --check` takes them
    README.md, CITATION.cff, LICENSE
    data/…                   the run, sweep or claims directory; what is unfinished is left out

Nothing in it depends on when or where it was packed, so the same run makes the same package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import testbed
from testbed.crate.metadata import metadata_of
from testbed.errors import InputError
from testbed.files import archive, writing
from testbed.results.outcome import ended_if_readable
from testbed.results.sweep_file import MANIFEST
from testbed.system import places

SCHEMA, DESCRIPTION, HASHES = 1, "package.json", "manifest-sha256.txt"
DATA = "data"
_LEFT_OUT = (".lock", ".new")


def package(path: Path, out: Path) -> Path:
    """Pack a run, sweep or claims directory into `out` and return it.

    Raises:
        InputError: it is none of them, holds no run that was completed, a link, or `out`.
        ToolError: the package cannot be written.
    """
    kind = _kind_of(path)
    if out.resolve().is_relative_to(path.resolve()):
        raise InputError(f"package {path}", f"{out} would be part of itself", "choose another -o")
    files: dict[str, Path | bytes] = {f"{DATA}/{_relative(path, file)}": file for file in _files_below(path)}
    runs = list(_runs_below(path))
    if not runs:
        raise InputError(f"package {path}", "it contains no completed run", "give a directory with a completed run")
    described = {
        "schema": SCHEMA,
        "kind": kind,
        "name": path.resolve().name,
        "version": testbed.__version__,
        "runs": runs,
    }
    files[DESCRIPTION] = _json(described)
    files["README.md"] = _readme(described).encode()
    files["CITATION.cff"] = _citation(described).encode()
    files["LICENSE"] = _licence()
    files["ro-crate-metadata.json"] = _json(metadata_of(described, files))
    lines = [f"{archive.sha256_of(files[name])}  {name}" for name in sorted(files)]
    files[HASHES] = ("\n".join(lines) + "\n").encode()
    return writing.replace(out, lambda file: archive.write(file, files), elsewhere="choose another -o")


def _kind_of(path: Path) -> str:
    for name, kind in (("manifest.json", "run"), (MANIFEST, "sweep"), ("claims.json", "claims")):
        if (path / name).is_file():
            return kind
    raise InputError(
        f"package {path}", "it is not a run, sweep or claims directory", "give a directory that the testbed created"
    )


def _files_below(path: Path) -> Iterable[Path]:
    for file in sorted(path.rglob("*")):
        if file.is_symlink():
            raise InputError(
                f"package {path}",
                f"it contains a symbolic link, {_relative(path, file)}",
                "replace it by a copy of its target",
            )
        if file.is_file() and not file.name.endswith(_LEFT_OUT):
            yield file


def _runs_below(path: Path) -> Iterable[dict[str, Any]]:
    """Yield what is known of each completed run, in the order of their paths."""
    for manifest in sorted(path.rglob("manifest.json")):
        found = ended_if_readable(manifest.parent)
        if found is None or not found.summary or not (manifest.parent / "scenario.yaml").is_file():
            continue
        about = found.run.manifest
        yield {
            "path": f"{DATA}/{_relative(path, manifest.parent)}".removesuffix("/."),
            "scenario": found.run.facts.scenario,
            "engine": found.run.facts.engine,
            "seed": found.run.facts.seed,
            "outcome": found.outcome,
            "version": str(about.get("project", {}).get("version", "")),
            "started_utc": about.get("started_utc") or "",
            "ended_utc": about.get("ended_utc") or about.get("started_utc") or "",
            "kernel": str(about.get("machine", {}).get("kernel", "")),
        }


def _relative(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _readme(described: Mapping[str, Any]) -> str:
    return f"""# {described["name"]}

A {described["kind"]} directory of the testbed for predictive buffers, version {described["version"]}, with all
inputs of its results. Two commands repeat the {len(described["runs"])} runs and compare all results:

    pip install predictive-buffer-testbed=={described["version"]}
    python -m testbed reproduce {described["name"]}.zip

`sha256sum --check {HASHES}` checks the files; `ro-crate-metadata.json` describes them (RO-Crate, Process Run Crate).
Simulated runs are equal to the byte under the same version; emulated ones are compared with a tolerance.
"""


def _citation(described: Mapping[str, Any]) -> str:
    return f"""cff-version: 1.2.0
message: "If you use these results, please cite them with the software that made them."
title: "{described["name"]}: results of the testbed for predictive buffers"
type: dataset
version: "{described["version"]}"
license: Apache-2.0
authors:
  - name: "The authors of {described["name"]}"
"""


def _licence() -> bytes:
    found = places.root() / "LICENSE"
    return found.read_bytes() if found.is_file() else b"Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
