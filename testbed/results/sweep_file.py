"""``sweep.json``: what a sweep directory says it holds.  What is true of a run lies in its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from testbed.files import json_text, records
from testbed.files.reading import Source
from testbed.files.records import Count, Form, Name, Text

MANIFEST = "sweep.json"
SCHEMA_VERSION = 1
_REMEDY = "give a directory that `testbed sweep` created"
_Values = dict[Name, Text]
# A run lies in the folder itself, whatever the file says.
_Entry = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/.\x00][^/\x00]*$")]


class _RunForm(Form):
    path: _Entry


class _TrialForm(Form):
    name: Name
    parameters: _Values
    seed: Count
    runs: Annotated[list[_RunForm], Field(max_length=10_000)]


class _ScenarioForm(Form):
    name: Name


class SweepForm(Form):
    """The form of the file."""

    name: Name
    question: Text
    scenario: _ScenarioForm
    parameters: dict[Name, Annotated[list[Text], Field(min_length=1)]]
    fixed: _Values
    mean_from: Name | None
    baseline: _Values | None = None
    trials: Annotated[list[_TrialForm], Field(max_length=100_000)]


def read_manifest(path: Path) -> dict[str, Any]:
    """Return ``sweep.json`` of a sweep directory.

    Raises:
        InputError: when it is missing, damaged or of another schema.
    """
    source = Source(path / MANIFEST, _REMEDY, f"read sweep {path}", follow=False)
    if not source.exists():
        raise source.refusal(f"it has no {MANIFEST}")
    manifest = json_text.read_object(source)
    if manifest.get("schema") != SCHEMA_VERSION:
        raise source.refusal(f"its {MANIFEST} is not of schema {SCHEMA_VERSION}")
    records.check(manifest, SweepForm, source, MANIFEST)
    parameters = manifest["parameters"]
    for trial in manifest["trials"]:
        fits = trial["parameters"].keys() == parameters.keys()
        if not fits or any(value not in parameters[key] for key, value in trial["parameters"].items()):
            raise source.refusal(f"its {MANIFEST} has a trial whose parameters do not fit the sweep: {trial['name']}")
    return manifest
