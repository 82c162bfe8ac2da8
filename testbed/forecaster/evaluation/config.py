"""What an evaluation is asked to judge, checked."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

from testbed import installing
from testbed.errors import InputError, MachineError
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.sources import RowKind

_MAX_RATE_BPS = 10**13
_MAX_BIN_S = 86_400


@dataclass(frozen=True)
class EvaluateConfig:
    """What to judge, and how.

    Attributes:
        traces: files and folders; without any, and without `sums`, generated series are judged.
        rows: what the rows of CSV traces are; None: inferred from their times.
        bin_s: how long their bins are; None: inferred from their times.
        model: None is the shipped one.
        rate_bps: of the node; None loads every series to `arrivals.USUAL_LOAD`.
        stretch: times are multiplied by it.
        add_up: judge the sum of all series of all files.
        sums: files of hosts; sums of random hosts of them are judged, none that the model was trained on.
        generated: judge generated series, too.
        actuation_ms: time an expansion takes.
        interval_ms: between samples.
        seed: of generated series.
        cut: cut every series to one of a few lengths (`series.LENGTHS`), so that many can be judged side by side.
    """

    traces: tuple[Path, ...] = ()
    rows: RowKind | None = None
    bin_s: float | None = None
    model: Path | None = None
    rate_bps: int | None = None
    stretch: float = 1.0
    add_up: bool = False
    sums: tuple[Path, ...] = ()
    generated: bool = False
    actuation_ms: int = 50
    interval_ms: int = 10
    seed: int = 1
    cut: bool = False

    @property
    def buffer(self) -> BufferSpec:
        """Return the part of a scenario that a node with this model would have."""
        delays = {"actuation_delay": f"{self.actuation_ms}ms", "sample_interval": f"{self.interval_ms}ms"}
        return BufferSpec.model_validate({"policy": "lstm", **delays})


def check(config: EvaluateConfig) -> None:
    """Refuse settings that make no sense.

    Raises:
        InputError: names the option.
        MachineError: scikit-learn, which has the areas under curves and the trees, is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise MachineError("evaluating a model", "scikit-learn is not installed", installing.optional("evaluate"))
    if not (math.isfinite(config.stretch) and 1e-6 <= config.stretch <= 1e6):
        raise InputError(f"evaluating with --stretch {config.stretch:g}", "it must lie between 1e-6 and 1e6")
    if config.rate_bps is not None and not 0 < config.rate_bps <= _MAX_RATE_BPS:
        raise InputError(f"evaluating with --rate {config.rate_bps}", "it must lie between 1 bit/s and 10 Tbit/s")
    if config.bin_s is not None and (config.rows == "bursts" or not 0 < config.bin_s <= _MAX_BIN_S):
        happened = "bursts have no bin" if config.rows == "bursts" else "it must lie between 1ns and 24h"
        raise InputError(f"evaluating with --bin {config.bin_s:g}s", happened)
    if not 1 <= config.interval_ms <= 1000:
        raise InputError(f"evaluating with --interval {config.interval_ms} ms", "it must be 1 to 1000 ms")
    if not 0 <= config.actuation_ms <= 100:
        raise InputError(f"evaluating with --actuation {config.actuation_ms} ms", "it must be 0 to 100 ms")
