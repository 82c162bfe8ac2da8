"""`new`: a plug-in or scenario to begin with: commented, with a scenario that uses it and a test that passes."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from testbed import output
from testbed.commands.app import app
from testbed.errors import InputError
from testbed.files import writing

if TYPE_CHECKING:
    from testbed.registry import Registry

_SKELETONS = Path(__file__).parent / "skeletons"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")


@dataclass(frozen=True)
class Kind:
    """One kind of skeleton.

    Attributes:
        question: what its scenario asks.
        key: the word of the scenario's skeleton that its name replaces; empty for none.
        check: what its test looks at beside verdict and expectations.
    """

    question: str
    key: str = ""
    check: str = ""


_KINDS = {
    "policy": Kind("Does $name lose less than `--set buffer.policy=reactive`?", "policy", "buffer.policy"),
    "forecaster": Kind("Does $name predict better than `--set buffer.policy=holt`?", "policy", "buffer.policy"),
    "balancer": Kind(
        "Does $name share the load better than `--set balancer.policy=hash`?", "balancer", "balancer.policy"
    ),
    "topology": Kind("What does it cost that every second node is slower?", "family"),
    "shape": Kind("Which buffers does traffic like $name need?", "shape"),
    "metric": Kind("How full does the fullest buffer get?"),
    "scenario": Kind("What do bursts of twice the service rate cost?"),
}
KindName = Literal["policy", "topology", "balancer", "forecaster", "shape", "metric", "scenario"]


@app.command(epilog="Example: `python -m testbed new policy my-policy`, then `python -m pytest test_my_policy.py`")
def new(
    kind: Annotated[
        KindName,
        typer.Argument(
            help="kind of template: policy, forecaster, balancer, topology, shape, metric or scenario",
            show_default=False,
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="name of the new file's policy, shape, …, such as my-policy", show_default=False
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="output directory; default: current directory")
    ] = Path(),
) -> None:
    """Write a commented template of a plug-in or scenario, and a passing test."""
    texts = _texts(kind, name)
    there = next((file for file in texts if (folder / file).exists()), None)
    if there is not None:
        raise InputError(f"new {kind} {name}", f"{folder / there} exists already", "choose another name or --out")
    writing.folder(folder)
    for file, text in texts.items():
        writing.replace(folder / file, text.encode())
        output.say(str(folder / file))
    test = next(file for file in texts if file.startswith("test_"))
    output.say(f"try: python -m pytest {folder / test}")


def _texts(kind: str, name: str) -> dict[str, str]:
    """Return the files to write, by name."""
    file = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(file):
        raise InputError(f"new {kind} {name}", "this is not a valid name", "use lower-case letters, digits and '-'")
    _refuse_taken(kind, name)
    row = _KINDS[kind]
    words = {"name": name, "file": file, "func": file, "camel": "".join(map(str.capitalize, name.split("-")))}
    scenario = {"family": "cluster", "policy": "reactive", "balancer": "ready-first", "shape": "poisson"}
    scenario |= {row.key: name} if row.key else {}
    scenario["plugins"] = f"plugins: [./{file}.py]\n" if kind != "scenario" else ""
    scenario["expect"] = f"  - own.{file} <= 1\n" if kind == "metric" else ""
    scenario["question"] = Template(row.question).substitute(words)
    section, _, key = row.check.partition(".")
    check = f'    assert run.summary["{section}"]["{key}"] == "{name}"\n' if key else ""
    texts = {} if kind == "scenario" else {f"{file}.py": _filled(kind, words)}
    texts[f"{file}.yaml"] = _filled("scenario", words | scenario)
    return texts | {f"test_{file}.py": _filled("test", words | {"check": check})}


def _filled(skeleton: str, words: dict[str, str]) -> str:
    return Template((_SKELETONS / f"{skeleton}.txt").read_text(encoding="utf-8")).substitute(words)


def _refuse_taken(kind: str, name: str) -> None:
    from testbed.scenario import tables

    buffers = tables.BUFFER_POLICIES
    rows: dict[str, Registry[Any]] = {"policy": buffers, "forecaster": buffers, "balancer": tables.BALANCER_POLICIES}
    table = {**rows, "topology": tables.TOPOLOGIES, "shape": tables.TRAFFIC_SHAPES}.get(kind)
    if table is not None and name in table:
        raise InputError(f"new {kind} {name}", f"a {table.what} of this name exists already", "choose another name")
