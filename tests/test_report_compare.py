"""The comparison of runs: same traffic or none, INVALID never averaged, the gain by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.errors import InputError
from testbed.report import palette
from testbed.report.compare import Comparison, compare
from testbed.report.compare_page import _memory_against_loss, render
from testbed.results.run_directory import RunDirectory
from testbed.scenario.model import Scenario
from testbed.scenario.tables import BUFFER_POLICIES
from tests import synthetic_run


def write(folder: Path, policy: str, seed: int = 1, name: str = "", manifest: Any = None, **evidence: Any) -> Path:
    made = synthetic_run.make(synthetic_run.facts(policy, seconds=4, seed=seed))
    made = replace(made, evidence=replace(made.evidence, **evidence))
    path = folder / (name or f"{policy}-{seed}")
    synthetic_run.write(made, path, **(manifest or {}))
    return path


def row_of(comparison: Comparison, name: str) -> Any:
    return next(row for row in (*comparison.rows, *comparison.means) if row.name == name)


def test_the_gain_is_between_the_floor_and_the_oracle(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path, policy) for policy in ("static-min", "reactive", "lstm", "oracle")])
    assert [row.gain_ratio for row in comparison.rows] == [0.0, 1.0, 1.0, 1.0]
    assert row_of(comparison, "static-min-1").loss_ratio > 0.05
    assert row_of(comparison, "lstm-1").reserved_mb_s > row_of(comparison, "static-min-1").reserved_mb_s
    assert comparison.notes == ()


def test_without_a_baseline_there_is_no_gain(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path, "static-min"), write(tmp_path, "lstm")])
    assert [row.gain_ratio for row in comparison.rows] == [None, None]
    assert "–" in comparison.text()


def test_an_invalid_run_is_shown_marked_and_never_averaged(tmp_path: Path) -> None:
    runs = [write(tmp_path, "lstm", seed) for seed in (1, 2)]
    bad = write(tmp_path, "lstm", 3, cpu_idle_ratio=0.0)
    comparison = compare([*runs, bad])
    (mean,) = comparison.means
    assert (mean.name, mean.runs) == ("mean of 2", 2)
    assert mean.reserved_mb_s == pytest.approx(sum(row.reserved_mb_s or 0 for row in comparison.rows[:2]) / 2)
    assert "INVALID" in comparison.text()
    assert comparison.notes == ("in no mean and no baseline: lstm-3",)


def test_an_invalid_baseline_is_no_baseline(tmp_path: Path) -> None:
    runs = [write(tmp_path, "static-min", cpu_idle_ratio=0.0), write(tmp_path, "lstm"), write(tmp_path, "oracle")]
    assert [row.gain_ratio for row in compare(runs).rows] == [None, None, None]


def test_other_traffic_under_one_seed_is_refused_unless_allowed(tmp_path: Path) -> None:
    runs = [write(tmp_path, "lstm"), write(tmp_path, "reactive", manifest={"hashes": {"plan": "sha256:other"}})]
    with pytest.raises(InputError, match="same seed and different traffic"):
        compare(runs)
    allowed = compare(runs, allow_different=True)
    assert "same seed and different traffic" in allowed.notes[0]


def test_a_run_without_a_plan_hash_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no hash"):
        compare([write(tmp_path, "lstm", manifest={"hashes": {}})])


def test_another_scenario_is_refused_unless_allowed(tmp_path: Path) -> None:
    other = {"facts": {**synthetic_run.facts("lstm").to_record(), "scenario": "another"}}
    runs = [write(tmp_path, "lstm"), write(tmp_path, "lstm", name="other", manifest=other)]
    with pytest.raises(InputError, match="of scenario another"):
        compare(runs)
    assert compare(runs, allow_different=True).scenario == "another, made-up"


def test_settings_that_differ_are_said(tmp_path: Path) -> None:
    wide = {"facts": {**synthetic_run.facts("lstm", seconds=4).to_record(), "cap_bytes": 5}}
    comparison = compare([write(tmp_path, "lstm"), write(tmp_path, "lstm", name="wide", manifest=wide)])
    assert comparison.notes == ("cap_bytes differs: 10000000, 5",)


def test_a_run_without_an_end_is_shown_by_its_status(tmp_path: Path) -> None:
    facts = synthetic_run.facts("lstm", seconds=4)
    content = {"facts": facts.to_record(), "hashes": {"plan": f"sha256:{1:064x}"}}
    RunDirectory.create(tmp_path / "cut", content).finish("interrupted")
    comparison = compare([write(tmp_path, "lstm"), tmp_path / "cut"])
    assert row_of(comparison, "cut").verdict == "interrupted"
    assert not row_of(comparison, "cut").counts
    assert comparison.rows[1].loss_ratio is None


def test_the_text_is_a_table(tmp_path: Path) -> None:
    lines = compare([write(tmp_path, "static-min"), write(tmp_path, "lstm")]).text().splitlines()
    assert lines[0] == "scenario made-up"
    assert lines[1].split("  ")[0] == "run"
    assert "reserved MB·s" in lines[1]
    column = lines[1].index("verdict")
    assert {line[column : column + 5] for line in lines[3:5]} == {"VALID"}


def test_the_page_has_chart_and_tables(tmp_path: Path) -> None:
    page = render(compare([write(tmp_path, "static-min", seed) for seed in (1, 2)]))
    assert "Loss against memory" in page
    assert "mean of 2" in page
    only_bad = render(compare([write(tmp_path, "lstm", cpu_idle_ratio=0.0)]))
    assert "Loss against memory" not in only_bad
    assert "INVALID" in only_bad


def test_it_shows_question_answer_and_what_the_gain_needs(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path, "static-min"), write(tmp_path, "lstm")])
    assert comparison.answer.startswith("lstm lost least, 0.00 % of the packets; static-min most,")
    assert "a single seed" in comparison.answer
    for shown in (
        "question: Does expanding",
        f"answer: {comparison.answer}",
        "gain needs a run of static-min and one of",
    ):
        assert shown in comparison.text()
    assert comparison.answer in render(comparison)
    assert "gain needs" not in compare([write(tmp_path, p, 2) for p in ("static-min", "lstm", "oracle")]).text()


def test_a_policy_has_one_colour_whatever_it_is_compared_with(tmp_path: Path) -> None:
    def colours(*policies: str) -> dict[str, str]:
        chart = _memory_against_loss(compare([tmp_path / f"{policy}-1" for policy in policies]).rows)
        return {trace["name"].partition(",")[0]: trace["marker"]["color"] for trace in chart["data"]}

    for policy in ("static-min", "lstm", "oracle"):
        write(tmp_path, policy)
    every = colours("static-min", "lstm", "oracle")
    assert len(set(every.values())) == 3
    assert colours("oracle", "lstm") == {policy: every[policy] for policy in ("lstm", "oracle")}
    assert palette.policy_colour("lstm") == every["lstm"]
    assert palette.policy_colour("of-a-plug-in") == palette.policy_colour("of-a-plug-in")
    ours = [palette.policy_colour(name) for name in BUFFER_POLICIES.names if BUFFER_POLICIES.is_ours(name)]
    assert len(set(ours)) == len(ours)


# ------------------------------------------------------------------------------------ the whole scenario is compared

SCENARIO = {
    "version": 1,
    "name": "made-up",
    "seed": 1,
    "duration": "4s",
    "topology": {"family": "cluster", "nodes": 3, "clients": 2},
    "traffic": [
        {"name": "base", "from": "c1", "shape": "poisson", "rate": "1Mbit"},
        {"name": "more", "from": "c2", "shape": "constant", "rate": "2Mbit"},
    ],
    "faults": [{"at": "1s", "crash": "n1"}],
    "controller": {"standby": True},
}


def resolved(
    folder: Path, name: str, seed: int = 1, policy: str = "lstm", manifest: Any = None, **changed: Any
) -> Path:
    """Write a run whose directory holds its scenario, `changed` in keys such as ``topology__link_delay``."""
    path = write(folder, policy, seed, name, manifest)
    data = Scenario.model_validate({**SCENARIO, "seed": seed, "buffer": {"policy": policy}}).resolved()
    for key, value in changed.items():
        place: Any = data
        *way, last = (int(word) if word.isdigit() else word for word in key.split("__"))
        for word in way:
            place = place[word]
        place[last] = value
    (path / "scenario.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def keys_of(data: Any, at: str = "") -> Iterator[str]:
    """Yield every place of a resolved scenario that holds a value."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, (dict, list)) and value:
            yield from keys_of(value, f"{at}{key}__")
        else:
            yield f"{at}{key}"


ALL_KEYS = list(keys_of(Scenario.model_validate({**SCENARIO, "buffer": {"policy": "lstm"}}).resolved()))
IN_COLUMNS = {"buffer__policy", "balancer__policy", "seed", "name"}
NAMES = {key for key in ALL_KEYS if key.endswith("__name")}  # an entry of another name is another entry


def test_the_keys_tried_are_those_of_a_scenario() -> None:
    assert {"topology__link_delay", "buffer__margin", "mesh__heartbeat", "faults__0__crash"} <= set(ALL_KEYS)
    assert len(ALL_KEYS) > 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return resolved(folder, "a"), resolved(folder, "b")


@pytest.mark.parametrize("key", [key for key in ALL_KEYS if key not in IN_COLUMNS | NAMES])
def test_whatever_key_differs_is_named_and_keeps_runs_apart(pair: tuple[Path, Path], key: str) -> None:
    a, b = pair
    scenario = b / "scenario.yaml"
    sound = scenario.read_text()
    try:
        data = yaml.safe_load(sound)
        place: Any = data
        *way, last = (int(word) if word.isdigit() else word for word in key.split("__"))
        for word in way:
            place = place[word]
        place[last] = "another"
        scenario.write_text(yaml.safe_dump(data, sort_keys=False))
        comparison = compare([a, b], allow_different=True)
    finally:
        scenario.write_text(sound)
    assert comparison.means == ()
    (difference,) = [one for one in comparison.differences if not one.key.endswith("order")]
    expected = key.replace("traffic__0__", "traffic__base__").replace("traffic__1__", "traffic__more__")
    assert difference.key == expected.replace("__", ".")
    assert "another" in difference.values
    assert any(str(difference) in note for note in comparison.notes)


def test_a_difference_stands_in_the_table_the_page_and_the_json(tmp_path: Path) -> None:
    runs = [resolved(tmp_path, "a"), resolved(tmp_path, "b", topology__link_delay="20ms"), resolved(tmp_path, "c")]
    comparison = compare(runs)
    said = "topology.link_delay differs: 0ms (a, c), 20ms (b)"
    assert f"note: {said}" in comparison.text()
    assert said in render(comparison)
    assert asdict(comparison)["differences"] == (
        {"key": "topology.link_delay", "values": ("0ms", "20ms", "0ms")},
    )  # fmt: skip
    assert [(row.name, row.runs) for row in comparison.means] == [("mean of 2", 2)]


def test_runs_that_differ_in_the_seed_alone_are_averaged(tmp_path: Path) -> None:
    runs = [resolved(tmp_path, name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 1))]
    comparison = compare(runs)
    assert (comparison.notes, comparison.differences) == ((), ())
    assert [row.runs for row in comparison.means] == [3]


def test_an_entry_of_another_name_is_another_entry(tmp_path: Path) -> None:
    runs = [resolved(tmp_path, "a"), resolved(tmp_path, "b", traffic__0__name="third")]
    comparison = compare(runs)
    assert [(one.key, one.values[0] is None) for one in comparison.differences] == [
        ("traffic.base", False), ("traffic.third", True),
    ]  # fmt: skip
    assert comparison.means == ()


def test_sources_in_another_order_are_another_plan(tmp_path: Path) -> None:
    other = [*reversed(Scenario.model_validate({**SCENARIO, "buffer": {}}).resolved()["traffic"])]
    runs = [resolved(tmp_path, "a"), resolved(tmp_path, "b", traffic=other)]
    assert [one.key for one in compare(runs).differences] == ["traffic.order"]


def test_other_traffic_under_another_seed_is_refused_too(tmp_path: Path) -> None:
    runs = [resolved(tmp_path, "a", 1), resolved(tmp_path, "b", 2, traffic__0__rate="3Mbit")]
    with pytest.raises(InputError, match=r"different traffic: traffic\.base\.rate differs: 1Mbit, 3Mbit"):
        compare(runs)
    assert compare(runs, allow_different=True).means == ()


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("hashes", "model"),
        ("hashes", "bpf/node"),
        ("hashes", "trace/more"),
        ("project", "version"),
    ],
)
def test_what_carried_a_run_out_is_compared_too(tmp_path: Path, part: str, key: str) -> None:
    def manifest(value: str) -> dict[str, Any]:
        content: dict[str, Any] = {"hashes": {"plan": "sha256:1"}, "project": {}}
        content[part][key] = value
        return content

    runs = [resolved(tmp_path, name, manifest=manifest(name)) for name in ("one", "other")]
    comparison = compare(runs, allow_different=True)
    assert f"{key} differs: one, other" in comparison.notes
    assert comparison.means == ()


def test_machines_and_tools_are_named_and_keep_nothing_apart(tmp_path: Path) -> None:
    plan = {"hashes": {"plan": "sha256:1"}}
    runs = [
        resolved(tmp_path, n, manifest={**plan, "tools": {"numpy": n}, "machine": {"cores": 2}}) for n in ("1", "2")
    ]
    comparison = compare(runs)
    assert comparison.notes == ("tools.numpy differs: 1, 2",)
    assert [row.runs for row in comparison.means] == [2]


def test_a_run_without_its_scenario_is_not_taken_for_another(tmp_path: Path) -> None:
    runs = [resolved(tmp_path, "a"), write(tmp_path, "lstm", name="b")]
    comparison = compare(runs)
    assert comparison.notes == ("scenario.yaml differs: there, absent",)
    assert comparison.means == ()
    (runs[1] / "scenario.yaml").write_text("")
    with pytest.raises(InputError, match=r"scenario\.yaml: it is empty"):
        compare(runs)


def test_a_gain_is_between_runs_that_differ_in_the_policy_alone(tmp_path: Path) -> None:
    runs = [resolved(tmp_path, policy, policy=policy) for policy in ("static-min", "lstm", "oracle")]
    assert compare(runs).rows[1].gain_ratio is not None
    far = [runs[0], runs[1], resolved(tmp_path, "far", policy="oracle", topology__link_delay="20ms")]
    assert [row.gain_ratio for row in compare(far).rows] == [None, None, None]
