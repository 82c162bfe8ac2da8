"""A package from elsewhere, opened: nothing of it is read as data before every file has the hash that it states."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from testbed.crate.contents import DATA, DESCRIPTION, HASHES, SCHEMA
from testbed.files import archive, json_text, records
from testbed.files.reading import Source
from testbed.files.records import Count, Form, Name, Text

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_REMEDY = "use a complete package that was made by `testbed package`"
_MAX_HASHES_BYTES = 50 * 10**6


class _RunForm(Form):
    path: Annotated[str, Field(max_length=400, pattern=rf"^{DATA}(/[^/.\x00][^/\x00]*)*$")]
    scenario: Name
    engine: Literal["emulation", "simulation"]
    seed: Count
    outcome: Name
    version: Name
    kernel: Text = ""


class PackageForm(Form):
    """``package.json``."""

    kind: Literal["run", "sweep", "claims"]
    name: Text
    version: Name
    runs: Annotated[list[_RunForm], Field(min_length=1, max_length=100_000)]


@dataclass(frozen=True, slots=True)
class Package:
    """An opened package.

    Attributes:
        folder: where it is unpacked.
        kind, name, version: its contents, and the version of the testbed that made it.
        runs: as `contents` describes them.
    """

    folder: Path
    kind: str
    name: str
    version: str
    runs: tuple[dict[str, Any], ...]


def opened(path: Path, folder: Path) -> Package:
    """Unpack a package into an empty folder, check every file of it, and return its description.

    Raises:
        InputError: it is no package, or not as it was packed: names the first file that is not.
    """
    source = Source(path, _REMEDY, f"reproduce {path}")
    if not source.exists():
        raise source.refusal("there is no such file")
    names = archive.unpack(source, folder)
    if DESCRIPTION not in names or HASHES not in names:
        raise source.refusal(
            f"it has no {DESCRIPTION if HASHES in names else HASHES}, so it is not a package of the testbed"
        )
    _check_hashes(source, folder, set(names))
    described = json_text.read_object(Source(folder / DESCRIPTION, _REMEDY, f"reproduce {path}", follow=False))
    if described.get("schema") != SCHEMA:
        raise source.refusal(
            f"its {DESCRIPTION} is not of schema {SCHEMA}", "use the version of the testbed that made it"
        )
    records.check(described, PackageForm, source, DESCRIPTION)
    runs = tuple(described["runs"])
    if any(f"{run['path']}/scenario.yaml" not in names for run in runs):
        raise source.refusal(f"its {DESCRIPTION} names a run that is not in it")
    if len({run["path"] for run in runs}) < len(runs):
        raise source.refusal(f"its {DESCRIPTION} names a run twice")
    return Package(folder, described["kind"], described["name"], described["version"], runs)


def _check_hashes(source: Source, folder: Path, names: set[str]) -> None:
    stated = dict(_stated(source, folder))
    if other := sorted((names - {HASHES}) ^ set(stated)):
        where = "is not in its list of hashes" if other[0] in names else "is missing"
        raise source.refusal(f"{other[0][:80]!r} {where}")
    for name, expected in sorted(stated.items()):
        if archive.sha256_of(folder / name) != expected:
            raise source.refusal(f"{name[:80]!r} was changed: its hash differs from that in {HASHES}")


def _stated(source: Source, folder: Path) -> Iterator[tuple[str, str]]:
    text = Source(folder / HASHES, _REMEDY, source.attempted, follow=False).read(_MAX_HASHES_BYTES)
    for line in text.decode("utf-8", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise source.refusal(f"its {HASHES} has a line that is not a hash and a name")
        yield found[2], found[1]
