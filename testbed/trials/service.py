"""A trial without an end: one window after the other, a verdict for each, whatever dies in between.

    scenario in force ─▶ window 1 ─▶ verdict ─▶ window 2 ─▶ verdict ─▶ …      SIGHUP: scenario and model reloaded
                            │ ▲                                               SIGTERM: the window ends, then we do
                     a death ┘ └ within the window (`run --restart`), or in the next one

A window is a trial in a process and a sandbox of its own (``python -m testbed run``), so that all that counts packets
begins at zero, each verdict is that of a whole run, and no state outlives a window but this process, which holds none.
Between two windows no traffic is sent: the queues drain, the results are written and the next network is built, which
each line of the verdicts states (`idle_s`).

Deaths.  Agents, mesh members and a balancer that die get successors within the window.  Anything else (a sender, a
daemon of the switch, the first process of the sandbox, its guard, the process of the window itself) ends the window;
it is booked with what had died, and the next window begins.  Windows that fail one after the other are tried again ever
later, and at last given up.

Seeds count up with the windows, so no two of them send the same packets; the rates follow the day profile.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import units
from testbed.errors import (
    InputError,
    TestbedError,
    ToolError,
)
from testbed.records.engines import EMULATION
from testbed.records.evidence import Evidence
from testbed.results.provenance import utc_now
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import LoadedScenario
from testbed.scenario.serving import ServeSpec
from testbed.scenario.sources import OnOffSpec, TcpSpec, TraceSpec, WaveSpec
from testbed.system import waiting
from testbed.system.service import ServiceManager
from testbed.trials import checks
from testbed.trials.child import Ended
from testbed.trials.process import HOPELESS, WITH_RESULT, TrialCall, TrialProcesses
from testbed.trials.windows import Windows
from testbed.units import NS_PER_S

MOST_FAILURES = 8  # windows in a row that came to nothing: four minutes, with the pauses between them
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
STILL_S = 300.0  # without progress for so long the service does not count as alive
_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve.

    Attributes:
        load: reads the scenario, at the start and whenever it is asked for.
        metrics: where each window serves its metrics; empty: nowhere.
        report: takes the line of each verdict.
        note: takes what else is to be said.
    """

    load: Callable[[], LoadedScenario]
    metrics: str
    report: Callable[[dict[str, Any]], None]
    note: Callable[[str], None]


def serve(windows: Windows, options: ServeOptions) -> None:
    """Run windows until a request to stop.

    Raises:
        InputError: the scenario is wrong.
        MachineError: the machine lacks something.
        ToolError: window after window failed.
    """
    with closing(ServiceManager()) as manager:
        service = _Service(windows, options, manager)
        with TrialProcesses(service.tick) as processes, _hang_ups(service.hang_up):
            service.run(processes)
        manager.stopping()


@contextmanager
def _hang_ups(take: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, lambda *_: take())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


class _Service:
    def __init__(self, windows: Windows, options: ServeOptions, manager: ServiceManager) -> None:
        self._windows, self._options, self._manager = windows, options, manager
        self._loaded = self._read()
        self._number = windows.last()
        self._reload_asked = self._reloaded = False
        self._failures = 0
        self._judged = False  # whether any window has come to a verdict
        self._seen: tuple[int, float] = (0, time.monotonic())  # what the window has written, and since when

    def run(self, processes: TrialProcesses) -> None:
        self._processes = processes
        self._manager.ready()
        while not processes.stopped():
            self._number += 1
            self._windows.keep(self._spec.keep - 1)
            self._window(processes)

    @property
    def _spec(self) -> ServeSpec:
        return self._loaded.scenario.serve or ServeSpec.model_validate({})

    # ------------------------------------------------------------------------------------------------------ a window

    def _window(self, processes: TrialProcesses) -> None:
        factor, began_utc, began_s = self._spec.factor(time.time()), utc_now(), time.monotonic()
        self._reloaded = False
        ended = processes(self._call(factor))
        took_s = time.monotonic() - began_s
        line = {
            "window": self._number,
            "run": str(self._windows.window(self._number)),
            "began_utc": began_utc,
            "ended_utc": utc_now(),
            "rate_factor": factor,
            "exit_code": ended.exit_code,
            **(self._verdict(took_s) if ended.exit_code in WITH_RESULT else {}),
        }
        if self._reloaded or processes.stopped():
            line["cut_short"] = "the scenario was reloaded" if self._reloaded else "the service was stopped"
        elif "verdict" not in line:
            line["failure"] = ended.said or "it ended without a result"
        self._windows.note(line)
        self._options.report(line)
        self._manager.status(f"window {self._number}: {line.get('verdict', 'no verdict')}")
        self._take_failures(ended, "verdict" in line, processes)

    def _call(self, factor: float) -> TrialCall:
        scenario = self._loaded.scenario
        settings = [f"duration={units.duration_text(self._spec.window_ns)}", *_rates(self._loaded, factor)]
        arguments = ["run", str(self._copy), "--out", str(self._windows.window(self._number)), "--restart", "--quiet"]
        arguments += [word for setting in settings for word in ("--set", setting)]
        arguments += ["--seed", str((scenario.seed + self._number - 1) % _SEEDS)]
        arguments += ["--metrics", self._options.metrics] if self._options.metrics else []
        name = f"window {self._number}"
        return TrialCall(name, tuple(arguments), self._windows.window(self._number), self._loaded)

    def _verdict(self, took_s: float) -> dict[str, Any]:
        """Return what the verdicts say of a window that came to one; nothing of one that was stopped before."""
        try:
            run = RecordedRun.open(self._windows.window(self._number))
            summary, evidence = run.document("summary.json"), run.evidence()
        except InputError:
            return {}
        if summary is None or evidence is None:
            return {}
        return verdict_of(summary, evidence, took_s)

    # -------------------------------------------------------------------------------------------------------- failures

    def _take_failures(self, ended: Ended, judged: bool, processes: TrialProcesses) -> None:
        if judged or processes.stopped() or self._reloaded:
            self._judged, self._failures = self._judged or judged, 0
            return
        self._failures += 1
        if ended.exit_code in HOPELESS and not self._judged:
            raise HOPELESS[ended.exit_code](f"running window {self._number}", ended.said)
        if self._failures == MOST_FAILURES:
            happened = f"{MOST_FAILURES} windows in a row failed, the last one: {ended.said}"
            raise ToolError("serving", happened, f"read {self._windows.window(self._number)}/logs/")
        self._pause(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._failures - 1)), processes)

    def _pause(self, for_s: float, processes: TrialProcesses) -> None:
        until_s = time.monotonic() + for_s
        while not processes.stopped() and time.monotonic() < until_s:
            waiting.readable([], NS_PER_S // 2)
            self.tick()

    # -------------------------------------------------------------------------------- while a window is running

    def hang_up(self) -> None:
        """Process SIGHUP; what it asks for is done at the next tick, outside of the handler."""
        self._reload_asked = True

    def tick(self) -> None:
        """Do what was asked for, and tell the service manager that all is well if it is."""
        if self._reload_asked:
            self._reload_asked = False
            self._reload()
        written, now_s = self._written(), time.monotonic()
        if written != self._seen[0]:
            self._seen = (written, now_s)
        if now_s - self._seen[1] < STILL_S:
            self._manager.alive()

    def _written(self) -> int:
        """Return a number that changes while the window records, and when it ends."""
        try:
            return (self._windows.window(self._number) / "events.jsonl").stat().st_mtime_ns
        except OSError:
            return self._number

    def _reload(self) -> None:
        self._manager.reloading()
        try:
            self._loaded = self._read()
        except TestbedError as error:
            self._options.note(f"the current scenario is kept: {error}")
        else:
            self._reloaded = True
            self._processes.end_current()
            self._options.note("the scenario and its model were reloaded; the next window uses them")
        self._manager.ready()

    def _read(self) -> LoadedScenario:
        loaded = self._options.load()
        for text in checks.check(loaded, EMULATION):
            self._options.note(text)
        self._copy: Path = self._windows.put_in_force(loaded)
        return loaded


def _rates(loaded: LoadedScenario, factor: float) -> Iterator[str]:
    """Yield the settings of each source at a factor of its rate."""
    for source in loaded.scenario.traffic:
        where = f"traffic.{source.name}"
        if isinstance(source, TraceSpec):
            yield f"{where}.rate_scale={source.rate_scale * factor!r}"
        elif isinstance(source, WaveSpec):
            yield f"{where}.low={units.rate_text(round(source.low_bps * factor))}"
            yield f"{where}.peak={units.rate_text(max(1, round(source.peak_bps * factor)))}"
        elif isinstance(source, OnOffSpec):
            yield f"{where}.peak={units.rate_text(max(1, round(source.peak_bps * factor)))}"
        elif not isinstance(source, TcpSpec):
            yield f"{where}.rate={units.rate_text(max(1, round(source.rate_bps * factor)))}"


def verdict_of(summary: Mapping[str, Any], evidence: Evidence, took_s: float) -> dict[str, Any]:
    """Return what a line of the verdicts says of a window; without figures that do not apply, such as the loss of none.

    Args:
        summary: of the window.
        evidence: likewise.
        took_s: how long the window took, set-up and results included.
    """
    figures = {"loss_ratio": summary["buffer"].get("loss_ratio")}
    return {
        "verdict": summary["verdict"],
        "verdict_reasons": summary["verdict_reasons"],
        "sent_packets": summary["traffic"]["sent_packets"],
        "unaccounted_packets": summary["traffic"]["unaccounted_packets"],
        **{name: value for name, value in figures.items() if value is not None},
        "restarted": list(evidence.restarted),
        "traffic_s": round(evidence.ran_ns / NS_PER_S, 3),
        "idle_s": round(took_s - evidence.ran_ns / NS_PER_S, 3),
    }
