"""Everything that can be checked of a scenario without running it: one entry point, for `validate`, sweeps and runs.

    scenario ─ topology ─ expectations ─ traffic, traces ─ engine ─▶ complaints by line, or what was found out

Each check is in the package that would refuse later, which calls it itself before it begins: planning calls `feasible`,
an engine its own `check`.  So a run refuses nothing that `validate` accepts.  What the *machine* lacks is checked by
`doctor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from testbed import topologies
from testbed.engine import engine as engine_of
from testbed.errors import InputError, MachineError
from testbed.forecaster.maker import forecaster_maker
from testbed.results.expectations import parse_all
from testbed.results.metrics import paths
from testbed.scenario import loading
from testbed.scenario.complaints import Complaint
from testbed.scenario.loading import LoadedScenario, ScenarioFile
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.overrides import Setting
from testbed.scenario.sources import TraceSpec
from testbed.scenario.tables import BUFFER_POLICIES
from testbed.traffic.feasible import feasible, surely_sends
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.traffic.traces import TraceFiles
from testbed.trials.inputs import model_of


def check(loaded: LoadedScenario, engine: str, files: TraceFiles | None = None, seeds: Sequence[int] = ()) -> list[str]:
    """Check a scenario for an engine, and return what the readers of its traces found out or mended, a line each.

    Args:
        loaded: the scenario and where it came from.
        engine: which one is to run it.
        files: reads its traces; a run hands in those it plans with.
        seeds: further ones that it is to be run with.

    Raises:
        InputError: names file and line of everything that is wrong.
    """
    scenario, files = loaded.scenario, files or TraceFiles(loaded.path.parent)
    network = topologies.describe(scenario.topology)
    loaded.refuse([*_found(loaded, engine, files)] or [*_empty(scenario, network, files)])
    for seed in seeds:
        other = scenario.model_copy(update={"seed": seed})
        loaded.refuse([*feasible(other, files)] or [*_empty(other, network, files)])
    return _notes(loaded, files)


def planned(loaded: LoadedScenario, engine: str) -> tuple[Network, PacketPlan]:
    """Check a scenario for an engine and return its network and its packets.

    Raises:
        InputError: names file and line of everything that is wrong.
    """
    files = TraceFiles(loaded.path.parent)
    check(loaded, engine, files)
    network = topologies.describe(loaded.scenario.topology)
    return network, make_plan(loaded.scenario, network, files)


def check_all(
    file: ScenarioFile, engine: str, settings: Sequence[str | Setting] = (), plugins: Sequence[Path] = ()
) -> None:
    """Raise everything that is wrong with a file for an engine, whichever stage finds it.

    Raises:
        InputError: something is.
    """
    files = TraceFiles(file.path.parent)
    loading.refuse_all(file, settings, plugins, lambda loaded: _found(loaded, engine, files))


def _found(loaded: LoadedScenario, engine: str, files: TraceFiles) -> Iterator[Complaint]:
    scenario, network = loaded.scenario, topologies.describe(loaded.scenario.topology)
    yield from _expectations(scenario)
    yield from _model(loaded)
    yield from feasible(scenario, files)
    yield from engine_of(engine).complaints(scenario, network)


def _empty(scenario: Scenario, network: Network, files: TraceFiles) -> Iterator[Complaint]:
    """Yield why a plan has no packets, by making it, where that is not sure before."""
    if surely_sends(scenario):
        return
    try:
        make_plan(scenario, network, files)
    except InputError as error:
        yield Complaint(("traffic",), error.happened, error.remedy)


def _expectations(scenario: Scenario) -> Iterator[Complaint]:
    for number, text in enumerate(scenario.expect):
        try:
            parse_all((text,), paths())
        except InputError as error:
            yield Complaint(("expect", number), error.happened, error.remedy)


def _model(loaded: LoadedScenario) -> Iterator[Complaint]:
    """Yield why the model that a scenario names cannot be used; what the machine lacks to read it is said later."""
    path, spec = model_of(loaded), loaded.scenario.buffer
    if path is not None and BUFFER_POLICIES.is_ours(spec.policy):
        try:
            forecaster_maker(spec, None, 1, path)
        except InputError as error:
            yield Complaint(("buffer", "model"), error.happened, error.remedy)
        except MachineError:
            pass


def _notes(loaded: LoadedScenario, files: TraceFiles) -> list[str]:
    notes = []
    for index, source in enumerate(loaded.scenario.traffic):
        if isinstance(source, TraceSpec):
            found = files.notes(source, loaded.scenario.duration_ns)
            notes += [f"{loaded.where('traffic', index, 'trace')}: {note}" for note in found]
    return notes
