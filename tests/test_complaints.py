"""What is wrong with a scenario is told once, by what caused it; values of one type are not taken for another."""

from __future__ import annotations

import sys
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from testbed import cli
from testbed.errors import EXIT_BAD_INPUT, InputError
from testbed.scenario import complaints, yaml_nodes
from testbed.scenario.document import parse
from testbed.scenario.loading import ScenarioRefused, load
from testbed.scenario.model import MAX_FAULTS, Scenario
from testbed.scenario.sweep import SweepSpec, load_sweep

GOOD = """\
version: 1
name: tiny
duration: 1s
topology: {family: cluster, clients: 1}
buffer: {policy: static-min}
traffic:
  - {name: base, from: c1, shape: poisson, rate: 20Mbit}
  - {name: more, from: c1, shape: on-off, on: {constant: 1ms}, off: {constant: 1ms}, peak: 1Mbit}
faults:
  - {at: 100ms, crash: n1}
"""


def refused(tmp_path: Path, text: str) -> list[str]:
    """Return every complaint about a scenario, without the file's name."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioRefused) as caught:
        load(path)
    return [line.replace(f"{path}:", "") for line in caught.value.lines]


CAUSES = [
    # mistakes in all sources, in one of two, of each kind
    (["rate: 20Mbit", "rate: 20Mbps"], ["7: traffic.0.rate: unknown rate unit 'Mbps' in '20Mbps'; known: "]),
    (["peak: 1Mbit", "peak: 0Mbit"], ["8: traffic.1.peak: expected more than 0, got '0Mbit'"]),
    (
        ["rate: 20Mbit", "rate: 1", "peak: 1Mbit", "peak: 2"],
        ["7: traffic.0.rate: expected a rate with its unit", "8: traffic.1.peak: expected a rate with its unit"],
    ),
    # a key that is mistyped is not missing, too
    (["rate: 20Mbit", "rat: 20Mbit"], ["7: traffic.0.rat: unknown key; did you mean 'rate'?"]),
    (["family: cluster", "famly: cluster"], ["4: topology.famly: unknown key; did you mean 'family'?"]),
    (["duration: 1s", "duratoin: 1s"], ["3: duratoin: unknown key; did you mean 'duration'?"]),
    (["version: 1", "Version: 1"], ["1: Version: unknown key; did you mean 'version'?"]),
    (["traffic:", "trafic:"], ["6: trafic: unknown key; did you mean 'traffic'?"]),
    (["topology:", "toplogy:"], ["4: toplogy: unknown key; did you mean 'topology'?"]),
    (["at: 100ms", "att: 100ms"], ["10: faults.0.att: unknown key; did you mean 'at'?"]),
    (["peak: 1Mbit", "peek: 1Mbit"], ["8: traffic.1.peek: unknown key; did you mean 'peak'?"]),
    # what is really missing is told beside an unknown key that is something else
    (
        ["rate: 20Mbit", "colour: red"],
        ["7: traffic.0.rate: this key is missing", "7: traffic.0.colour: unknown key; known keys: name, from,"],
    ),
    # a union speaks of the branch that is meant
    (["shape: poisson", "shape: poison"], ["7: traffic.0.shape: expected one of poisson, constant, on-off, wave, tcp"]),
    (["on: {constant: 1ms}", "on: {constnt: 1ms}"], ["8: traffic.1.on.constnt: unknown key; did you mean 'constant'?"]),
    (
        ["on: {constant: 1ms}", "on: {pareto: {mean: 60}}"],
        ["8: traffic.1.on.pareto.mean", "8: traffic.1.on.pareto.alpha"],
    ),
    (["on: {constant: 1ms}", "on: {}"], ["8: traffic.1.on: give exactly one of constant, exponential, pareto"]),
    # a fault whose target does not exist has no state
    (["crash: n1", "restart: n9"], ["10: faults.0.restart: there is no node 'n9'; there are n1 to n3"]),
    (["crash: n1", "link_up: s1-n9"], ["10: faults.0.link_up: there is no node 'n9'"]),
    (["crash: n1", "restart: n1"], ["10: faults.0.restart: n1 is running at that time"]),
    (["crash: n1", "crash: ''"], ["10: faults.0.crash: there is no node ''"]),
    (["crash: n1", "link_down: ''"], ["10: faults.0.link_down: there is no node ''"]),
    (["crash: n1", "crush: n1"], ["10: faults.0.crush: unknown key; did you mean 'crash'?"]),
]


@pytest.mark.parametrize(("changes", "expected"), CAUSES, ids=[changes[1] for changes, _ in CAUSES])
def test_the_cause_is_told_and_nothing_that_follows_from_it(tmp_path, changes, expected):
    text = GOOD
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    lines = refused(tmp_path, text)
    assert len(lines) == len(expected), lines
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * len(lines), lines


def test_an_empty_list_is_too_short(tmp_path):
    text = GOOD.partition("traffic:")[0] + "traffic: []\n"
    assert refused(tmp_path, text) == ["6: traffic: expected at least 1 entry, got 0"]


def test_a_sweep_tells_the_cause_alone(tmp_path):
    (tmp_path / "s.yaml").write_text("version: 1\nname: swept\nscnario: tiny.yaml\nseeds: []\n")
    with pytest.raises(ScenarioRefused) as caught:
        load_sweep(tmp_path / "s.yaml")
    keys = [line.split(": ")[1] for line in caught.value.lines]
    assert keys == ["scnario", "seeds"]


# ------------------------------------------------------------------------------------------------------------ types


def _fields(model: type[BaseModel], seen: set[type]) -> typing.Iterator[tuple[str, Any]]:
    """Yield every field of a model and of those in it, with all that is said of it."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field
        for part in complaints.models_in(field.annotation).values():
            yield from _fields(part, seen)


FIELDS = {**dict(_fields(Scenario, set())), **dict(_fields(SweepSpec, set()))}


def _accepts(field: Any, value: Any) -> bool:
    kind = field.annotation
    for mark in field.metadata:
        kind = typing.Annotated[kind, mark]
    try:
        TypeAdapter(kind, config={"strict": True}).validate_python(value)
    except ValidationError:
        return False
    return True


def _is_a_number(annotation: Any) -> bool:
    return annotation is float or any(map(_is_a_number, get_args(annotation)))


NUMBERS = {name: field for name, field in FIELDS.items() if _is_a_number(field.annotation)}


def test_there_are_numbers_to_look_at():
    assert {"ParetoSpec.alpha", "BufferSpec.alpha", "TraceSpec.stretch", "FaultSpec.ratio"} <= NUMBERS.keys()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "nan", "1.5", float("inf"), float("nan"), True, 10**400], ids=repr)
def test_a_number_is_a_finite_number(name, value):
    assert not _accepts(NUMBERS[name], value)


LITERALS = {
    name: [word for word in get_args(field.annotation) if isinstance(word, int)]
    for name, field in FIELDS.items()
    if get_origin(field.annotation) is Literal
}


@pytest.mark.parametrize("name", [name for name, words in LITERALS.items() if words])
def test_what_equals_a_whole_number_is_none(name):
    for word in LITERALS[name]:
        assert _accepts(FIELDS[name], word)
        assert not [odd for odd in (float(word), str(word), word == 1 or None) if _accepts(FIELDS[name], odd)]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("true", "expected 1, got true"),
        ("1.0", "expected 1, got 1.0"),
        ('"1"', "expected 1, got '1'; write it without quotes"),
        ("2", "expected 1, got 2"),
    ],
)
def test_a_version_is_the_whole_number_1(tmp_path, written, words):
    assert refused(tmp_path, GOOD.replace("version: 1", f"version: {written}")) == [f"1: version: {words}"]


def test_ip_is_4_and_not_what_equals_it(tmp_path):
    for written in ("4.0", '"4"'):
        assert (
            "traffic.0.ip: expected one of 4, 6, mixed"
            in refused(tmp_path, GOOD.replace("rate: 20Mbit", f"rate: 20Mbit, ip: {written}"))[0]
        )


@pytest.mark.parametrize("alpha", ["inf", "nan", ".inf", '"1.5"', "1e999"])
def test_a_tail_has_a_finite_shape(tmp_path, alpha):
    text = GOOD.replace("on: {constant: 1ms}", f"on: {{pareto: {{mean: 60ms, alpha: {alpha}}}}}")
    assert refused(tmp_path, text)[0].startswith("8: traffic.1.on.pareto.alpha: expected a ")


def test_a_duration_beyond_any_run_is_refused(tmp_path):
    assert (
        "is too large for a duration"
        in refused(tmp_path, GOOD.replace("on: {constant: 1ms}", "on: {constant: 1e9h}"))[0]
    )


# ------------------------------------------------------------------------------------------------------------ sizes


def many(count: int, entry: str) -> str:
    """Return a scenario with so many faults."""
    return GOOD.partition("faults:")[0] + "faults:\n" + f"  - {entry}\n" * count


def test_more_entries_than_make_sense_are_refused_by_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(Scenario, "model_validate", None)  # not even looked at
    text = many(MAX_FAULTS + 1, "{at: 1ms, cpu_hog: 1, for: 1ms}")
    assert refused(tmp_path, text) == ["9: faults: expected at most 10,000 entries, got 10,001"]
    flat = GOOD.partition("faults:")[0].replace("traffic:\n", "expect: [" + "x, " * 2000 + "x]\ntraffic:\n")
    assert refused(tmp_path, flat) == ["6: expect: expected at most 1,000 entries, got 2,001"]


def test_of_many_complaints_a_thousand_are_worded(tmp_path, monkeypatch):
    worded = []
    whole = complaints.complaint_of
    monkeypatch.setattr(complaints, "complaint_of", lambda *arguments: worded.append(1) or whole(*arguments))
    path = tmp_path / "x.yaml"
    path.write_text(many(3000, "1"))
    with pytest.raises(ScenarioRefused) as caught:
        load(path)
    assert (len(worded), len(caught.value.lines), caught.value.more) == (1000, 1000, 2000)
    assert str(caught.value).splitlines()[-1] == "and 2,996 more"


def test_a_file_is_refused_at_the_line_where_it_grows_beyond_reason(monkeypatch):
    monkeypatch.setattr(yaml_nodes, "MAX_VALUES", 10)
    taken = []
    events = yaml_nodes.yaml.parse
    monkeypatch.setattr(yaml_nodes.yaml, "parse", lambda *a, **k: (taken.append(1) or e for e in events(*a, **k)))
    with pytest.raises(InputError, match="x:10: it holds more than 10 values"):
        parse(b"a:\n" + b"- 1\n" * 10_000, "x")
    assert len(taken) < 20


# --------------------------------------------------------------------------------------------------------- validate


def validated(monkeypatch, capsys, *arguments: str) -> list[str]:
    """Return the messages of `validate`."""
    monkeypatch.setattr(sys, "argv", ["testbed", "validate", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == EXIT_BAD_INPUT
    return capsys.readouterr().err.splitlines()


def test_everything_that_is_wrong_can_be_seen(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(many(9, "{at: 1ms, crash: n9}"))
    few = validated(monkeypatch, capsys, str(path))
    assert few[4:] == ["and 5 more; `validate --all` shows them"]
    everything = validated(monkeypatch, capsys, str(path), "--all")
    assert everything[:4] == few[:4]
    assert everything == [
        f"{path}:{10 + k}: faults.{k}.crash: there is no node 'n9'; there are n1 to n3" for k in range(9)
    ]
    one = validated(monkeypatch, capsys, str(path), "--set", "faults=[{at: 1ms, crash: n9}]")
    assert len(one) == 1
