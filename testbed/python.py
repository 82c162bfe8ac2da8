"""The testbed from Python: load, run, simulate, sweep, and look at what came out.

    import testbed

    scenario = testbed.load("scenarios/burst.yaml", set={"buffer.policy": "holt"}, seed=7)
    run = testbed.simulate(scenario)
    run.verdict, run.summary["buffer"]["loss_ratio"]
    run.samples.to_pandas()
    run.plot()

Every function does what the verb of its name does, says nothing, and raises a child of `testbed.errors.TestbedError`.
A trial is made in this process; from a thread, or a notebook's kernel, requests to stop are left to whoever has them.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from testbed import failures
from testbed.records.engines import EMULATION, SIMULATION
from testbed.report import charts, terminal
from testbed.report.sweep_table import SweepTable, tabulate
from testbed.results.recorded_run import RecordedRun
from testbed.scenario import loading, sweep
from testbed.scenario.loading import LoadedScenario
from testbed.scenario.overrides import Setting
from testbed.trials import run as trials
from testbed.trials import sweep as sweeps

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Run", "Sweep", "load", "open_run", "run", "simulate", "sweep_file"]


class Run:
    """A run directory: what a trial was given, what it measured, and whether it can be believed.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        """Open a run directory; raises InputError when it is none."""
        self.path = path
        self._recorded = RecordedRun.open(path)

    @property
    def status(self) -> str:
        """Return ``running``, ``completed``, ``interrupted``, ``failed`` or ``killed``."""
        return self._recorded.status

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Return ``summary.json``; empty for a run that had no end."""
        return self._recorded.document("summary.json") or {}

    @property
    def verdict(self) -> str | None:
        """Return ``VALID``, ``DEGRADED`` or ``INVALID``; None for a run that had no end."""
        return self.summary.get("verdict")

    @property
    def reasons(self) -> list[str]:
        """Return why the verdict is not VALID."""
        return list(self.summary.get("verdict_reasons", ()))

    @property
    def passed(self) -> bool:
        """Return whether the verdict is not INVALID and every expectation of the scenario held."""
        expectations = self.summary.get("expectations", ())
        return self.verdict in ("VALID", "DEGRADED") and all(one["passed"] for one in expectations)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Return ``manifest.json``: seeds, hashes, versions."""
        return dict(self._recorded.manifest)

    @cached_property
    def scenario(self) -> dict[str, Any]:
        """Return the scenario as it was run, every default written out."""
        return self._recorded.scenario_data()

    @cached_property
    def samples(self) -> pa.Table:
        """Return the samples of all nodes, a row a node and interval; ``.to_pandas()`` makes a data frame of them."""
        return self._recorded.samples()

    @cached_property
    def packets(self) -> pa.Table:
        """Return what happened to each planned packet, a row a packet, of a run with ``record_packets: true``.

        Raises:
            InputError: the run did not record its packets.
        """
        return self._recorded.packets()

    @cached_property
    def flows(self) -> pa.Table:
        """Return the packets of each flow together, a row a flow; raises as `packets`."""
        return self._recorded.flows()

    def events(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the records of ``events.jsonl``, those of one kind where it is named, such as ``"SetBufferLimit"``."""
        return (record for record in self._recorded.events() if kind in (None, record["kind"]))

    def plot(self, node: str | None = None) -> go.Figure:
        """Return the chart of a node, default the first: arrivals, backlog, limit and forecast over time.

        Raises:
            KeyError: there is no such node.
        """
        import plotly.graph_objects as go

        by_node = self._recorded.samples_by_node()
        name = node if node is not None else next(iter(by_node))
        samples = by_node[name]
        end_s = float(samples.t_ns[-1]) / 1e9 if len(samples.t_ns) else 0.0
        return go.Figure(charts.node_chart(charts.thin(samples), self._recorded.facts, name, end_s))

    def __repr__(self) -> str:
        """Return the path and the verdict."""
        return f"<Run {self.path} {self.verdict or self.status}>"

    def _repr_html_(self) -> str:
        """Return what the terminal says of the run, for notebooks."""
        if not self.summary:
            return html.escape(repr(self))
        lines = terminal.verdict_lines(self.summary, self.path)
        return f"<pre>{html.escape(chr(10).join(line.plain for line in lines))}</pre>"


class Sweep:
    """What a sweep left: its table and its runs.

    Attributes:
        path: its directory.
        table: a row for each combination of settings, with means and 95 % confidence intervals over the seeds.
    """

    def __init__(self, path: Path) -> None:
        """Open the directory of a sweep; raises InputError when it is none."""
        self.path = path
        self.table: SweepTable = tabulate(path)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values, as ``sweep --json`` prints it."""
        return self.table.to_record()

    def runs(self) -> list[Run]:
        """Return the runs that are there, ordered by name."""
        return [Run(found.parent) for found in sorted(self.path.glob("*/manifest.json"))]

    def __repr__(self) -> str:
        """Return the path and how many combinations there are."""
        return f"<Sweep {self.path} {len(self.table.combinations)} combinations>"


def load(
    path: str | Path,
    set: Mapping[str, Any] | None = None,  # noqa: A002
    seed: int | None = None,
    plugins: Sequence[str | Path] = (),
) -> LoadedScenario:
    """Read and check a scenario.

    Args:
        path: the YAML file.
        set: keys with dots and their values, as ``--set`` takes them: ``{"buffer.policy": "holt"}``.
        seed: replaces the scenario's seed.
        plugins: files that add policies or families, beside those that the scenario names.

    Raises:
        InputError: names file and line of what is wrong.
    """
    settings = [_setting(key, value) for key, value in (set or {}).items()]
    return loading.load(path, settings, seed, [Path(plugin) for plugin in plugins])


def run(scenario: LoadedScenario | str | Path, *, engine: str = EMULATION, out: str | Path | None = None) -> Run:
    """Run one trial, on the real kernel unless another engine is named; needs root there.

    Args:
        scenario: what `load` returned, or the path of a scenario.
        engine: ``"emulation"`` or ``"simulation"``.
        out: the run directory; default a new one under ``runs/``.

    Raises:
        TestbedError: what is wrong with the scenario or the machine, or what failed.
    """
    loaded = scenario if isinstance(scenario, LoadedScenario) else load(scenario)
    options = trials.RunOptions(
        engine, None if out is None else Path(out), live=False, quiet=True, argv=_command(loaded, engine)
    )
    with _shown(f"running {loaded.path}"):
        return Run(trials.run(loaded, options).path)


def simulate(scenario: LoadedScenario | str | Path, *, out: str | Path | None = None) -> Run:
    """Run one trial in virtual time; see `run`."""
    return run(scenario, engine=SIMULATION, out=out)


def sweep_file(
    path: str | Path,
    *,
    engine: str = EMULATION,
    out: str | Path | None = None,
    jobs: int | None = None,
    scheduler: str = "",
) -> Sweep:
    """Run a sweep to its end; one that was begun is resumed.  `testbed.sweep` is this function.

    Args:
        path: the sweep file.
        engine: ``"emulation"`` or ``"simulation"``.
        out: the directory; default as of the verb.
        jobs: how many simulated trials run at a time; default: as many as there are processors.
        scheduler: the address of a Dask scheduler whose workers run the trials, or ``"local"``.

    Raises:
        TestbedError: as of `run`; more so when trials fail one after the other.
    """
    words = ("sweep", str(path), "--engine", engine, *(("--out", str(out)) if out is not None else ()))
    with _shown(f"sweeping {path}"):
        place = None if out is None else Path(out)
        result = sweeps.sweep(
            Path(path), out=place, engine=engine, jobs=jobs, scheduler=scheduler, quiet=True, argv=words
        )
        return Sweep(result.path)


def open_run(path: str | Path) -> Run | Sweep:
    """Return the run, or the sweep, that lies in a directory.  `testbed.open` is this function.

    Raises:
        InputError: it is neither.
    """
    path = Path(path)
    return Sweep(path) if (path / "sweep.json").exists() else Run(path)


@contextmanager
def _shown(attempted: str) -> Iterator[None]:
    """Raise whatever is raised in the block as the error that the command line would show."""
    try:
        yield
    except Exception as error:
        raise failures.shown(error, attempted, "report it with this traceback") from error


def _setting(key: str, value: Any) -> Setting:
    return Setting(f"set={{{key!r}: …}}", key, value)


def _command(loaded: LoadedScenario, engine: str) -> tuple[str, ...]:
    """Return the command line that makes the same trial, for the manifest."""
    changes: list[str] = []
    for override in loaded.changed:
        key = ".".join(map(str, override.path))
        value: Any = loaded.raw
        for part in override.path:
            value = value[part]
        changes += ["--set", sweep.option_text(Setting("", key, value))]
    return "run", str(loaded.path), "--engine", engine, *changes
