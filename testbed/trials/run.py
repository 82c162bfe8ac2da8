"""One trial from scenario to verdict: calls the other packages in order.

    scenario ─ plan ─ run directory ─ engine ─ evidence ─ fidelity, summary ─ report

Nothing here decides or measures.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from testbed import doctor, output
from testbed.engine import Engine, Outcome, TrialPlan
from testbed.engine import engine as engine_of
from testbed.errors import (
    EXIT_EXPECTATION_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_OK,
)
from testbed.files import tables
from testbed.forecaster.maker import forecaster_maker
from testbed.openmetrics.served import ServedMetrics
from testbed.records.engines import EMULATION, is_real_time
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.phases import Phases
from testbed.report.live import LiveView
from testbed.results import fidelity, provenance
from testbed.results.metrics import Metric
from testbed.results.recorded_run import RecordedEvents, RecordedRun
from testbed.results.run_directory import RunDirectory
from testbed.results.running import announced
from testbed.results.summary import summarise
from testbed.scenario.loading import LoadedScenario
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.system import interrupts, patience
from testbed.system.threads import one_thread
from testbed.traffic import plan_file
from testbed.traffic.packet_times import flow_table, packet_table
from testbed.traffic.plan import PacketPlan
from testbed.traffic.streams import derived_seed
from testbed.trials import checks, inputs, replacing
from testbed.trials.recording import recorded

RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as the command line says.

    Attributes:
        engine: which engine.
        out: the run directory; None makes one under ``runs/``.
        live: show a live view on standard error.
        quiet: say nothing on the way.
        argv: the command line, for the manifest.
        overwrite: replace a run that is in the way.
        metrics: where metrics are served while the trial runs, such as ``127.0.0.1:9464``; empty: nowhere.
        restarts: restart processes that die instead of ending the trial.
    """

    engine: str = EMULATION
    out: Path | None = None
    live: bool = True
    quiet: bool = False
    argv: tuple[str, ...] = ()
    overwrite: bool = False
    metrics: str = ""
    restarts: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run.

    Attributes:
        path: its directory.
        summary: the content of ``summary.json``.
        manifest: what its engine has to say in ``manifest.json``: the course of the set-up, for one.
    """

    path: Path
    summary: dict[str, Any]
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Return what the command should exit with: an invalid trial says nothing, so that comes first."""
        if self.summary["status"] == "interrupted":
            return EXIT_INTERRUPTED
        if self.summary["verdict"] == "INVALID":
            return EXIT_INVALID
        if not all(expectation["passed"] for expectation in self.summary["expectations"]):
            return EXIT_EXPECTATION_FAILED
        return EXIT_OK


def run(loaded: LoadedScenario, options: RunOptions, began_ns: int | None = None) -> RunResult:
    """Run one trial and return its result; the run directory is complete when this returns or raises.

    Set-up counts from `began_ns` (CLOCK_MONOTONIC); None: from now.

    Raises:
        TestbedError: see the classes in `errors`; each knows its exit code.
    """
    phases = Phases(time.monotonic_ns() if began_ns is None else began_ns, "starting Python and loading the scenario")
    if is_real_time(options.engine):
        _refuse_if_lacking(loaded.scenario, options, phases)
    # Not before: while the machine is tried for as many processes as the trial will have, none may be beside them.
    with provenance.Asked() as asked:
        return _measured(loaded, options, phases, asked)


def _refuse_if_lacking(scenario: Scenario, options: RunOptions, phases: Phases) -> None:
    """Refuse a run that the machine lacks something for; what the engine needs is imported while that is tried."""
    doctor.refuse_without_root(options.argv)
    with doctor.probing(scenario) as probe:
        phases.begin("loading the engine", time.monotonic_ns())
        with suppress(ImportError):  # what is missing the diagnosis says better
            engine_of(options.engine)
        phases.begin("checking the machine", time.monotonic_ns())
        doctor.refuse_if_lacking(scenario, options.out, probe)


def _measured(loaded: LoadedScenario, options: RunOptions, phases: Phases, asked: provenance.Asked) -> RunResult:
    with ServedMetrics(options.metrics) as metrics:
        if metrics.where and not options.quiet:
            output.note(f"testbed: metrics at {metrics.where}")
        return _run(loaded, options, phases, metrics, asked)


def _run(
    loaded: LoadedScenario, options: RunOptions, phases: Phases, metrics: ServedMetrics, asked: provenance.Asked
) -> RunResult:
    phases.begin("planning the traffic", time.monotonic_ns())
    with patience.noted("planning the traffic", quiet=options.quiet):
        prepared = _prepare(loaded, options, asked)
    phases.begin("predicting the verdict", time.monotonic_ns())
    _foretell(prepared, options)
    phases.begin("making the run directory", time.monotonic_ns())
    path = options.out or default_path(loaded)
    if options.overwrite and os.path.lexists(path):
        replacing.remove(path, loaded.path)
    with recorded(partial(RunDirectory.create, path, prepared.manifest)) as directory, announced(directory.path):
        inputs.write_scenario(loaded, directory)
        result = _Run(prepared, directory, options, metrics).carry_out(phases)
        with patience.noted("writing the page", quiet=options.quiet):
            from testbed.report import page  # after the trial: what draws takes a while to import

            page.write_page(result.path, "choose another --out")
    return result


def _foretell(prepared: _Prepared, options: RunOptions) -> None:
    """Say on standard error what `doctor` would, if the run is not expected to be VALID; the run continues anyway.

    By what was measured of this machine under the scenario's settings last; without a measurement nothing is said.
    """
    if options.quiet or not is_real_time(options.engine):
        return
    from testbed.capacity import foresight

    trial = prepared.trial
    seen = foresight.recalled(trial.scenario, trial.network, trial.packets)
    if seen is not None and seen.remedy:
        output.note(f"testbed: {seen.words}; {seen.remedy}")


def process_start_ns() -> int:
    """Return when this process started, on CLOCK_MONOTONIC (to 10 ms); now, where the system does not say."""
    if not Path("/proc/self/stat").exists():
        return time.monotonic_ns()
    with open("/proc/self/stat", encoding="ascii") as stat:
        ticks = int(stat.read().rsplit(") ", 1)[1].split()[19])
    boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK")) - boot_ns


@dataclass(frozen=True, slots=True)
class _Prepared:
    engine: Engine
    trial: TrialPlan
    facts: RunFacts
    metrics: tuple[Metric, ...]
    manifest: Mapping[str, Any]


def _prepare(loaded: LoadedScenario, options: RunOptions, asked: provenance.Asked) -> _Prepared:
    scenario = loaded.scenario
    network, plan = checks.planned(loaded, options.engine)
    if not options.quiet:
        for note in plan.notes:
            output.note(note)
    engine = engine_of(options.engine)
    facts = RunFacts.of(scenario, network, options.engine, loaded.question)
    manifest = provenance.collect(
        options.argv,
        hashes=inputs.hashes_of(loaded, plan, engine),
        seeds=inputs.seeds_of(loaded),
        facts=facts.to_record(),
        ovs_datapath=engine.datapath(scenario),
        asked=asked,
    )
    manifest["notes"] = list(plan.notes)
    trial = trial_plan(scenario, network, plan, model=inputs.model_of(loaded))
    return _Prepared(engine, trial, facts, inputs.metrics_of(loaded), manifest)


def default_path(loaded: LoadedScenario, taken: Collection[Path] = ()) -> Path:
    """Return where a run goes that is not told: below ``runs/``, where nothing is and none of those `taken`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    first = RUNS / f"{loaded.scenario.name}-{stamp}-{loaded.scenario.seed}"
    paths = itertools.chain([first], (first.with_name(f"{first.name}.{count}") for count in itertools.count(2)))
    return next(path for path in paths if path not in taken and not path.exists())


def say_undrained(summary: Mapping[str, Any]) -> None:
    """Say on standard error when a run ended before its queues were empty, without being stopped."""
    in_flight_pkts = summary["traffic"]["in_flight_packets"]
    if in_flight_pkts and summary["status"] != "interrupted":
        output.note(f"testbed: the queues did not drain in time: {in_flight_pkts:,} packets count as in flight")


def trial_plan(
    scenario: Scenario,
    network: Network,
    packets: PacketPlan,
    logs: Path = Path("logs"),
    model: Path | None = None,
) -> TrialPlan:
    """Return the order for a trial of a scenario: its forecasters, with their `model` if not the shipped, its seeds."""
    return TrialPlan(
        scenario=scenario,
        network=network,
        packets=packets,
        make_forecaster=forecaster_maker(scenario.buffer, packets, len(network.first_tier), model),
        seed_of=partial(derived_seed, scenario.seed),
        logs=logs,
    )


class _Run:
    """A run in progress; what an engine reports goes into the run directory and the live view."""

    def __init__(
        self, prepared: _Prepared, directory: RunDirectory, options: RunOptions, metrics: ServedMetrics
    ) -> None:
        self._prepared, self._options = prepared, options
        self._directory, self._metrics = directory, metrics
        metrics.begin(prepared.facts, directory.path.resolve().name)
        self._plan_written = False
        self._notes = patience.WaitNotes(output.note)
        facts = prepared.facts
        self._view = LiveView(
            facts.scenario,
            facts.duration_ns,
            facts.node_rate_bps,
            output.console(stderr=True),
            quiet=options.quiet or not options.live,
        )

    def carry_out(self, phases: Phases) -> RunResult:
        logs = (self._directory.path / "logs").resolve()
        order = replace(self._prepared.trial, logs=logs, phases=phases, restarts=self._options.restarts)
        outcome = self._trial(order)
        with patience.noted("writing the results", quiet=self._options.quiet):
            self._write_plan()
            self._write_packets(outcome)
            self._directory.settle()
            status: Literal["completed", "interrupted"] = "interrupted" if outcome.interrupted else "completed"
            summary = self._conclude(outcome.evidence, status)
        with interrupts.held_back():  # the two say the same, whatever comes
            self._directory.write_json("summary.json", summary)
            self._directory.finish(status, ended_utc=provenance.utc_now(), **outcome.manifest, **self._metrics.cost())
        if not self._options.quiet:
            say_undrained(summary)
        return RunResult(self._directory.path, summary, outcome.manifest)

    def _trial(self, plan: TrialPlan) -> Outcome:
        if not is_real_time(self._options.engine):  # there is nothing to look at
            with one_thread():
                return self._prepared.engine.run(plan, self)
        with self._view, one_thread():
            return self._prepared.engine.run(plan, self)

    def _write_plan(self) -> None:
        if not self._plan_written:
            with patience.noted("writing the plan", quiet=self._options.quiet or self._view.drawing):
                plan_file.write(self._prepared.trial.packets, self._directory.path / "plan.parquet", durable=False)
            self._plan_written = True

    def _write_packets(self, outcome: Outcome) -> None:
        if outcome.packets is not None:
            trial, folder = self._prepared.trial, self._directory.path
            given = trial.packets, trial.network, outcome.packets
            tables.write_parquet(packet_table(*given), folder / "packets.parquet", durable=False)
            tables.write_parquet(flow_table(*given), folder / "flows.parquet", durable=False)

    def _conclude(self, evidence: Evidence, status: Literal["completed", "interrupted"]) -> dict[str, Any]:
        run = RecordedRun.open(self._directory.path)
        rows = run.samples_by_node(most_bytes=None)
        verdict = fidelity.judge(evidence, rows, self._prepared.facts, interrupted=status == "interrupted")
        self._directory.write_json("evidence.json", evidence.to_record(), indent=None)
        self._directory.write_json("fidelity.json", verdict.to_record())
        facts, plugged = self._prepared.facts, self._prepared.metrics
        return summarise(facts, evidence, rows, RecordedEvents(run), verdict, status, plugged)

    # ----------------------------------------------------------------------- what an engine reports: engine.Recorder

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Write rows of samples, and show them where there is time to look."""
        self._directory.append_columns(columns)
        self._metrics.append_columns(columns)
        if is_real_time(self._options.engine):
            self._view.observe(columns)

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Write an event."""
        self._directory.append_event(t_ns, record)
        self._metrics.append_event(record)

    def waiting(self, what: str, for_ns: int) -> None:
        """Say what a trial without traffic waits for."""
        self._view.waiting(what, for_ns)
        if not self._options.quiet and not self._view.drawing:
            self._notes.at(what, for_ns)

    def checkpoint(self) -> None:
        """Write what is due; the plan first, while the network is being set up."""
        self._write_plan()
        self._directory.checkpoint()
        self._view.tick()
