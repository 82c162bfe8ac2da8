"""What a run is made from, by its run directory: the scenario as run, its plug-ins, hashes and seeds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeGuard

import yaml

from testbed.engine import Engine
from testbed.files import writing
from testbed.files.reading import Source
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL, MAX_FILE_BYTES
from testbed.results import provenance
from testbed.results.expectations import Expectation
from testbed.results.metrics import METRICS, Metric
from testbed.scenario import plugins as plugged
from testbed.scenario.loading import LoadedScenario
from testbed.scenario.plugins import Plugin
from testbed.scenario.sources import OwnShapeSpec, TraceSpec
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES, TOPOLOGIES, TRAFFIC_SHAPES
from testbed.traffic import trace_file
from testbed.traffic.plan import PacketPlan
from testbed.traffic.streams import derived_seed

_NAME_CHARS = 100  # of the copy of a file; its ending is kept


def _resolved_text(loaded: LoadedScenario, plugins: Collection[str], model: str, traces: Mapping[str, str]) -> str:
    """Return the scenario with every default, and the names of its files as the run directory has them."""
    question = "".join(f"# {line}".rstrip() + "\n" for line in loaded.question.splitlines())
    resolved = loaded.scenario.resolved() | ({"plugins": list(plugins)} if plugins else {})
    if model:
        resolved["buffer"]["model"] = model
    for source in resolved["traffic"]:
        if "trace" in source:
            source["trace"] = traces[source["trace"]]
    return question + yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)


def plugins_of(loaded: LoadedScenario) -> dict[str, Plugin]:
    """Return the plug-ins a scenario uses, each under the name of its copy in the run directory."""
    scenario = loaded.scenario
    named = [plugged.load(loaded.path.parent / text) for text in scenario.plugins]
    used: tuple[Plugin | None, ...] = (
        plugged.plugin_of(BUFFER_POLICIES, scenario.buffer.policy),
        plugged.plugin_of(BALANCER_POLICIES, scenario.balancer.policy),
        plugged.plugin_of(TOPOLOGIES, scenario.topology.family),
    )
    shapes = (plugged.plugin_of(TRAFFIC_SHAPES, source.shape) for source in scenario.traffic if _is_own(source))
    counted = (plugged.plugin_of(METRICS, Expectation.parse(text).path) for text in scenario.expect)
    measuring = (plugin for plugin in plugged.load_installed() if any(isinstance(row, Metric) for row in plugin.rows))
    used = (*used, *shapes, *counted, *measuring)
    found = dict.fromkeys([*named, *(plugin for plugin in used if plugin is not None)])
    return {f"plugins/{_copy_name(number, plugin.path.name)}": plugin for number, plugin in enumerate(found, 1)}


def _copy_name(number: int, name: str) -> str:
    """Return the name of the copy of a file: that of a copy is the same, and any archive takes it."""
    plain = re.sub(r"[^\w.+-]", "_", name.removeprefix(f"{number}-"))
    return f"{number}-{plain[-_NAME_CHARS:]}"


def _is_own(source: object) -> TypeGuard[OwnShapeSpec]:
    return isinstance(source, OwnShapeSpec)


def metrics_of(loaded: LoadedScenario) -> tuple[Metric, ...]:
    """Return the metrics of the plug-ins that a scenario uses."""
    return tuple(row for plugin in plugins_of(loaded).values() for row in plugin.rows if isinstance(row, Metric))


def model_of(loaded: LoadedScenario) -> Path | None:
    """Return the model file that a scenario names and its policy reads; None for the shipped one, or none."""
    named = loaded.scenario.buffer.reads
    if named is None:
        return None
    path = loaded.path.parent / named
    return path / DEFAULT_MODEL.name if path.is_dir() else path


def _model_files(path: Path) -> dict[str, bytes]:
    """Return a model and the manifest beside it, if there is one, by the names of their copies."""
    sources = [Source(file, "give another model") for file in dict.fromkeys((path, path.with_suffix(".json")))]
    return {f"model/{one.path.name}": one.read(MAX_FILE_BYTES) for one in sources if one.exists()}


class Folder(Protocol):
    """Where a scenario is written with all that it names; a `RunDirectory` is one."""

    path: Path

    def write_text(self, name: str, text: str | bytes, *, durable: bool = True) -> Path:
        """Write a file of the folder and return its path."""


def _traces_of(loaded: LoadedScenario) -> dict[str, str]:
    """Return the traces that a scenario names, as it names them, each with the name of its copy."""
    named = dict.fromkeys(source.trace for source in loaded.scenario.traffic if isinstance(source, TraceSpec))
    return {text: f"traces/{_copy_name(number, Path(text).name)}" for number, text in enumerate(named, 1)}


def write_scenario(loaded: LoadedScenario, directory: Folder) -> None:
    """Write the scenario as it is run, and beside it all that it names: a run can be made again from its directory."""
    plugins, traces, path = plugins_of(loaded), _traces_of(loaded), model_of(loaded)
    model = {} if path is None else _model_files(path)
    _copy(directory, {name: plugin.source for name, plugin in plugins.items()}.items())
    _copy(directory, model.items())
    _copy(directory, ((copy, trace_file.packed(loaded.path.parent / text)) for text, copy in traces.items()))
    resolved = _resolved_text(loaded, plugins, next(iter(model), ""), traces)
    directory.write_text("scenario.yaml", resolved, durable=False)


def _copy(directory: Folder, files: Iterable[tuple[str, bytes]]) -> None:
    for name, content in files:
        writing.folder((directory.path / name).parent)
        directory.write_text(name, content, durable=False)


def hashes_of(loaded: LoadedScenario, plan: PacketPlan, engine: Engine) -> dict[str, str]:
    """Return the hashes of all that decides what a run does: scenario, plan, programs, and what it reads beside."""
    hashes = {"scenario": f"sha256:{loaded.sha256}", "plan": f"sha256:{plan.digest()}", **hashes_of_inputs(loaded)}
    return hashes | {name: provenance.sha256_of(path) for name, path in engine.programs().items()}


def hashes_of_inputs(loaded: LoadedScenario) -> dict[str, str]:
    """Return the hashes of what a run reads beside its scenario: model, traces, plug-ins, by their content."""
    hashes = {
        f"trace/{source.name}": provenance.sha256_of(trace_file.packed(loaded.path.parent / source.trace))
        for source in loaded.scenario.traffic
        if isinstance(source, TraceSpec)
    }
    for copy, plugin in plugins_of(loaded).items():
        hashes[f"plugin/{copy.partition('-')[2]}"] = f"sha256:{plugin.sha256}"
    if BUFFER_POLICIES[loaded.scenario.buffer.policy].reads_model:
        hashes["model"] = provenance.sha256_of(model_of(loaded) or DEFAULT_MODEL)
    return hashes


def seeds_of(loaded: LoadedScenario) -> dict[str, int]:
    """Return the seeds of the streams of random numbers, by name."""
    streams = [f"traffic/{source.name}" for source in loaded.scenario.planned]
    return {stream: derived_seed(loaded.scenario.seed, stream) for stream in ("balancer", *streams)}
