"""The sweep: one scenario under every combination of some settings, for several seeds.

    version: 1
    name: policies
    scenario: ../burst.yaml                       relative to the sweep file
    set:
      buffer.policy: [static-min, static-mean, lstm, oracle]
      buffer.actuation_delay: [0ms, 100ms]        a value alone is set in every trial
    mean_from: lstm
    baseline: {buffer.policy: static-min}
    seeds: [1, 2, 3]                              or how many, from 1 on

The keys of `set` are those of ``--set``; a list holds alternatives, and the trials are the cartesian product of all
lists and seeds.  A seed's trials stand together, so that a machine that gets slower or faster in the course of hours
does so for all combinations alike, and the first seeds can be compared before the last ones are run.

**mean_from.**  A policy that wins may win because it decides well or because it reserves more.  `static-mean` shows
which: with ``mean_from: lstm`` each of its trials runs after the trial of `lstm` with the same seed and otherwise the
same settings, and its ``buffer.mean`` is the mean limit of that run (`buffer.mean_limit_bytes`), so both reserve the
same MB·s.

**baseline.**  The combination that the others are held against: values of some of the keys that vary, each from its
list.  A combination is compared with the one that has these and otherwise its own values, under the same seeds and so
the same packets (`report.sweep_baseline`).

Nothing is run before every combination has passed the checks of a scenario.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from testbed.errors import InputError
from testbed.scenario import complaints, document, loading
from testbed.scenario.base import Spec, Version
from testbed.scenario.complaints import Complaint
from testbed.scenario.document import Document, parse_value
from testbed.scenario.overrides import Setting
from testbed.scenario.tables import BufferPolicyName

POLICY, MEAN, STATIC_MEAN = "buffer.policy", "buffer.mean", "static-mean"
MAX_TRIALS = 10_000
MAX_SEED = 2**32 - 1
_NOT_SET_HERE = {
    "seed": "give `seeds: [1, 2, 3]` instead",
    "name": "runs of one sweep have one name, that of the scenario",
}
_SHORT_VALUE_CHARS = 40


def _alternatives(value: Any) -> Any:
    """Return the values of each key as a list; one alone is a list of one."""
    if not isinstance(value, dict):
        return value
    return {key: tuple(item) if isinstance(item, list) else (item,) for key, item in value.items()}


def _seeds(value: Any) -> Any:
    """Return the seeds: a count n stands for 1 to n."""
    if isinstance(value, bool) or not isinstance(value, (int, list, tuple)):
        raise ValueError("expected a list of seeds such as [1, 2, 3], or how many")
    if isinstance(value, int):
        if not 1 <= value <= MAX_TRIALS:
            raise ValueError(f"expected 1 to {MAX_TRIALS:,} seeds, got {value}")
        return tuple(range(1, value + 1))
    for seed in value:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"a seed is a whole number from 0 to {MAX_SEED}, got {complaints.shown(seed)}")
    if len(set(value)) < len(value):
        raise ValueError(f"seed {next(s for s, n in Counter(value).items() if n > 1)} is given twice")
    return tuple(value)


class SweepSpec(Spec):
    """A sweep as the file has it."""

    version: Version
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    scenario: str = Field(min_length=1, description="the scenario, relative to the sweep file")
    settings: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_alternatives)] = Field(
        default_factory=dict, alias="set", description="for each key the values to try"
    )
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        (1, 2, 3, 4, 5), min_length=1, description="the seeds, or how many"
    )
    mean_from: BufferPolicyName | None = Field(
        None, description="static-mean reserves what the run of this policy under the same seed reserved"
    )
    baseline: dict[str, Any] | None = Field(
        None, description="values of keys of `set`: what every combination is compared with, seed by seed"
    )


@dataclass(frozen=True, slots=True)
class Combination:
    """One point of the product.

    Attributes:
        parameters: the value of every key that has alternatives, as text, in the order of the file.
        settings: everything that is set.
    """

    parameters: Mapping[str, str]
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One trial of a sweep.

    Attributes:
        name: of its run directory.
        combination: what is set.
        seed: its seed.
        mean_from: name of the trial whose mean limit it takes as its own size, if any.
    """

    name: str
    combination: Combination
    seed: int
    mean_from: str | None = None


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep, checked, and where it came from.

    Attributes:
        spec: the file's content.
        question: the comment that opens the file.
        path, sha256: the file, and the hash of its bytes.
        combinations: the product of `set`.
    """

    spec: SweepSpec
    question: str
    path: Path
    sha256: str
    combinations: tuple[Combination, ...]
    parsed: Document = field(repr=False)

    @property
    def scenario_path(self) -> Path:
        """Return the scenario's file."""
        return self.path.parent / self.spec.scenario

    @property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """Return the values of every key that has alternatives, as text."""
        return {key: tuple(map(value_text, values)) for key, values in self.spec.settings.items() if len(values) > 1}

    @property
    def fixed(self) -> dict[str, str]:
        """Return the keys set to the same value in every trial."""
        return {key: value_text(values[0]) for key, values in self.spec.settings.items() if len(values) == 1}

    @property
    def baseline(self) -> dict[str, str]:
        """Return the values that the baseline has, as text; empty without one."""
        return {key: value_text(value) for key, value in (self.spec.baseline or {}).items()}

    @cached_property
    def trials(self) -> tuple[TrialSpec, ...]:
        """Return the trials in the order they are run: by seed, and after the trial whose mean limit they take."""
        trials = [self._trial(combination, seed) for seed in self.spec.seeds for combination in self.combinations]
        return tuple(sorted(trials, key=lambda trial: (self.spec.seeds.index(trial.seed), trial.mean_from is not None)))

    def against(self, options: Sequence[str]) -> LoadedSweep:
        """Return the sweep with the baseline that ``key=value`` options name; without any the same.

        Raises:
            InputError: it is no combination of the sweep.
        """
        if not options:
            return self
        named = [Setting.of(option, "--baseline") for option in options]
        spec = self.spec.model_copy(update={"baseline": {setting.key: setting.value for setting in named}})
        for complaint in _baseline_checks(spec):
            raise InputError(f"--baseline {complaint.path[-1]}", complaint.happened, complaint.remedy)
        return replace(self, spec=spec)

    def load(self, trial: TrialSpec, mean_bytes: int | None = None) -> loading.LoadedScenario:
        """Return the scenario of a trial.

        Args:
            trial: one of `trials`.
            mean_bytes: the size under static-mean, for a trial with `mean_from`.

        Raises:
            InputError: when the scenario has changed and no longer fits.
        """
        return loading.load(self.scenario_path, settings_of(trial, mean_bytes), trial.seed)

    def _trial(self, combination: Combination, seed: int) -> TrialSpec:
        name, source = self._name(combination.parameters, seed), None
        if self.spec.mean_from and combination.parameters[POLICY] == STATIC_MEAN:
            source = self._name({**combination.parameters, POLICY: self.spec.mean_from}, seed)
        return TrialSpec(name, combination, seed, source)

    def _name(self, parameters: Mapping[str, str], seed: int) -> str:
        last = Counter(key.rpartition(".")[2] for key in parameters)
        parts = []
        for key, value in parameters.items():
            short = key.rpartition(".")[2]
            parts.append(f"{short if last[short] == 1 else key}={_file_text(value)}")
        return ",".join([*parts, f"seed={seed}"])


def settings_of(trial: TrialSpec, mean_bytes: int | None = None) -> tuple[Setting, ...]:
    """Return everything a trial sets; see `LoadedSweep.load`."""
    if mean_bytes is None:
        return trial.combination.settings
    return (*trial.combination.settings, Setting(f"mean limit of {trial.mean_from}", MEAN, f"{mean_bytes}B"))


def option_text(setting: Setting) -> str:
    """Return a setting as ``--set`` takes it: ``key=value``."""
    return f"{setting.key}={_yaml_text(setting.value)}"


def value_text(value: Any) -> str:
    """Return a value as tables and names show it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def load_sweep(
    path: str | Path, check: Callable[[loading.LoadedScenario, tuple[int, ...]], object] = lambda *_: None
) -> LoadedSweep:
    """Read and check a sweep and the scenario under each of its combinations.

    Args:
        path: of the sweep.
        check: checks the scenario of a combination further, for all seeds.

    Raises:
        InputError: on anything wrong with either; the message has at most five lines and names file and line.
    """
    path = Path(path)
    content = document.read_bytes(path)
    parsed = document.parse(content, str(path))
    if not loading.is_sweep(parsed) and "topology" in parsed.data:
        raise InputError(f"{path}:1", "this is a scenario, not a sweep", f"use `python -m testbed run {path}`")
    spec = loading.as_model(parsed, SweepSpec)
    loading.refuse(list(_cross_checks(spec, path.parent)), parsed)
    sha256 = hashlib.sha256(content).hexdigest()
    question = loading.question_of(content.decode("utf-8-sig"))
    sweep = LoadedSweep(spec, question, path, sha256, tuple(_combinations(spec, parsed)), parsed)
    file = loading.read(sweep.scenario_path)
    for combination in sweep.combinations:
        check(loading.loaded(file, combination.settings, spec.seeds[0]), spec.seeds[1:])
    return sweep


def _cross_checks(spec: SweepSpec, folder: Path) -> Iterator[Complaint]:
    """Yield what no key of the sweep can see alone."""
    if not os.path.isfile(folder / spec.scenario):
        missing = document.printable(str(folder / spec.scenario))
        yield Complaint(("scenario",), f"there is no file {missing}", "the path is relative to the sweep file")
    for key, values in spec.settings.items():
        texts = [value_text(value) for value in values]
        if key in _NOT_SET_HERE:
            yield Complaint(("set", key), "a sweep does not set it", _NOT_SET_HERE[key])
        if not values:
            yield Complaint(("set", key), "expected at least one value, got an empty list")
        for text in (text for text, times in Counter(texts).items() if times > 1):
            yield Complaint(("set", key), f"{complaints.shown(text)} is given twice")
    yield from _mean_checks(spec)
    yield from _baseline_checks(spec)
    count = len(spec.seeds)
    for values in spec.settings.values():
        count *= len(values)
    if count > MAX_TRIALS:
        yield Complaint(("set",), f"{count:,} trials; a sweep has at most {MAX_TRIALS:,}", "remove some values")


def _mean_checks(spec: SweepSpec) -> Iterator[Complaint]:
    if spec.mean_from is None:
        return
    policies = spec.settings.get(POLICY, ())
    if spec.mean_from == STATIC_MEAN:
        yield Complaint(("mean_from",), "static-mean cannot take its size from itself", "name the policy to match")
    for policy in (STATIC_MEAN, spec.mean_from):
        if policy not in policies:
            yield Complaint(("mean_from",), f"{policy} is not among the values of set.{POLICY}", "add it there")
    if MEAN in spec.settings:
        yield Complaint(("set", MEAN), "mean_from sets it", "give one of the two")


def _baseline_checks(spec: SweepSpec) -> Iterator[Complaint]:
    if spec.baseline == {}:
        yield Complaint(("baseline",), "expected at least one key of `set` with its value", "or remove it")
    for key, value in (spec.baseline or {}).items():
        texts = [value_text(known) for known in spec.settings.get(key, ())]
        if len(texts) < 2:
            yield Complaint(("baseline", key), "it does not vary in this sweep", "name a key of `set` with a list")
        elif value_text(value) not in texts:
            happened = f"{complaints.shown(value_text(value))} is not among the values of set.{key}"
            yield Complaint(("baseline", key), happened, f"choose one of {', '.join(texts)}")


def _combinations(spec: SweepSpec, parsed: Document) -> Iterator[Combination]:
    choices: list[list[Setting]] = []
    for key, values in spec.settings.items():
        lines = [parsed.line(("set", key, index)) for index in range(len(values))]
        choices.append(
            [Setting(f"{parsed.name}:{line}: set", key, value) for line, value in zip(lines, values, strict=True)]
        )
    varied = {key for key, values in spec.settings.items() if len(values) > 1}
    for settings in itertools.product(*choices):
        yield Combination({s.key: value_text(s.value) for s in settings if s.key in varied}, settings)


def _yaml_text(value: Any) -> str:
    """Return a value so that YAML reads it back as it is, plain where that is possible."""
    if isinstance(value, str) and value == value.strip():
        try:
            if parse_value(value, "") == value:
                return value
        except InputError:
            pass
    return json.dumps(value)


def _file_text(value: str) -> str:
    """Return a value as part of a file name; what had to be changed or cut is made unique by a hash."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", value)[:_SHORT_VALUE_CHARS]
    return plain if plain == value else f"{plain}~{hashlib.sha256(value.encode()).hexdigest()[:6]}"
