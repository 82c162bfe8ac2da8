"""Whether the rows of a CSV trace are bins or bursts, and on which grid bins lie.

A *bin* is the bytes that passed, evenly, between an instant and the next; bins without bytes may be left out.  A
*burst* is bytes that were there at an instant.  The same rows mean very different traffic either way, so the source
says which (``rows``, ``bin``), or it is inferred from the times and reported.

**Inferred from the times.**  They are read as bins when most rows are one step behind the row before and all lie on
the grid of that step, for bursts when no step is that common.  When most are about one step behind, but not all lie on
the grid, either would be a guess, and the trace is refused: the source has to say.

**On the grid** is a row that lies within the error of its own writing: the last decimal that is written (when a step is
ten of them or more), the resolution of a float of that size (times since 1970 have 0.2 us), or a thousandth of a step.
Where the source says that rows are bins, a tenth of a step is near enough.  A row is put where it belongs, so no such
error is left in the trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.records.events import Floats, Ints
from testbed.scenario.sources import RowKind
from testbed.traffic.trace_file import refusal

MAX_BINS = 5_000_000
_THOUSANDTH, _TENTH = 1e-3, 0.1
_COMMON = 0.5  # more than this share of the rows is one step behind the row before
_MOST_DECIMALS = 9
_DECIMALS_IN_A_STEP = 10
_LEAST_ROWS = 3
_FAR = 2.0**40  # steps; no trace has so many bins


@dataclass(frozen=True, eq=False)
class Rows:
    """What rows mean.

    Attributes:
        bin_s: length of the bins, 0.0 for bursts.
        place: int64 [n], the bin each row is, the first 0; empty for bursts.
        note: how that was found out, where the source did not say it.
    """

    bin_s: float
    place: Ints
    note: str = ""


def bursts(note: str = "") -> Rows:
    """Return rows that are bursts."""
    return Rows(0.0, np.zeros(0, np.int64), note)


def meaning_of(t_s: Floats, kind: RowKind | None, bin_s: float | None, name: str) -> Rows:
    """Return what rows at `t_s` [n], finite and ascending, mean.

    Args:
        t_s: their times in seconds.
        kind: what the source says they are; None: nothing.
        bin_s: how long the source says that bins are; None: nothing.
        name: of the file.

    Raises:
        InputError: names the row that does not fit.
    """
    if kind == "bursts":
        return bursts()
    if kind == "bins" or bin_s is not None:
        return _declared(t_s, bin_s, name)
    return _suggested(t_s, name)


def _declared(t_s: Floats, bin_s: float | None, name: str) -> Rows:
    if bin_s is None:
        gaps = np.diff(t_s)
        if not np.any(gaps > 0):
            raise refusal(
                name,
                "the length of its bins cannot be inferred from its rows",
                "give the source's bin, such as `bin: 10ms`",
            )
        step = _step(gaps)
        bin_s = _fitted(t_s, _places(t_s, step), step)
    place = _places(t_s, bin_s)
    stray = _stray(t_s, place, bin_s, _TENTH * bin_s, bin_s)
    if stray:
        raise refusal(name, stray, "correct the row, give the right `bin`, or `rows: bursts`")
    return _bins(place, bin_s, name)


def _suggested(t_s: Floats, name: str) -> Rows:
    gaps = np.diff(t_s)
    if len(t_s) < _LEAST_ROWS or not np.any(gaps > 0):
        return bursts("read as bursts, because fewer than three times show no step; `rows: bins` overrides this")
    step = _step(gaps)
    usual = np.abs(gaps - step) <= _TENTH * step
    if np.mean(usual) <= _COMMON:
        return bursts(f"read as bursts, since {_first_change(gaps)}; `rows: bins` overrides this")
    place = _places(t_s, step)
    bin_s = _fitted(t_s, place, step)
    stray = _stray(t_s, place, bin_s, _error_of_writing(t_s, step), _median(gaps))
    if stray:
        remedy = f"state what the rows are: `rows: bins` and `bin: {_text(_median(gaps))}`, or `rows: bursts`"
        raise refusal(name, f"{stray} that most rows suggest", remedy)
    missing = int(place[-1]) + 1 - len(place)
    without = f", {missing:,} of them without a row, so without bytes" if missing else ""
    note = f"read as bins of {_text(bin_s)}{without}; `rows: bursts` overrides this"
    return _bins(place, bin_s, name, note)


def _bins(place: Ints, bin_s: float, name: str, note: str = "") -> Rows:
    if place[-1] >= MAX_BINS:
        raise refusal(
            name, f"it has {int(place[-1]) + 1:,} bins; {MAX_BINS:,} is the maximum", "shorten it or use larger bins"
        )
    return Rows(bin_s, place, note)


def _step(gaps: Floats) -> float:
    """Return the usual distance of rows: the mean of those about as long as the median."""
    median = _median(gaps)
    return float(np.mean(gaps[np.abs(gaps - median) <= _TENTH * median]))


def _median(gaps: Floats) -> float:
    return float(np.quantile(gaps[gaps > 0], 0.5, method="lower"))


def _places(t_s: Floats, step: float) -> Ints:
    """Return the place of each row on the grid, counted from row to row, so that an error in `step` does not add up."""
    with np.errstate(over="ignore"):
        steps = np.rint(np.minimum(np.diff(t_s, prepend=t_s[0]) / step, _FAR))
    return np.cumsum(steps).astype(np.int64)


def _stray(t_s: Floats, place: Ints, bin_s: float, error_s: float, step: float) -> str:
    """Name the row that is further than `error_s` beside the grid, or in the bin of another; "" when there is none.

    The grid leans towards a row that is far off, so the first row that is no `step` behind the one before is named.
    """
    beside = np.abs(t_s - t_s[0] - place * bin_s)
    steps = np.diff(place)
    if np.all(beside <= error_s) and np.all(steps > 0):
        return ""
    off = np.abs(np.diff(t_s) - steps * step)
    odd = (off > error_s) | (steps < 1)
    row = int(np.argmax(odd)) + 1 if odd.any() else int(np.argmax(beside > error_s))
    grid = f"the grid of bins of {_text(step)}"
    if row and steps[row - 1] < 1:
        return f"row {row + 1}: {t_s[row]:.12g} s is in the bin of the row before, on {grid}"
    by_s = off[row - 1] if odd.any() else beside[row]
    return f"row {row + 1}: {t_s[row]:.12g} s is {_text(float(by_s))} off {grid}"


def _fitted(t_s: Floats, place: Ints, step: float) -> float:
    """Return the step that leads from the first row to the last, the shortest number that fits."""
    count = int(place[-1])
    if count < 1:
        return step
    exact, error = float(t_s[-1] - t_s[0]) / count, 4 * float(np.spacing(np.max(np.abs(t_s))))
    rounded = (round(exact, digits) for digits in range(_MOST_DECIMALS + 1))
    return next((value for value in rounded if value > 0 and abs(value - exact) * count <= error), exact)


def _error_of_writing(t_s: Floats, step: float) -> float:
    """Return by how much a time may differ from what it was written for."""
    largest = float(np.max(np.abs(t_s)))
    decimal = next((10.0**-digits for digits in range(_MOST_DECIMALS) if _written_with(t_s, digits)), 0.0)
    rounding = decimal if decimal * _DECIMALS_IN_A_STEP <= step else 0.0
    return max(_THOUSANDTH * step, rounding * 1.01) + 4 * float(np.spacing(largest))


def _written_with(t_s: Floats, digits: int) -> bool:
    """Return whether all times have at most so many decimals."""
    scaled = t_s * 10.0**digits
    return bool(np.all(np.abs(scaled - np.rint(scaled)) <= 2 * np.spacing(np.abs(scaled))))


def _first_change(gaps: Floats) -> str:
    """Say where the first distance stands that differs from the one before it."""
    change = np.abs(np.diff(gaps)) > _TENTH * np.maximum(gaps[1:], gaps[:-1])
    row = int(np.argmax(change)) + 3 if change.any() else 3
    later, earlier = _text(gaps[row - 2]), _text(gaps[row - 3])
    return f"row {row} is {later} after row {row - 1}, which is {earlier} after row {row - 2}"


def _text(seconds: float) -> str:
    """Return a length of time as a scenario has it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1 or unit == "us":
            return f"{seconds * scale:.6g}{unit}"
    raise AssertionError("the smallest unit takes what is left")
