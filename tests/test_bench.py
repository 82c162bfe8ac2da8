"""What the benchmarks work out before and after they measure: rows, percentiles, which runs count, when nodes fail."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed import cli
from testbed.bench import ANYBODYS, COUNTED, NAMES, apart, failover, suspicion
from testbed.bench.rows import percentile, row
from testbed.bench.trials import BenchTrial, BenchTrials
from testbed.errors import EXIT_MACHINE_LACKS, InputError, MachineError, ToolError
from testbed.results.failover import Failure
from tests.command import ROOT


def test_a_row_says_whether_its_bar_is_met() -> None:
    assert row("x", 60.0, "ms", "<= 60")["met"] is True
    assert row("x", 60.1, "ms", "<= 60")["met"] is False
    assert row("x", 0.97, "ratio", ">= 0.97")["met"] is True
    assert row("x", 1.0, "ms")["met"] is None
    assert row("x", 50.0, "ms", rival="y", rival_value=500.0)["ratio"] == 0.1
    assert row("x", 50.0, "ms", rival="y", rival_value=0.0)["ratio"] is None


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 50), (0.99, 99), (0.995, 100), (1.0, 100), (0.0, 1)])
def test_percentiles_are_values_that_were_measured(ratio: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), ratio) == expected


# ----------------------------------------------------------------------------------------------------- which runs count


class Scripted(BenchTrials):
    """Trials whose verdicts are given; each run has one crash, noticed in as many ms as its seed."""

    def __init__(self, *verdicts: str) -> None:
        super().__init__(Path("unused"))
        self.verdicts = list(verdicts)
        self.ran: list[dict[str, Any]] = []

    def run(self, scenario: Any, seed: int, said: str) -> BenchTrial | None:
        self.ran.append(scenario)
        lines = [
            {"kind": "FaultCommanded", "fault": 0, "what": kind, "nodes": ["n1"], "t_commanded_ns": 0, "t_ns": 0,
             "for_ns": None}
            for kind in ("crash", "link_down")
        ]  # fmt: skip
        verdict = self.verdicts.pop(0) if self.verdicts else "VALID"
        return self._judged({"verdict": verdict, "verdict_reasons": ["busy"] * (verdict != "VALID")}, lines)


def test_invalid_runs_enter_no_figure_and_are_told() -> None:
    trials = Scripted("VALID", "INVALID", "DEGRADED")
    assert len(failover.collect(trials, 2).of("crash")) == 2
    assert len(trials.ran) == 3
    assert trials.note == "2 runs, 1 more INVALID and left out"


def test_a_machine_that_disturbs_most_runs_is_no_place_to_measure() -> None:
    with pytest.raises(ToolError, match="stop other work"):
        failover.collect(Scripted(*["INVALID"] * 50), 2)
    with pytest.raises(ToolError, match="INVALID 3 times, busy"):
        Scripted(*["INVALID"] * 3).believed({}, 1, "something")
    assert Scripted("INVALID", "INVALID").believed({}, 1, "something") is not None


# ----------------------------------------------------------------------------------------------------------- failover


def test_faults_fall_on_any_phase_and_are_over_before_the_next() -> None:
    faults = planned(1)
    at_ms = [float(fault["at"].removesuffix("ms")) for fault in faults]
    assert min(b - a for a, b in itertools.pairwise(at_ms)) >= 800
    assert sum("crash" in fault for fault in faults) == 10
    assert {fault["for"] for fault in faults} == {"500ms"}
    victims = [(fault.get("crash") or fault["link_down"]).removeprefix("s1-") for fault in faults]
    assert all(len(set(victims[k : k + 4])) == 4 for k in range(len(victims) - 3))
    phases = {int(float(fault["at"].removesuffix("ms")) % 10) for seed in range(9) for fault in planned(seed)}
    assert phases == set(range(10))
    assert faults == planned(1) != planned(2)


def planned(seed: int) -> list[dict[str, str]]:
    return failover.plan_faults(random.Random(seed), 6, ["crash", "link_down"] * 10, 500, 800)


def test_two_nodes_fail_in_turn() -> None:
    faults = failover.plan_faults(random.Random(1), 2, ["crash"] * 4, 500, 800)
    assert [fault["crash"] for fault in faults] in (["n1", "n2"] * 2, ["n2", "n1"] * 2)


def test_figures_that_a_failure_lacks_do_not_count_as_zero() -> None:
    found = failover.Collected(
        [Failure("crash", "n1", 50.0, None, None, 3), Failure("crash", "n2", 40.0, 44.0, 0.0, 0)]
    )
    assert found.figures("crash", "rerouted_ms") == [44.0]
    assert found.figures("crash", "lost_pkts") == [3.0, 0.0]
    assert found.figures("link_down", "detected_ms") == []


def test_pauses_are_short_and_one_is_over_before_the_next() -> None:
    pauses = suspicion.plan_pauses(random.Random(1), 6, 60)
    at_ms = [float(pause["at"].removesuffix("ms")) for pause in pauses]
    assert all(pause["for"] == "35ms" for pause in pauses)
    assert min(b - a for a, b in itertools.pairwise(at_ms)) >= 35
    assert [pause["pause"] for pause in pauses[:7]] == ["n1", "n2", "n3", "n4", "n5", "n6", "n1"]


def test_calm_is_watched_for_as_long_as_asked() -> None:
    trials = Scripted("VALID", "INVALID")
    suspected, minutes = suspicion._calm(trials, 13)
    assert minutes == pytest.approx(13)
    durations = [float(scenario["duration"].removesuffix("ms")) for scenario in trials.ran]
    assert durations == pytest.approx([60_000, 60_000, 60_000, 10_000]), "one of them was run again"
    assert suspected == 0


def test_every_counted_benchmark_exists() -> None:
    assert set(COUNTED) <= set(NAMES)


def test_a_count_for_a_benchmark_without_one_is_refused() -> None:
    from testbed.commands.bench import bench

    with pytest.raises(InputError, match="xdp does not take this option"):
        bench(["failover", "xdp"], count=3)


# --------------------------------------------------------------------------------------- needs, and a process apart


def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(ANYBODYS)))
def test_a_benchmark_that_needs_root_says_so_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    not_root(monkeypatch)
    monkeypatch.setattr("sys.argv", ["testbed", "bench", "forecaster", name])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == EXIT_MACHINE_LACKS
    message = capsys.readouterr().err
    assert message == (
        f"testbed: bench: namespaces and XDP need root; use: sudo {sys.executable} -m testbed bench forecaster {name}\n"
    )


def test_an_error_in_a_process_of_its_own_comes_back_as_it_was_raised(tmp_path: Path) -> None:
    (tmp_path / "measured_badly.py").write_text(
        "from testbed.bench import apart\nfrom testbed.errors import MachineError\n"
        "def measure(folder):\n    raise MachineError('making namespaces', 'not permitted')\n"
        "if __name__ == '__main__':\n    apart.answer(measure)\n"
    )
    with pytest.raises(MachineError, match="making namespaces: not permitted"):
        apart.rows("measured_badly", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})


def test_what_is_measured_in_a_process_of_its_own_comes_back(tmp_path: Path) -> None:
    (tmp_path / "measured.py").write_text(
        "from testbed.bench import apart\n"
        "if __name__ == '__main__':\n    apart.answer(lambda folder: [{'name': str(folder.is_dir())}])\n"
    )
    assert apart.rows("measured", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}) == [{"name": "True"}]
