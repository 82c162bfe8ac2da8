"""Replay: do the present policies decide what they decided when a run was recorded?

The policies of the recorded scenario are rebuilt and fed the inputs in ``events.jsonl``, each with its own time.
Their outputs are compared with the recorded ones, in order, and the first that differs is the answer.  There is none
when the code is that which made the run: an emulated run is then a unit test of every decision in it.

What a record holds for that is in `records.written`, and how it is read in `simulation.recorded_inputs`.  An answer
(`LimitGranted`) may be fed to a policy before all outputs of the event that asked are written, so outputs wait for
their match until the next event that is no answer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.forecaster.maker import forecaster_maker
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL
from testbed.policies.forecast import MakeForecaster
from testbed.records.events import LimitGranted, Record
from testbed.records.written import DIGEST, written
from testbed.results.provenance import sha256_of
from testbed.results.recorded_run import RecordedRun
from testbed.scenario import plugins as plugged
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.tables import BUFFER_POLICIES
from testbed.simulation.engine import BALANCER
from testbed.simulation.recorded_inputs import Line, RecordedInputs
from testbed.topologies import describe
from testbed.traffic import plan_file
from testbed.trials.replayed_policies import Policies, policies_of
from testbed.units import NS_PER_S

_ABOUT = ("t_ns", "policy", "direction")  # of a line, not of the event or action in it
_REMEMBERED = 4096
_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that is not as recorded.

    Attributes:
        t_ns: time of the record, or of the input that was answered differently.
        policy: whose decision.
        recorded: the line in ``events.jsonl``, None when nothing was recorded.
        replayed: what this code answers, None when it answers nothing.
        other_model: the run had another LSTM, so the difference need not be one of the code.
    """

    t_ns: int
    policy: str
    recorded: Mapping[str, Any] | None
    replayed: Mapping[str, Any] | None
    other_model: bool = False

    def __str__(self) -> str:
        lines = (
            f"{self.policy} at {self.t_ns / NS_PER_S:.6f} s",
            f"  recorded: {_shown(self.recorded)}",
            f"  replayed: {_shown(self.replayed)}",
        )
        return "\n".join((*lines, "  the run used another LSTM; give it with --model") if self.other_model else lines)


def _shown(line: Mapping[str, Any] | None) -> str:
    text = "nothing" if line is None else json.dumps(_content(line))
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _content(line: Line) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in _ABOUT}


def replay(run_dir: Path, model_path: Path | None = None) -> Difference | None:
    """Feed a recorded run's inputs to the present policies and return the first output that differs.

    Args:
        run_dir: what `run` or `simulate` wrote.
        model_path: of the model; default the copy in the run directory, else the one shipped.

    Raises:
        InputError: no run directory, one without recorded decisions, or records this version cannot read.
    """
    run = RecordedRun.open(run_dir)
    plugins = [text for text in run.scenario_data().get("plugins") or () if isinstance(text, str)]
    for text in plugins:
        _refuse_elsewhere(run_dir, text, "plug-in")
    list(plugged.load_named(run_dir, plugins))
    scenario = run.scenario()
    model_path = model_path or _own_model(run, scenario)
    network = describe(scenario.topology)
    forecasters, seed = _forecasters(run, scenario, network, model_path), _balancer_seed(run)
    policies = policies_of(scenario, network, forecasters, partial(plan_file.read, run.path / "plan.parquet"), seed)
    inputs = RecordedInputs(run, network)
    comparison = _Comparison(policies, inputs)
    for line in inputs.lines():
        difference = comparison.take(line)
        if difference is not None:
            return dataclasses.replace(difference, other_model=_had_other_model(run, model_path))
    if not comparison.compared:
        raise InputError(
            f"replaying {run_dir}", "it contains no recorded decisions", "give a run whose traffic has begun"
        )
    return comparison.unanswered() if run.manifest["status"] == "completed" else None


def _own_model(run: RecordedRun, scenario: Scenario) -> Path | None:
    """Return the copy of the model that the run brought along; None where it ran with the shipped one."""
    named = scenario.buffer.reads
    if named is not None:
        _refuse_elsewhere(run.path, named, "model")
    return None if named is None else run.path / named


def _refuse_elsewhere(run_dir: Path, named: str, what: str) -> None:
    """Refuse what a run names outside of its directory."""
    if Path(named).is_absolute() or ".." in Path(named).parts:
        raise InputError(
            f"replaying {run_dir}",
            f"its {what} {named} is outside of the run directory",
            "give a complete run directory",
        )


def _had_other_model(run: RecordedRun, model_path: Path | None) -> bool:
    recorded = run.manifest.get("hashes", {}).get("model")
    return recorded is not None and recorded != sha256_of(model_path or DEFAULT_MODEL)


def _balancer_seed(run: RecordedRun) -> int:
    seed = run.manifest.get("seeds", {}).get(BALANCER)
    if not isinstance(seed, int):
        raise InputError(
            f"replaying {run.path}", f"its manifest has no seed of {BALANCER}", "give a complete run directory"
        )
    return seed


def _forecasters(run: RecordedRun, scenario: Scenario, network: Network, model_path: Path | None) -> MakeForecaster:
    reads_plan = BUFFER_POLICIES[scenario.buffer.policy].reads_plan
    plan = plan_file.read(run.path / "plan.parquet") if reads_plan else None
    return forecaster_maker(scenario.buffer, plan, len(network.first_tier), model_path)


class _Comparison:
    """Feeds inputs and holds outputs against the record.

    Attributes:
        compared: outputs found as recorded.
    """

    def __init__(self, policies: Policies, inputs: RecordedInputs) -> None:
        self.compared = 0
        self._policies, self._inputs = policies, inputs
        self._open: dict[str, tuple[int, list[dict[str, Any]]]] = {}  # outputs without their record yet, by policy
        self._outputs: dict[str, Record] = {}  # those written in short, by digest

    def take(self, line: Line) -> Difference | None:
        """Process the next line; return the difference it shows, if any."""
        return self._fed(line) if line["direction"] == "in" else self._answered(line)

    def unanswered(self) -> Difference | None:
        """Return an output that was never recorded."""
        for policy, (t_ns, outputs) in sorted(self._open.items()):
            if outputs:
                return Difference(t_ns, policy, None, outputs[0])
        return None

    def _fed(self, line: Line) -> Difference | None:
        policy, t_ns = line["policy"], line["t_ns"]
        since_ns, outputs = self._open.get(policy, (t_ns, []))
        event = self._inputs.event(line, self._outputs)
        if event is None:
            return Difference(t_ns, policy, line, None)
        if outputs and not isinstance(event, LimitGranted):
            return Difference(since_ns, policy, None, outputs[0])
        answers = self._policies.feed(policy, event, t_ns)
        self._open[policy] = (t_ns, [*outputs, *(self._written(answer) for answer in answers)])
        return None

    def _answered(self, line: Line) -> Difference | None:
        _, outputs = self._open.get(line["policy"], (0, []))
        content = _content(line)
        if content not in outputs:
            return Difference(line["t_ns"], line["policy"], line, outputs[0] if outputs else None)
        outputs.remove(content)
        self.compared += 1
        return None

    def _written(self, output: Record) -> dict[str, Any]:
        line = written(output)
        if DIGEST in line:
            self._outputs[line[DIGEST]] = output
            if len(self._outputs) > _REMEMBERED:
                del self._outputs[next(iter(self._outputs))]
        return line
