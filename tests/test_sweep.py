"""Sweeps: the product of settings and seeds, resumed from whatever the run directories hold, averaged honestly."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from testbed.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_TOOL_FAILED, InputError, ToolError
from testbed.paper import tables
from testbed.report.sweep_cells import cells_of, columns_of, difference_cells_of
from testbed.report.sweep_page import render
from testbed.report.sweep_progress import SweepProgress
from testbed.report.sweep_table import tabulate
from testbed.results.confidence import estimate, student_t
from testbed.results.differences import difference
from testbed.results.recorded_run import RecordedRun
from testbed.results.run_directory import RunDirectory
from testbed.scenario import loading
from testbed.scenario.document import parse_value
from testbed.scenario.overrides import Setting
from testbed.scenario.sources import OnOffSpec
from testbed.scenario.sweep import load_sweep, option_text
from testbed.system import places
from testbed.trials.inputs import hashes_of_inputs
from testbed.trials.process import Ended, TrialCall, TrialProcesses
from testbed.trials.sweep import SweepResult, carry_out, checked
from tests import synthetic_run

SWEEP = """\
# Which one?
version: 1
name: some
scenario: small.yaml
set:
  buffer.policy: [static-min, lstm, oracle]
seeds: 2
"""
SCENARIO = """\
version: 1
name: small
duration: 3s
topology: {family: cluster, nodes: 3, clients: 2, node_rate: 40Mbit}
traffic:
  - {name: base, from: c1, shape: poisson, rate: 10Mbit}
  - {name: more, from: c2, shape: on-off, on: {constant: 50ms}, off: {constant: 50ms}, peak: 20Mbit}
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a sweep beside its scenario and returns its path."""
    (tmp_path / "small.yaml").write_text(SCENARIO)

    def write(text: str = SWEEP) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(text)
        return path

    return write


class Fake:
    """A trial runner that makes up its runs and can be told how they end.

    Attributes:
        calls: what was run, in order.
        fates: how the next runs end: a verdict, `interrupted`, `killed`, `failed`, `nothing`, or an exception.
    """

    def __init__(self, *fates: Any) -> None:
        self.fates = list(fates)
        self.calls: list[TrialCall] = []
        self.manifest: Callable[[TrialCall], dict[str, Any]] = lambda call: {}
        self.expect: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [call.out.name for call in self.calls]

    def __call__(self, call: TrialCall) -> Ended:
        self.calls.append(call)
        fate = self.fates.pop(0) if self.fates else "VALID"
        if isinstance(fate, BaseException):
            raise fate
        if isinstance(fate, Ended):
            return fate
        return self._make(call, fate)

    def _make(self, call: TrialCall, fate: str) -> Ended:
        scenario = call.loaded.scenario
        facts = synthetic_run.facts(scenario.buffer.policy, seconds=4, seed=scenario.seed, expect=self.expect)
        if fate in ("interrupted", "killed", "failed"):
            content = {"facts": facts.to_record(), "hashes": {"plan": "sha256:0"}}
            directory = RunDirectory.create(call.out, content)
            if fate == "killed":
                directory.manifest["process"]["boot"] = "another"
                directory.write_json("manifest.json", directory.manifest)
                return Ended(-9)
            directory.finish("interrupted" if fate == "interrupted" else "failed")
            return Ended(EXIT_INTERRUPTED) if fate == "interrupted" else Ended(EXIT_TOOL_FAILED, "it broke")
        made = synthetic_run.make(facts)
        idle = {"VALID": 0.6, "INVALID": 0.0}[fate]
        made = replace(made, evidence=replace(made.evidence, cpu_idle_ratio=idle))
        directory = synthetic_run.write(made, call.out, **self.manifest(call))
        directory.write_text("scenario.yaml", yaml.safe_dump(scenario.resolved()))
        return Ended(0 if fate == "VALID" else 5)


def go(path: Path, run: Callable[[TrialCall], Ended]) -> SweepResult:
    loaded = load_sweep(path)
    progress = SweepProgress(Console(stderr=True), len(loaded.trials), quiet=True)
    return carry_out(loaded, path.parent / "out", run, progress)


def manifest_of(result: SweepResult) -> dict[str, Any]:
    return json.loads((result.path / "sweep.json").read_text())


# ------------------------------------------------------------------------------------------------------ the file


def test_trials_are_the_product_seed_by_seed(written):
    sweep = load_sweep(written(SWEEP + "  # and\n" + "mean_from: null\n"))
    assert [trial.name for trial in sweep.trials] == [
        "policy=static-min,seed=1", "policy=lstm,seed=1", "policy=oracle,seed=1",
        "policy=static-min,seed=2", "policy=lstm,seed=2", "policy=oracle,seed=2",
    ]  # fmt: skip
    assert sweep.question == "Which one?"
    last = sweep.load(sweep.trials[-1]).scenario
    assert (last.buffer.policy, last.seed) == ("oracle", 2)


def test_a_value_alone_is_set_and_not_named(written):
    text = SWEEP.replace("seeds: 2", "  duration: 2s\n  traffic.base.rate: [5Mbit]\nseeds: [7]")
    sweep = load_sweep(written(text))
    assert sweep.trials[0].name == "policy=static-min,seed=7"
    assert sweep.fixed == {"duration": "2s", "traffic.base.rate": "5Mbit"}
    scenario = sweep.load(sweep.trials[0]).scenario
    assert (scenario.duration_ns, scenario.traffic[0].rate_bps) == (2 * 10**9, 5_000_000)


def test_names_tell_keys_and_odd_values_apart(written):
    text = SWEEP.replace("  buffer.policy: [static-min, lstm, oracle]", (
        "  traffic.base.rate: [5Mbit, 6Mbit]\n  traffic.more.flows: [25, 26]\n"
        "  traffic.more.on: [{constant: 10ms}, {constant: 20ms}]\n  topology.nodes: [2, 3]"
    )).replace("  traffic.more.flows", "  traffic.base.flows: [10]\n  traffic.more.flows")  # fmt: skip
    names = [trial.name for trial in load_sweep(written(text)).trials]
    assert len(set(names)) == len(names) == 32
    assert all("/" not in name and " " not in name and '"' not in name for name in names)
    assert names[0].startswith("rate=5Mbit,flows=25,on=")
    twice = SWEEP.replace("  buffer.policy: [static-min, lstm, oracle]", (
        "  traffic.base.flows: [5, 6]\n  traffic.more.flows: [20, 30]"
    ))  # fmt: skip
    assert load_sweep(written(twice)).trials[0].name == "traffic.base.flows=5,traffic.more.flows=20,seed=1"


def test_static_mean_runs_after_its_source(written):
    text = SWEEP.replace("static-min, lstm", "static-mean, lstm") + "mean_from: lstm\n"
    sweep = load_sweep(written(text))
    assert [(t.name, t.mean_from) for t in sweep.trials[:3]] == [
        ("policy=lstm,seed=1", None),
        ("policy=oracle,seed=1", None),
        ("policy=static-mean,seed=1", "policy=lstm,seed=1"),
    ]


@pytest.mark.parametrize(
    "value", ["10ms", "lstm", "1", "true", "null", "a: b", " x", "[", "", 3, 1.5, True, None, {"constant": "1ms"}]
)
def test_options_read_back_as_they_were(value):
    key, _, text = option_text(Setting("", "a.b", value)).partition("=")
    assert key == "a.b"
    assert parse_value(text, "") == value
    assert type(parse_value(text, "")) is type(value)


BAD = [
    ("version: 1", "version: 2", "some.yaml:2: version: expected 1"),
    ("name: some", "name: Some", "some.yaml:3: name: expected a lower-case letter"),
    ("seeds", "sedes", "some.yaml:7: sedes: unknown key; did you mean 'seeds'?"),
    ("small.yaml", "smal.yaml", "some.yaml:4: scenario: there is no file"),
    ("seeds: 2", "seeds: 0", "some.yaml:7: seeds: expected 1 to"),
    ("seeds: 2", "seeds: many", "some.yaml:7: seeds: expected a list of seeds"),
    ("seeds: 2", "seeds: [1, 1]", "some.yaml:7: seeds: seed 1 is given twice"),
    ("seeds: 2", "seeds: [1, -1]", "some.yaml:7: seeds: a seed is a whole number"),
    ("seeds: 2", "seeds: []", "some.yaml:7: seeds: expected at least 1 entry"),
    ("seeds: 2", "seeds: 9999", "29,997 trials"),
    ("lstm, oracle", "lstm, lstm", "some.yaml:6: set.buffer.policy: 'lstm' is given twice"),
    ("[static-min, lstm, oracle]", "[]", "some.yaml:6: set.buffer.policy: expected at least one value"),
    ("lstm, oracle", "lsmt, oracle", "some.yaml:6: set: buffer.policy: expected one of"),
    ("lstm, oracle", "lsmt, oracle", "did you mean 'lstm'?"),
    ("buffer.policy", "bufer.policy", "some.yaml:6: set: bufer: unknown key; did you mean 'buffer'?"),
    ("buffer.policy: [static-min, lstm, oracle]", "seed: [1, 2]", "give `seeds: [1, 2, 3]` instead"),
    ("buffer.policy: [static-min, lstm, oracle]", "name: [x, y]", "set.name: a sweep does not set it"),
    ("seeds: 2", "mean_from: lstm", "some.yaml:7: mean_from: static-mean is not among the values"),
    ("seeds: 2", "mean_from: lsmt", "did you mean 'lstm'?"),
    ("seeds: 2", "baseline: {}", "some.yaml:7: baseline: expected at least one key"),
    ("seeds: 2", "baseline: lstm", "some.yaml:7: baseline: expected a mapping"),
    ("seeds: 2", "baseline: {buffer.policy: holt}", "baseline.buffer.policy: 'holt' is not among the values of set"),
    ("seeds: 2", "baseline: {balancer.policy: hash}", "baseline.balancer.policy: it does not vary in this sweep"),
    ("seeds: 2", "basline: {buffer.policy: lstm}", "basline: unknown key; did you mean 'baseline'?"),
    ("set:\n  buffer.policy: [static-min, lstm, oracle]", "set: 3", "some.yaml:5: set: expected a mapping"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD, ids=[f"{new}: {expected}" for _, new, expected in BAD])
def test_what_is_wrong_is_told_by_line(written, old, new, expected):
    assert old in SWEEP
    with pytest.raises(InputError) as caught:
        load_sweep(written(SWEEP.replace(old, new)))
    text = str(caught.value)
    assert expected in text
    assert caught.value.exit_code == 2
    assert len(text.splitlines()) <= 5


def test_a_wrong_scenario_is_told_in_its_own_file(written):
    path = written()
    (path.parent / "small.yaml").write_text(SCENARIO.replace("rate: 10Mbit", "rat: 10Mbit"))
    with pytest.raises(InputError, match=r"small\.yaml:6"):
        load_sweep(path)


def test_an_expectation_no_run_can_meet_is_refused_before_the_first(written):
    path = written()
    (path.parent / "small.yaml").write_text(SCENARIO + "expect: [buffer.los_ratio < 1]\n")
    with pytest.raises(InputError, match="small.yaml"):
        checked(path)


def test_run_and_sweep_send_each_other_their_files(written):
    with pytest.raises(InputError, match=r"some\.yaml:4: scenario: this is a sweep.*python -m testbed sweep"):
        loading.load(written())
    with pytest.raises(InputError, match=r"this is a scenario.*python -m testbed run"):
        load_sweep(written().parent / "small.yaml")


def test_every_shipped_sweep_is_fine_and_asks_a_question():
    paths = sorted((places.scenarios() / "sweeps").glob("*.yaml"))
    assert {path.stem for path in paths} >= {"actuation", "policies", "no-precursor", "adversarial"}
    for path in paths:
        sweep = checked(path)
        assert sweep.question.splitlines()[0].endswith("?"), path
        scenario = sweep.load(sweep.trials[0]).scenario
        assert scenario.duration_ns <= 20 * 10**9
        # A burst of more packets a second queues up in the userspace switch, and not in the buffers under test.
        peaks = [source for source in scenario.traffic if isinstance(source, OnOffSpec)]
        assert all(source.peak_bps <= 12_500 * 8 * source.packet_bytes for source in peaks), path


# ---------------------------------------------------------------------------------------------------- carrying out


def test_a_sweep_runs_once_and_only_once(written):
    run = Fake()
    result = go(written(), run)
    assert len(run.calls) == 6
    assert (result.exit_code, result.unsettled) == (0, 0)
    assert run.calls[1].arguments == (
        "run", str(written().parent / "small.yaml"), "--seed", "1", "--set", "buffer.policy=lstm",
        "--engine", "emulation", "--out", str(result.path / "policy=lstm,seed=1"), "--no-live", "--quiet",
    )  # fmt: skip
    manifest = manifest_of(result)
    assert manifest["status"] == "completed"
    assert [trial["runs"][0]["outcome"] for trial in manifest["trials"]] == ["VALID"] * 6
    assert {path.name for path in result.path.iterdir() if path.is_file()} == {
        "sweep.json", "sweep.yaml", "sweep.txt", "sweep.html", "table.json",
    }  # fmt: skip
    again = Fake()
    assert go(written(), again).table == result.table
    assert again.calls == []


def test_new_values_and_seeds_add_to_what_is_there(written):
    go(written(), Fake())
    more = Fake()
    go(written(SWEEP.replace("oracle", "oracle, holt").replace("seeds: 2", "seeds: 3")), more)
    assert sorted(more.names) == sorted(
        ["policy=holt,seed=1", "policy=holt,seed=2"]
        + [f"policy={policy},seed=3" for policy in ("static-min", "lstm", "oracle", "holt")]
    )


def test_static_mean_reserves_what_its_source_did(written):
    text = SWEEP.replace("static-min, lstm", "static-mean, static-min, lstm") + "mean_from: lstm\n"
    run = Fake()
    result = go(written(text), run)
    for seed in (1, 2):
        lstm = RecordedRun.open(result.path / f"policy=lstm,seed={seed}").document("summary.json")
        call = next(call for call in run.calls if call.name == f"policy=static-mean,seed={seed}")
        mean = lstm["buffer"]["mean_limit_bytes"]
        assert call.loaded.scenario.buffer.mean_bytes == mean > 500_000
        assert f"buffer.mean={mean}B" in call.arguments
    assert go(written(text), Fake()).exit_code == 0


def test_static_mean_waits_for_a_source_that_counts(written):
    text = SWEEP.replace("static-min, lstm, oracle", "static-mean, lstm").replace("2", "1") + "mean_from: lstm\n"
    run = Fake("INVALID", "INVALID")
    result = go(written(text.replace("version: 2", "version: 1")), run)
    assert run.names == ["policy=lstm,seed=1", "policy=lstm,seed=1,try=2"]
    assert (result.exit_code, result.unsettled) == (5, 0)
    shutil.rmtree(result.path)
    stopped = go(written(text.replace("version: 2", "version: 1")), Fake("interrupted"))
    assert (stopped.exit_code, stopped.unsettled) == (130, 2)


def test_an_invalid_trial_is_made_once_more_and_never_averaged(written):
    run = Fake("INVALID")
    result = go(written(), run)
    assert run.names[:3] == ["policy=static-min,seed=1", "policy=static-min,seed=1,try=2", "policy=lstm,seed=1"]
    assert result.exit_code == 0
    assert [row.seeds for row in result.table.combinations] == [(1, 2)] * 3
    assert "excluded from the means, INVALID: policy=static-min,seed=1" in result.table.notes
    assert result.table.trials[0].row.name == "policy=static-min,seed=1,try=2"


def test_two_invalid_runs_settle_a_trial_as_worth_nothing(written):
    result = go(written(), Fake("INVALID", "INVALID"))
    assert (result.exit_code, result.unsettled) == (5, 0)
    assert result.table.combinations[0].seeds == (2,)
    assert "1 of 6 trials have no valid run" in result.table.notes
    assert "1 of 2" in result.table.text()
    assert any("over different sets of seeds" in note for note in result.table.notes)
    again = Fake()
    assert go(written(), again).exit_code == 5
    assert again.calls == []


def test_ctrl_c_ends_it_and_the_next_call_goes_on(written):
    run = Fake("VALID", "interrupted")
    result = go(written(), run)
    assert len(run.calls) == 2
    assert (result.exit_code, result.unsettled) == (130, 5)
    assert manifest_of(result)["status"] == "interrupted"
    again = Fake()
    assert go(written(), again).exit_code == 0
    assert again.names[0] == "policy=lstm,seed=1,try=2"
    assert len(again.calls) == 5


def test_an_interrupt_between_trials_leaves_it_consistent(written):
    result = go(written(), Fake("VALID", KeyboardInterrupt()))
    assert (result.exit_code, manifest_of(result)["status"]) == (130, "interrupted")
    assert result.table.combinations[0].seeds == (1,)


def test_killed_runs_are_kept_and_made_again(written):
    result = go(written(), Fake("killed"))
    assert result.exit_code == EXIT_TOOL_FAILED
    (result.path / "policy=lstm,seed=1" / "manifest.json").unlink()
    shutil.rmtree(result.path / "policy=oracle,seed=2")
    again = Fake()
    assert go(written(), again).exit_code == 0
    assert again.names == ["policy=static-min,seed=1,try=2", "policy=lstm,seed=1,try=2", "policy=oracle,seed=2"]


def test_a_sweep_killed_with_its_run_is_resumed(written):
    class Killed(BaseException):
        pass

    with pytest.raises(Killed):
        go(written(), Fake("VALID", Killed()))
    again = Fake()
    assert go(written(), again).exit_code == 0
    assert len(again.calls) == 5


@pytest.mark.parametrize("name", ["summary.json", "manifest.json", "scenario.yaml"])
@pytest.mark.parametrize("content", ["", "{", "\0\0\0\0"])
def test_a_run_with_a_file_that_a_power_cut_emptied_or_tore_is_made_again(written, name, content):
    result = go(written(), Fake())
    (result.path / "policy=lstm,seed=1" / name).write_text(content)
    again = Fake()
    finished = go(written(), again)
    assert (finished.exit_code, again.names) == (0, ["policy=lstm,seed=1,try=2"])
    runs = {trial["name"]: trial["runs"] for trial in manifest_of(finished)["trials"]}
    assert [run["outcome"] for run in runs["policy=lstm,seed=1"]] == ["failed", "VALID"]
    assert all(len(row.seeds) == 2 for row in finished.table.combinations)
    assert go(written(), none := Fake()).exit_code == 0
    assert none.calls == []


@pytest.mark.parametrize("lost", ["sweep.json", "sweep.yaml", "sweep.json sweep.yaml"])
@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"schema": 1}'])
def test_a_list_of_runs_that_was_lost_or_torn_is_written_anew(written, lost, content):
    before = manifest_of(result := go(written(), Fake()))
    for name in lost.split():
        path = result.path / name
        path.unlink() if content is None else path.write_text(content)
    again = Fake()
    assert go(written(), again).exit_code == 0
    assert again.calls == []
    assert manifest_of(result)["trials"] == before["trials"]


def test_a_sweep_that_a_power_cut_ended_at_its_first_step_begins_anew(written):
    out = written().parent / "out"
    out.mkdir()
    for name in ("sweep.json", "sweep.yaml", ".sweep.json.new"):
        (out / name).write_text("")
    assert go(written(), Fake()).exit_code == 0


def test_a_directory_of_something_else_is_refused_though_its_list_is_torn(written):
    out = written().parent / "out"
    out.mkdir()
    (out / "sweep.json").write_text("")
    (out / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="it is not empty and contains no"):
        go(written(), Fake())
    (out / "sweep.yaml").write_text(SWEEP.replace("name: some", "name: another"))
    with pytest.raises(InputError, match="it contains the sweep another, not some"):
        go(written(), Fake())


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", ".", "..", "a/b", "", ".hidden"])
def test_a_list_of_runs_that_leads_elsewhere_is_refused(written, path):
    result = go(written(), Fake())
    manifest = manifest_of(result)
    manifest["trials"][0]["runs"][0]["path"] = path
    (result.path / "sweep.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"sweep\.json\.trials\.0\.runs\.0\.path"):
        tabulate(result.path)


def test_a_failed_trial_does_not_end_the_sweep(written):
    run = Fake("failed")
    result = go(written(), run)
    assert len(run.calls) == 6
    assert (result.exit_code, result.unsettled) == (4, 1)
    again = Fake()
    assert go(written(), again).exit_code == 0
    assert again.names == ["policy=static-min,seed=1,try=2"]


def test_three_failures_in_a_row_end_it(written):
    run = Fake("failed", "failed", "failed")
    with pytest.raises(ToolError, match="3 trials in a row failed, the last with: it broke"):
        go(written(), run)
    assert len(run.calls) == 3
    assert json.loads((written().parent / "out/sweep.json").read_text())["status"] == "failed"


def test_what_the_next_trial_would_meet_too_ends_it(written):
    run = Fake(Ended(EXIT_BAD_INPUT, "small.yaml:3: no"))
    with pytest.raises(InputError, match=r"small\.yaml:3: no"):
        go(written(), run)
    assert len(run.calls) == 1


def test_an_expectation_that_fails_shows_in_the_exit_code(written):
    run = Fake()
    run.expect = ("buffer.loss_ratio < 0",)
    assert go(written(), run).exit_code == 1


def test_runs_of_another_scenario_are_not_mixed_in(written):
    path = written()
    go(path, Fake())
    (path.parent / "small.yaml").write_text(SCENARIO.replace("10Mbit", "11Mbit"))
    with pytest.raises(InputError, match="was run with a different `traffic"):
        go(path, Fake())


def test_runs_of_another_engine_are_not_mixed_in(written):
    loaded = load_sweep(written())
    progress = SweepProgress(Console(stderr=True), 6, quiet=True)
    go(loaded.path, Fake())
    with pytest.raises(InputError, match="was run with a different `--engine`"):
        carry_out(loaded, loaded.path.parent / "out", Fake(), progress, "simulation")


def test_a_directory_of_something_else_is_refused(written):
    out = written().parent / "out"
    out.mkdir()
    (out / "mine").write_text("")
    with pytest.raises(InputError, match=r"not empty and contains no sweep\.json"):
        go(written(), Fake())
    (out / "mine").unlink()
    go(written(), Fake())
    with pytest.raises(InputError, match="it contains the sweep some, not other"):
        go(written(SWEEP.replace("name: some", "name: other")), Fake())


def test_two_sweeps_do_not_share_a_directory(written):
    errors: list[str] = []

    def run(call: TrialCall) -> Ended:
        with pytest.raises(InputError) as caught:
            go(written(), Fake())
        errors.append(str(caught.value))
        return Ended(EXIT_INTERRUPTED)

    go(written(), run)
    assert "another sweep is using it" in errors[0]


def test_a_run_that_goes_on_elsewhere_is_left_alone(written):
    result = go(written(), Fake("interrupted"))
    manifest = result.path / "policy=static-min,seed=1" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "status": "running"}))
    with pytest.raises(InputError, match="is still running"):
        go(written(), Fake())


# ------------------------------------------------------------------------------------------------------- the table


def test_other_traffic_under_one_seed_is_refused(written):
    run = Fake()
    run.manifest = lambda call: {"hashes": {"plan": f"sha256:{call.name}"}}
    with pytest.raises(InputError, match="same seed and different traffic"):
        go(written(), run)


def test_parameters_of_the_traffic_may_change_it(written):
    run = Fake()
    run.manifest = lambda call: {"hashes": {"plan": f"sha256:{call.loaded.scenario.traffic[0].rate_bps}"}}
    text = SWEEP.replace("seeds: 2", "  traffic.base.rate: [5Mbit, 6Mbit]\nseeds: 1")
    notes = go(written(text), run).table.notes
    assert any("6 runs had 2 traffic plans, one for each seed and traffic.base.rate" in note for note in notes)


def test_gain_and_interval_are_what_they_should_be(written):
    result = go(written(SWEEP.replace("oracle", "oracle, reactive").replace("seeds: 2", "seeds: 3")), Fake())
    by_name = {trial.row.name: trial.row for trial in result.table.trials}
    floor, lstm = result.table.combinations[0], result.table.combinations[1]
    losses = [by_name[f"policy=static-min,seed={seed}"].loss_ratio for seed in (1, 2, 3)]
    found = floor.figures["loss_ratio"]
    mean = sum(losses) / 3
    spread = (sum((loss - mean) ** 2 for loss in losses) / 2) ** 0.5
    assert found.mean == pytest.approx(mean)
    assert found.half_width == pytest.approx(4.302653 * spread / 3**0.5, rel=1e-6)
    assert floor.figures["gain_ratio"].mean == 0.0
    assert lstm.figures["gain_ratio"].mean == pytest.approx(1.0)
    assert lstm.figures["reserved_mb_s"].mean > floor.figures["reserved_mb_s"].mean


def test_the_gain_is_between_runs_that_differ_in_the_policy_alone(written):
    text = SWEEP.replace("seeds: 2", "  buffer.actuation_delay: [0ms, 50ms]\nseeds: 1")
    run = Fake(*["VALID"] * 5, "INVALID", "INVALID")  # the oracle at 50 ms
    result = go(written(text), run)
    gains = {tuple(row.parameters.values()): row.figures["gain_ratio"] for row in result.table.combinations}
    assert gains["lstm", "0ms"].mean == pytest.approx(1.0)
    assert gains["lstm", "50ms"] is None
    assert gains["oracle", "50ms"] is None


def test_runs_of_different_programs_are_named(written):
    run = Fake()
    run.manifest = lambda call: {"hashes": {"plan": "sha256:1", "model": f"sha256:{call.loaded.scenario.seed}"}}
    notes = go(written(), run).table.notes
    assert "runs differ in model: sha256:1, sha256:2" in notes


def test_runs_of_one_combination_that_differ_in_more_than_the_seed_have_no_mean(written):
    run = Fake()
    run.manifest = lambda call: {
        "hashes": {"plan": f"sha256:{call.loaded.scenario.seed:064x}"},
        "project": {"version": f"1.{call.loaded.scenario.seed}"},
    }
    result = go(written(), run)
    assert "runs differ in version: 1.1, 1.2" in result.table.notes
    assert any("have no mean" in note for note in result.table.notes)
    assert all(set(row.figures.values()) == {None} for row in result.table.combinations)


def test_a_key_that_the_sweep_did_not_set_is_named_where_runs_differ_in_it(written):
    result = go(written(), Fake())
    path = result.path / "policy=oracle,seed=2" / "scenario.yaml"
    scenario = yaml.safe_load(path.read_text())
    scenario["topology"]["link_delay"] = "20ms"
    path.write_text(yaml.safe_dump(scenario))
    table = tabulate(result.path)
    assert "runs differ in topology.link_delay: 0ms, 20ms" in table.notes
    figures = {row.parameters["buffer.policy"]: row.figures["loss_ratio"] for row in table.combinations}
    assert figures["oracle"] is None
    assert figures["lstm"] is not None
    assert next(row.row.gain_ratio for row in table.trials if row.row.name == "policy=lstm,seed=2") is None


@pytest.mark.parametrize("changed", ["trace.csv", "model"])
def test_what_a_run_read_is_told_by_its_content_when_the_sweep_goes_on(written, changed):
    shape = "shape: on-off, on: {constant: 50ms}, off: {constant: 50ms}, peak: 20Mbit"
    text = SCENARIO.replace(shape, "trace: trace.csv, rows: bursts")
    path = written(SWEEP.replace("oracle]", "static-max]"))
    (path.parent / "small.yaml").write_text(text)
    (path.parent / "trace.csv").write_text("time_s,bytes\n0,9000\n1,9000\n")
    run = Fake()

    def manifest(call: TrialCall) -> dict[str, Any]:
        hashes = hashes_of_inputs(call.loaded)
        return {"hashes": {"plan": f"sha256:{call.loaded.scenario.seed:064x}", **hashes}}

    run.manifest = manifest
    result = go(path, run)
    assert go(path, Fake()).exit_code == 0
    if changed == "model":
        file = result.path / "policy=lstm,seed=1" / "manifest.json"
        content = json.loads(file.read_text())
        content["hashes"]["model"] = "sha256:another"
        file.write_text(json.dumps(content))
    else:
        (path.parent / "trace.csv").write_text("time_s,bytes\n0,9000\n1,9001\n")
    with pytest.raises(
        InputError, match=f"was run with a different `{'model' if changed == 'model' else 'trace/more'}`"
    ):
        go(path, Fake())


def test_columns_are_those_that_tell_what_varied(written):
    def headers(replaced: str) -> list[str]:
        return cells_of(
            go(written(SWEEP.replace("buffer.policy: [static-min, lstm, oracle]", replaced)), Fake()).table
        )[0]

    balancers = "balancer.policy: [hash, headroom]"
    assert headers(balancers)[-3:] == ["busiest / mean", "broken flows", "packet-ins"]
    assert "gain" not in headers(balancers)
    assert "busiest / mean" not in headers("buffer.policy: [lstm, static-min]")
    scaled = headers("autoscaler.policy: [hpa, predictive]")
    assert {"idle nodes", "missing nodes", "serving node·s", "USD", "violation s"} <= set(scaled)
    assert not {"gain", "busiest / mean"} & set(scaled)
    both = headers(f"buffer.policy: [lstm, static-min]\n  {balancers}")
    assert both[:2] == ["buffer.policy", "balancer.policy"]
    assert {"gain", "busiest / mean"} <= set(both)


def test_a_table_for_a_paper_has_the_columns_asked_for_and_the_differences(written):
    path = go(written(SWEEP.replace("seeds: 2", "baseline: {buffer.policy: static-min}\nseeds: 3")), Fake()).path
    means = tables.table(path, "markdown", ["reserved_mb_s", "loss_ratio"]).splitlines()
    assert means[0].count("|") == 5
    assert means[0].index("MB·s") < means[0].index("loss")
    changes = tables.table(path, "markdown", ["loss_ratio"], differences=True).splitlines()
    assert [line.split(" | ")[0] for line in changes[2:]] == ["| lstm", "| oracle"]
    numbers = tables.table(path, "csv", ["loss_ratio"]).splitlines()
    assert numbers[0] == "buffer.policy,seeds,loss_ratio,loss_ratio_low,loss_ratio_high"
    with pytest.raises(InputError, match="it has no figure lost; choose from .*loss_ratio"):
        tables.table(path, "markdown", ["lost"])
    with pytest.raises(InputError, match="differences are text"):
        tables.table(path, "json", differences=True)


def test_the_page_of_balancers_shows_loss_against_imbalance(written):
    text = SWEEP.replace("buffer.policy: [static-min, lstm, oracle]", "balancer.policy: [hash, headroom]")
    page = render(go(written(text), Fake()).table)
    assert "Loss against imbalance" in page
    assert '"name": "headroom"' in page.replace('"name":"', '"name": "')


def test_differences_from_the_baseline_are_taken_seed_by_seed(written):
    text = SWEEP.replace("seeds: 2", "baseline: {buffer.policy: static-min}\nseeds: 3")
    table = go(written(text), Fake()).table
    floor, lstm, _ = table.combinations
    assert floor.differences == {}
    by_seed = [
        {trial.row.seed: trial.row.loss_ratio for trial in table.trials if trial.parameters == row.parameters}
        for row in (lstm, floor)
    ]
    losses = [by_seed[0][seed] - by_seed[1][seed] for seed in (1, 2, 3)]
    found = lstm.differences["loss_ratio"]
    alone = difference(losses)
    assert found == replace(alone, p_holm=found.p_holm)
    assert alone.p <= found.p_holm <= 2 * alone.p, "lstm and oracle are the family"
    assert found.mean == pytest.approx(lstm.figures["loss_ratio"].mean - floor.figures["loss_ratio"].mean)
    headers, cells = difference_cells_of(table)
    assert [row[0] for row in cells] == ["lstm", "oracle"]
    assert cells[0][headers.index("loss")].startswith("-")
    assert cells[0][headers.index("reserved MB·s")].startswith("+")
    assert ("*" in cells[0][headers.index("loss")]) == (found.p_holm < 0.05)
    for row, shown in zip((lstm, table.combinations[2]), cells, strict=True):
        for column in columns_of(table):
            cell, what = shown[headers.index(column.header)], row.differences[column.key]
            assert ("n.s." in cell) == (what is not None and not what.is_significant), "a cell by chance says so"
    assert "differences are relative to buffer.policy=static-min under the same seed" in table.text()
    assert "Differences from the baseline" in render(table)


def test_the_command_line_names_another_baseline(written):
    sweep = load_sweep(written(SWEEP.replace("seeds: 2", "baseline: {buffer.policy: static-min}\nseeds: 2")))
    assert sweep.against(()) is sweep
    assert sweep.against(["buffer.policy=oracle"]).baseline == {"buffer.policy": "oracle"}
    for option, happened in (
        ("buffer.policy=holt", "is not among the values"),
        ("buffer.min=1MB", "does not vary in this sweep"),
        ("oracle", "expected key.path=value"),
    ):
        with pytest.raises(InputError, match=rf"--baseline {option.partition('=')[0]}.*{happened}"):
            sweep.against([option])


def test_only_seeds_that_both_have_are_compared_with_the_baseline(written):
    text = SWEEP.replace("seeds: 2", "baseline: {buffer.policy: static-min}\nseeds: 3")
    table = go(written(text), Fake("INVALID", "INVALID")).table
    assert table.combinations[0].seeds == (2, 3)
    assert table.combinations[1].differences["loss_ratio"].count == 2
    assert difference_cells_of(table)[1][0][1] == "2 of 3"


def test_the_baseline_of_a_combination_shares_its_other_values(written):
    more = "  balancer.policy: [hash, round-robin]\nbaseline: {balancer.policy: hash}\nseeds: 2"
    table = go(written(SWEEP.replace("seeds: 2", more)), Fake()).table
    rows = {tuple(row.parameters.values()): row.differences for row in table.combinations}
    assert {values for values, differences in rows.items() if differences} == {
        (policy, "round-robin") for policy in ("static-min", "lstm", "oracle")
    }
    assert rows["lstm", "round-robin"]["loss_ratio"].mean == 0.0  # made up without regard to the balancer


def test_the_page_has_the_table_and_the_chart_of_the_delay(written):
    plain = render(go(written(), Fake()).table)
    assert "Means over the seeds" in plain
    assert "Loss against memory" in plain
    assert "Loss against p99 latency" in plain
    assert plain.count('"name":"Pareto front"') == 2
    assert "Loss against the actuation delay" not in plain
    shutil.rmtree(written().parent / "out")
    text = SWEEP.replace("seeds: 2", "  buffer.actuation_delay: [50ms, 0ms, 100ms]\nseeds: 2")
    run = Fake("INVALID")
    page = render(go(written(text), run).table)
    assert "Loss against the actuation delay" in page
    assert '"categoryarray":["0ms","50ms","100ms"]' in page
    assert '"x":["0ms","50ms","100ms"]' in page
    assert "Runs left out" in page
    assert "Which one?" in page


def test_the_table_can_be_read_without_the_sweep(written):
    result = go(written(), Fake())
    assert tabulate(result.path) == result.table
    with pytest.raises(InputError, match=r"no sweep\.json"):
        tabulate(result.path.parent)


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.706205), (2, 4.302653), (3, 3.182446), (4, 2.776445), (9, 2.262157), (30, 2.042272)]
)
def test_students_quantiles_are_those_of_the_tables(degrees, t):
    assert student_t(degrees) == pytest.approx(t, abs=1e-6)
    assert student_t(10**7) == pytest.approx(1.96, abs=1e-3)


def test_a_single_value_has_no_interval():
    assert estimate([]) is None
    assert (estimate([3.0]).mean, estimate([3.0]).half_width) == (3.0, None)
    assert estimate([2.0, 2.0]).half_width == 0.0
    with pytest.raises(ValueError, match="degree of freedom"):
        student_t(0)


def test_what_is_left_is_told_from_the_trials_of_this_call():
    now_s = iter([100.0, 130.0, 130.0, 700.0, 700.0])
    progress = SweepProgress(Console(), 10, quiet=True, clock_s=lambda: next(now_s))
    progress.skipped()
    progress.skipped()
    assert progress.left_text == ""
    progress.settled()
    assert progress.left_text == "4 min left"  # 30 s for one, seven to go


def test_a_line_tells_how_a_run_ended():
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    with SweepProgress(console, 3) as progress:
        progress.ran("a", "VALID", {"verdict": "VALID", "buffer": {"loss_ratio": 0.5, "reserved_mb_s": 3.0}}, "")
        progress.ran("b", "INVALID", {"verdict": "INVALID", "verdict_reasons": ["CPU busy"]}, "")
        progress.ran("c", "failed", {}, "it broke")
    console.file.close()
    lines = console.export_text().split("\n")
    assert [line.split(None, 1) for line in lines[:3]] == [
        ["VALID", "a: 50.00 % lost, 3 MB·s reserved"],
        ["INVALID", "b: CPU busy"],
        ["failed", "c: it broke"],
    ]


# ------------------------------------------------------------------------------------------------------- processes


def test_a_trial_is_a_process_with_its_code_and_its_words(written, tmp_path):
    loaded = loading.load(written().parent / "small.yaml")
    with TrialProcesses(lambda: None) as run:
        good = TrialCall("x", ("--version",), tmp_path / "x", loaded)
        assert run(good) == Ended(0, "")  # `--version` says nothing on standard error
        ended = run(replace(good, arguments=("validate", "nothing.yaml")))
    assert ended.exit_code == 2
    assert "there is no such file" in ended.said


def test_a_signal_stops_the_trial_and_those_after_it(written, tmp_path):
    loaded = loading.load(written().parent / "small.yaml")
    before = signal.getsignal(signal.SIGTERM)
    with TrialProcesses(lambda: None) as run:
        signal.raise_signal(signal.SIGTERM)
        assert run(TrialCall("x", ("--help",), tmp_path / "x", loaded)) == Ended(EXIT_INTERRUPTED)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_simulated_sweep_needs_no_root_and_has_its_intervals(written, tmp_path):
    text = SWEEP.replace("lstm, oracle]", "oracle]\n  duration: 1s\n  topology.node_rate: 10Mbit\n  buffer.min: 10kB")
    argv = ["sweep", str(written(text)), "--engine", "simulation", "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run([sys.executable, "-m", "testbed", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["parameters"]["buffer.policy"] for row in rows] == ["static-min", "oracle"]
    assert {len(row["seeds"]) for row in rows} == {2}
    reserved = rows[0]["figures"]["reserved_mb_s"]
    assert 0.03 <= reserved["mean"] <= 0.04  # 3 × 10 kB for a second and until the last packet has left
    assert reserved["half_width"] >= 0.0


@pytest.fixture
def smoke(tmp_path: Path) -> Iterator[Path]:
    """Return a sweep of two short trials."""
    path = tmp_path / "two.yaml"
    text = SWEEP.replace("small.yaml", str(places.scenarios() / "smoke.yaml"))
    text = text.replace("[static-min, lstm, oracle]", "[static-min, reactive]\n  duration: 1s\n  topology.nodes: 1")
    path.write_text(text.replace("seeds: 2", "seeds: [3]"))
    return path


def start(path: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "testbed", "sweep", str(path), "--out", str(path.parent / "out"), "--json"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_real_sweep_is_stopped_and_goes_on(smoke):
    process = start(smoke)
    first = smoke.parent / "out" / "policy=static-min,seed=3"
    deadline = time.monotonic() + 60
    while not (first / "manifest.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, errors
    assert "2 trials have not been run yet" in errors
    assert RecordedRun.open(first).status == "interrupted"

    process = start(smoke)
    output, errors = process.communicate(timeout=180)
    assert process.returncode in (0, 5), errors
    table = tabulate(smoke.parent / "out")
    assert [row.parameters["buffer.policy"] for row in table.combinations] == ["static-min", "reactive"]
    assert len(json.loads(output)) == 2
    made = [run for trial in manifest_in(smoke)["trials"] for run in trial["runs"]]
    assert [run["outcome"] for run in made if run["path"] == first.name] == ["interrupted"]
    assert all(run["outcome"] in ("VALID", "DEGRADED", "INVALID", "interrupted") for run in made)
    plans = {RecordedRun.open(smoke.parent / "out" / run["path"]).plan_hash for run in made}
    assert len(plans) == 1
    manifest = RecordedRun.open(smoke.parent / "out" / made[-1]["path"]).manifest
    assert manifest["command"][0] == "run"


def manifest_in(path: Path) -> dict[str, Any]:
    return json.loads((path.parent / "out" / "sweep.json").read_text())
