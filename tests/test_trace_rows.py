"""The rows of a CSV trace: declared, or suggested by their times and said aloud; never guessed in silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import InputError
from testbed.traffic import bins
from testbed.traffic.traces import Trace, parse

WITH = [(0, 1e6), (1, 1e6), (2, 1e6), (3, 0), (4, 1e6), (5, 1e6)]
WITHOUT = [row for row in WITH if row[1]]
JITTER = [(4.002, n) if t == 4 else (t, n) for t, n in WITH]


def csv(rows, form="{}"):
    """Return a CSV trace; `form` writes the times."""
    return ("time_s,bytes\n" + "".join(f"{form.format(t)},{n}\n" for t, n in rows)).encode()


def read(rows, kind=None, bin_s=None, form="{}") -> Trace:
    """Read rows as a trace."""
    return parse(csv(rows, form), "x.csv", kind, bin_s)


def refusal(rows, kind=None, bin_s=None) -> str:
    """Return what rows are refused with."""
    with pytest.raises(InputError) as caught:
        read(rows, kind, bin_s)
    return str(caught.value).removeprefix("reading the trace x.csv: ")


def same(one: Trace, other: Trace) -> bool:
    """Tell whether two traces are the same traffic to the last bit."""
    return (
        one.bin_s == other.bin_s and np.array_equal(one.t_s, other.t_s) and np.array_equal(one.n_bytes, other.n_bytes)
    )


# -------------------------------------------------------------------------------------------------------- suggested


def test_a_row_without_bytes_may_be_left_out_of_bins():
    assert same(read(WITH), read(WITHOUT))
    assert read(WITHOUT).n_bytes.tolist() == [1e6, 1e6, 1e6, 0, 1e6, 1e6]


def test_what_was_inferred_is_said():
    assert read(WITH).notes == ("read as bins of 1s; `rows: bursts` overrides this",)
    assert read(WITHOUT).notes == (
        "read as bins of 1s, 1 of them without a row, so without bytes; `rows: bursts` overrides this",
    )
    why = "since row 3 is 400ms after row 2, which is 100ms after row 1"
    assert read([(0, 1), (0.1, 1), (0.5, 1)]).notes == (f"read as bursts, {why}; `rows: bins` overrides this",)
    assert "fewer than three times show no step" in read([(0, 1), (1, 1)]).notes[0]


def test_a_time_beside_the_grid_is_refused_by_its_row_and_both_remedies():
    assert refusal(JITTER) == (
        "row 5: 4.002 s is 2ms off the grid of bins of 1s that most rows suggest; "
        "state what the rows are: `rows: bins` and `bin: 1s`, or `rows: bursts`"
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 1), (1, 1), (2, 1), (3, 1), (4.5, 1), (5, 1)], "row 5: 4.5 s is 500ms off"),
        ([(0, 1), (1, 1), (1, 1), (2, 1), (3, 1)], "row 3: 1 s is in the bin of the row before"),
        ([(0, 1), (0.01, 1), (0.02, 1), (0.0304, 1), (0.05, 1), (0.06, 1)], "row 4: 0.0304 s is 400us off"),
        ([(0, 1), (1, 1), (2, 1), (3.4, 1)], "row 4: 3.4 s is 400ms off"),
    ],
)
def test_other_near_misses_are_refused_by_row(rows, words):
    assert words in refusal(rows)


def test_bins_of_a_third_of_a_second_in_three_decimals_are_bins():
    rows = [(k / 3, 1000) for k in range(400)]
    trace = read(rows, form="{:.3f}")
    assert trace.bin_s == pytest.approx(1 / 3, rel=1e-5)
    without = read([row for k, row in enumerate(rows) if k % 7], form="{:.3f}")
    assert "56 of them without a row" in without.notes[0]
    assert without.n_bytes[6::7].sum() == 0


@pytest.mark.parametrize("bin_s", [1e-4, 1e-3, 1 / 30])
@pytest.mark.parametrize("form", ["{!r}", "{:.6f}"])
def test_times_since_1970_are_as_exact_as_a_float(bin_s, form):
    rows = [(1_700_000_000 + k * bin_s, 1000) for k in range(3000)]
    trace = read(rows, form=form)
    assert trace.bin_s == pytest.approx(bin_s, rel=1e-4)
    assert len(trace.t_s) == 3000
    assert same(trace, read(rows, "bins", form=form))


@given(
    st.integers(0, 10**9), st.sampled_from([10**-4, 10**-3, 0.01, 0.1, 1.0, 60.0]),
    st.lists(st.booleans(), min_size=6, max_size=60),
)  # fmt: skip
def test_left_out_rows_change_nothing_wherever_they_are(start, bin_s, kept):
    kept = [True, True, True, True, *kept, True, True, True, True]
    rows = [(start + k * bin_s, 500 if keep else 0) for k, keep in enumerate(kept)]
    whole = read(rows, "bins", bin_s)
    assert same(whole, read([row for row in rows if row[1]], "bins", bin_s))
    assert whole.n_bytes.tolist() == [n for _, n in rows]


# --------------------------------------------------------------------------------------------------------- declared


def test_declared_bins_take_near_times_and_give_the_same_traffic():
    wanted = read(WITH, "bins", 1.0)
    assert wanted.notes == ()
    for rows in (WITH, WITHOUT, JITTER):
        assert same(read(rows, "bins", 1.0), wanted)
        assert same(read(rows, None, 1.0), wanted)
        assert same(read(rows, "bins"), wanted)


def test_declared_bursts_are_bursts_however_regular():
    trace = read(WITH, "bursts")
    assert (trace.bin_s, trace.notes) == (0.0, ())
    assert len(trace.t_s) == 6


@pytest.mark.parametrize(
    ("rows", "bin_s", "words"),
    [
        (WITH, 0.6, "row 2: 1 s is 200ms off the grid of bins of 600ms; correct the row, give the right `bin`"),
        (WITH, 2.0, "row 2: 1 s is in the bin of the row before, on the grid of bins of 2s"),
        ([(0, 1), (0.2, 1)], 10.0, "row 2: 0.2 s is in the bin of the row before"),
        ([(k / 3, 1) for k in range(999)], 0.333, "off the grid of bins of 333ms"),
        (
            [(5, 1)],
            None,
            "the length of its bins cannot be inferred from its rows; give the source's bin, such as `bin: 10ms`",
        ),
        ([(0, 1), (1, 1), (10**8, 1)], 1.0, "it has 100,000,001 bins; 5,000,000 is the maximum"),
        ([(0, 1), (1e-300, 1)], 1.0, "row 2: 1e-300 s is in the bin of the row before"),
    ],
)
def test_declared_bins_that_are_none_are_refused(rows, bin_s, words):
    assert words in refusal(rows, "bins", bin_s)


def test_one_declared_bin_is_a_bin():
    assert read([(5, 100)], "bins", 0.5).bin_s == 0.5


def test_no_step_is_no_trouble():
    assert read([(1, 5), (1, 5), (1, 5)]).bin_s == 0.0
    assert bins.meaning_of(np.array([0.0, 1e-320, 1e9]), None, None, "x").bin_s == 0.0
