"""Scenario files: the good ones load whole, each bad one is told by line, key and remedy in at most five lines."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testbed import errors
from testbed.scenario.document import parse
from testbed.scenario.loading import load, question_of, schema
from testbed.scenario.model import Scenario
from testbed.system import places

GOOD = """\
# Does a forecast save packets?
# Compare the losses of lstm and static-min.

version: 1
name: burst
duration: 20s
topology: {family: cluster, nodes: 3, clients: 2}
buffer:
  policy: lstm
  min: 0.5MB
traffic:
  - {name: base, from: c1, shape: poisson, rate: 60Mbit, flows: 200, packet: 1000B}
  - name: bursts
    from: c2
    shape: on-off
    on: {pareto: {mean: 60ms, alpha: 1.5}}
    off: {exponential: {mean: 400ms}}
    peak: 250Mbit
expect:
  - traffic.unaccounted_packets == 0
"""


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a scenario and returns its path."""

    def write(text: str | bytes = GOOD, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path, *settings: str, seed: int | None = None) -> str:
    """Return the message with which a scenario is refused, the folder left out."""
    with pytest.raises(errors.InputError) as caught:
        load(path, settings, seed)
    text = str(caught.value).replace(f"{path.parent}/", "")
    assert caught.value.exit_code == 2
    assert 1 <= len(text.splitlines()) <= 5
    return text


# ------------------------------------------------------------------------------------------------------- good files


def test_a_good_scenario_loads(written):
    loaded = load(written())
    assert loaded.question == "Does a forecast save packets?\nCompare the losses of lstm and static-min."
    assert loaded.scenario.duration_ns == 20 * 10**9
    assert loaded.scenario.traffic[1].on.pareto.mean_ns == 60_000_000
    assert loaded.raw["buffer"] == {"policy": "lstm", "min": "0.5MB"}
    assert len(loaded.sha256) == 64


def test_every_shipped_scenario_loads_and_asks_a_question():
    paths = sorted(places.scenarios().glob("*.yaml"))
    assert paths
    for path in paths:
        assert load(path).question, path


def test_the_resolved_form_is_a_scenario_that_resolves_to_itself(written):
    resolved = load(written()).scenario.resolved()
    again = load(written(yaml.safe_dump(resolved), "again.yaml")).scenario
    assert again.resolved() == resolved


def test_on_and_off_are_keys_and_not_booleans(written):
    source = load(written()).raw["traffic"][1]
    assert set(source) >= {"on", "off"}


@pytest.mark.parametrize(
    ("written_as", "value"),
    [("010", 10), ("12:30", "12:30"), ("yes", "yes"), ("2026-01-01", "2026-01-01"), ("1e3", 1000.0), ("~", None)],
)
def test_words_mean_what_yaml_1_2_says(written_as, value):
    assert parse(f"key: {written_as}\n".encode(), "x").data == {"key": value}


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("# one\n#two\nversion: 1\n# three\n", "one\ntwo"),
        ("\n\n# one\n\n# two\n", "one"),
        ("version: 1\n# late\n", ""),
        ("", ""),
    ],
)
def test_the_question_is_the_comment_that_opens_the_file(text, question):
    assert question_of(text) == question


def test_the_schema_knows_every_key_of_a_scenario():
    assert set(schema()["properties"]) == {field.alias or name for name, field in Scenario.model_fields.items()}
    assert schema()["additionalProperties"] is False


# -------------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "reading x.yaml: it is empty"),
        (b"# only a comment\n", "it is empty"),
        (b"- 1\n", "it is not a mapping"),
        (b"burst\n", "it is not a mapping"),
        (b"\xff\xfe\x00v", "it is not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00", "invalid YAML"),
        (b"version: 1\nname: [a\n", "x.yaml:3: invalid YAML"),
        (b"a:\n\t- b\n", "x.yaml:2: invalid YAML"),
        (b"version: 1\nname: a\nversion: 1\n", "x.yaml:3: the key 'version' is given twice (first in line 1)"),
        (b"a: {b: 1, b: 2}\n", "x.yaml:1: the key 'b' is given twice"),
        (b"? [a, b]\n: 1\n", "x.yaml:1: a key must be a plain scalar"),
        (b"a: 1\n---\nb: 1\n", "expected a single document"),
        (b"a: *nowhere\n", "undefined alias"),
        (b"a: &a [*a]\n", "refers to a node that contains it"),
        (b"a: !!python/object/apply:os.system [ls]\n", "has no meaning here"),
        (b"a: !mine 1\n", "has no meaning here"),
        (b"a: !!int ten\n", "cannot be read as int"),
        (b"a: " + b"[" * 3000, "nests deeper"),
        (b"a: " + b"[" * 40 + b"]" * 40 + b"\n", "nests deeper"),
        (b"a: " + b"x" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_is_no_scenario_file_is_refused(written, content, expected):
    assert expected in refusal(written(content))


def test_aliases_of_aliases_are_bounded(written):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    assert "values once its aliases are expanded" in refusal(written("\n".join(lines)))


def test_a_missing_file_names_those_there_are(written):
    path = written()
    assert refusal(path.with_name("burts.yaml")) == "reading burts.yaml: there is no such file; there are x.yaml"


def test_a_directory_is_refused(tmp_path):
    assert "it is a directory" in refusal(tmp_path / ".." / tmp_path.name)


def test_a_device_is_refused():
    assert "it is a device, not a file" in refusal(Path("/dev/zero"))


def test_a_name_with_a_nul_is_refused():
    assert "null" in refusal(Path("x\0.yaml"))


def test_a_file_without_permission_is_refused(written, monkeypatch):
    path = written()
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything: let the kernel's answer come from here

        def refuse(*arguments, **named):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    assert refusal(path) == "reading x.yaml: Permission denied; give a scenario file"


BAD_VALUES = [
    ("polcy: lstm", "policy: lstm", "x.yaml:9: buffer.polcy: unknown key; did you mean 'policy'?"),
    ("policy: lstn", "policy: lstm", "got 'lstn'; did you mean 'lstm'?"),
    ("min: 11MB", "min: 0.5MB", "x.yaml:8: buffer: min (11MB) is greater than max (10MB)"),
    ("min: 5", "min: 0.5MB", "x.yaml:10: buffer.min: expected a size with its unit, such as '0.5MB', got 5"),
    ("min: 0MB", "min: 0.5MB", "x.yaml:10: buffer.min: expected more than 0, got '0MB'"),
    ("rate: 0Mbit", "rate: 60Mbit", "x.yaml:12: traffic.0.rate: expected more than 0, got '0Mbit'"),
    ("shape: poison", "shape: poisson", "x.yaml:12: traffic.0.shape: expected one of"),
    ("shape: poison", "shape: poisson", "did you mean 'poisson'?"),
    ("shap: poisson", "shape: poisson", "x.yaml:12: traffic.0: neither shape nor trace is given; did you mean 'shap'"),
    ("from: c3", "from: c2", "x.yaml:14: traffic.1.from: there is no client 'c3'; the topology has c1 to c2"),
    ("name: base", "name: bursts", "traffic.1.name: 'base' is also the name of traffic.0"),
    ("clients: 0", "clients: 2", "x.yaml:7: topology.clients: expected at least 1, got 0"),
    ("family: clust", "family: cluster", "did you mean 'cluster'?"),
    ("alpha: 1", "alpha: 1.5", "x.yaml:16: traffic.1.on.pareto.alpha: expected more than 1.0, got 1"),
    ("on: 60ms", "on: {pareto: {mean: 60ms, alpha: 1.5}}", "traffic.1.on: expected a mapping"),
    ("on: {}", "on: {pareto: {mean: 60ms, alpha: 1.5}}", "x.yaml:16: traffic.1.on: give exactly one of"),
    ("duration: 20", "duration: 20s", "x.yaml:6: duration: expected a duration with its unit"),
    ("duration: 1ms", "duration: 20s", "x.yaml:6: duration: expected at least 100ms, got '1ms'"),
    ("name: Burst Two\n", "name: burst\n", "x.yaml:5: name: expected a lower-case letter, then up to 63 of"),
    ("version: 2", "version: 1", "x.yaml:4: version: expected 1, got 2"),
    ("trace: none.csv", "shape: poisson, rate: 60Mbit", "x.yaml:12: traffic.0.trace: there is no file none.csv"),
    (f"trace: {'x' * 300}", "shape: poisson, rate: 60Mbit", "x.yaml:12: traffic.0.trace: there is no file xxx"),
    ("buffer:\nbalancer:\n  policy: lstm\n", "buffer:\n  policy: lstm\n", "buffer: expected a mapping of keys"),
    ("expect: x\n", "expect:\n  - traffic.unaccounted_packets == 0\n", "expect: expected a list"),
]


@pytest.mark.parametrize(("bad", "instead_of", "expected"), BAD_VALUES, ids=[bad for bad, _, _ in BAD_VALUES])
def test_a_bad_value_is_told_by_line_key_and_remedy(written, bad, instead_of, expected):
    text = GOOD.replace(instead_of, bad, 1)
    assert text != GOOD
    assert expected in refusal(written(text))


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        ("sync_interval: 21s", "mesh.sync_interval (21s) is longer than duration (20s)"),
        ("heartbeat: 1s, misses: 20", "mesh.heartbeat × mesh.misses, 20.5s with half a heartbeat, is longer than"),
    ],
)
def test_a_mesh_that_could_say_nothing_within_the_run_is_refused(written, mesh, expected):
    assert expected in refusal(written(GOOD + f"mesh: {{{mesh}}}\n"))


@pytest.mark.parametrize(
    ("settings", "heartbeat_ms", "misses"),
    [
        (["topology.nodes=16"], 10, 5),
        (["topology.nodes=17"], 20, 3),
        (["topology.nodes=17", "mesh.watchers=2"], 20, 3),
        (["topology.nodes=17", "mesh.misses=4"], 10, 4),
        (["topology.nodes=17", "mesh.heartbeat=5ms"], 5, 5),
    ],
)
def test_a_large_mesh_has_defaults_of_its_own_unless_they_are_written(written, settings, heartbeat_ms, misses):
    scenario = load(written(), settings).scenario
    assert (scenario.mesh.heartbeat_ns, scenario.mesh.misses) == (heartbeat_ms * 10**6, misses)
    again = load(written(yaml.safe_dump(scenario.resolved()), "again.yaml")).scenario
    assert again.resolved() == scenario.resolved()


def test_a_missing_key_is_told_with_an_example(written):
    text = refusal(written(GOOD.replace("duration: 20s\n", "")))
    assert text == "x.yaml:4: duration: this key is missing; add `duration: 20s`"


def test_the_tag_of_a_union_is_no_part_of_the_path(written):
    assert "x.yaml:12: traffic.0.rat: unknown key; did you mean 'rate'?" in refusal(
        written(GOOD.replace("rate: 60Mbit", "rate: 60Mbit, rat: 1"))
    )


def test_a_trace_source_is_told_by_its_own_keys(written):
    text = GOOD.replace("shape: poisson, rate: 60Mbit", "trace: 3")
    assert refusal(written(text)) == "x.yaml:12: traffic.0.trace: expected a text, got 3"


def test_four_errors_are_shown_in_the_order_of_the_file_and_the_rest_counted(written):
    bad = "version: 3\nname: A\nseed: x\nduration: 1\ntopology: 4\ntraffic: 5\nmore: 6\n"
    lines = refusal(written(bad)).splitlines()
    assert [line.split(": ")[0] for line in lines[:4]] == [f"x.yaml:{number}" for number in (1, 2, 3, 4)]
    assert lines[4] == "and 3 more"


# --------------------------------------------------------------------------------------------------------- settings


def test_settings_reach_keys_defaults_and_list_entries_by_index_or_name(written):
    settings = [
        "buffer.max=20MB",
        "balancer.policy=round-robin",
        "traffic.0.flows=7",
        "traffic.bursts.off.exponential.mean=1s",
    ]
    scenario = load(written(), settings).scenario
    assert scenario.buffer.max_bytes == 20_000_000
    assert scenario.balancer.policy == "round-robin"
    assert scenario.traffic[0].flows == 7
    assert scenario.traffic[1].off.exponential.mean_ns == 10**9


def test_the_last_setting_and_the_seed_win(written):
    loaded = load(written(), ["seed=3", "buffer.policy=reactive", "buffer.policy=static-min"], seed=9)
    assert (loaded.scenario.seed, loaded.scenario.buffer.policy) == (9, "static-min")


def test_other_rooms_can_name_the_line_of_what_they_refuse(written):
    loaded = load(written(), ["topology.nodes=2"])
    assert loaded.where("expect", 0).endswith("x.yaml:20: expect.0")
    assert loaded.where("topology", "nodes") == "--set topology.nodes=2: topology.nodes"


def test_settings_do_not_change_the_hash_of_the_file(written):
    path = written()
    assert load(path, ["seed=3"]).sha256 == load(path).sha256


def test_a_setting_behind_an_alias_changes_one_place(written):
    shared = GOOD.replace("on: {pareto", "on: &d {pareto").replace("off: {exponential: {mean: 400ms}}", "off: *d")
    scenario = load(written(shared), ["traffic.bursts.on.pareto.mean=1s"]).scenario
    assert (scenario.traffic[1].on.pareto.mean_ns, scenario.traffic[1].off.pareto.mean_ns) == (10**9, 60_000_000)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("nonsense", "--set nonsense: expected key.path=value"),
        ("=3", "--set =3: expected key.path=value"),
        ("a..b=3", "expected key.path=value"),
        ("buffer.min=[", "--set buffer.min=[: invalid YAML"),
        ("buffer.polcy=lstm", "--set buffer.polcy=lstm: buffer.polcy: unknown key; did you mean 'policy'?"),
        ("buffer.min=11MB", "--set buffer.min=11MB: buffer: min (11MB) is greater than max (10MB)"),
        ("foo.bar=1", "foo: unknown key; known keys: version, name,"),
        ("traffic.nope.rate=1Mbit", "no entry 'nope' in the list; there are base, bursts, 0 to 1"),
        ("traffic.burst.rate=1Mbit", "no entry 'burst' in the list; did you mean 'bursts'?"),
        ("traffic.2.rate=1Mbit", "no entry '2' in the list"),
        ("name.x=1", "'burst' is a single value and has no key 'x'"),
        ("topology.clients=1", "traffic.1.from: there is no client 'c2'; the topology has c1"),
    ],
)
def test_a_bad_setting_is_told_by_its_own_text(written, setting, expected):
    assert expected in refusal(written(), setting)


def test_a_bad_seed_is_told_as_the_option(written):
    assert refusal(written(), seed=-1) == "--seed -1: seed: expected at least 0, got -1"


# ------------------------------------------------------------------------------------------------------------- fuzz

words = st.sampled_from(
    ["version", "name", "topology", "buffer", "traffic", "min", "shape", "trace", "poisson", "on", "1", "x"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(words, values, max_size=6))
def test_whatever_the_data_the_answer_is_a_scenario_or_a_refusal(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    refusal(path)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_the_answer_is_a_refusal(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_bytes(content)
    refusal(path)


@given(st.text(max_size=40))
def test_whatever_the_setting_the_answer_is_a_scenario_or_a_refusal(tmp_path_factory, setting):
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_text(GOOD, encoding="utf-8")
    with contextlib.suppress(errors.InputError):
        load(path, [setting])
        return
    refusal(path, setting)
