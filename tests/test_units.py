"""Quantities: what is read, what is refused, and that writing is the inverse of reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed import units

READ = [
    (units.duration_ns, "10ms", 10_000_000),
    (units.duration_ns, "1.5us", 1_500),
    (units.duration_ns, "0ms", 0),
    (units.duration_ns, "2min", 120 * units.NS_PER_S),
    (units.duration_ns, "1h", 3600 * units.NS_PER_S),
    (units.duration_ns, " 20 s ", 20 * units.NS_PER_S),
    (units.size_bytes, "0.5MB", 500_000),
    (units.size_bytes, "10MB", 10_000_000),
    (units.size_bytes, "1kB", 1_000),
    (units.size_bytes, "1514B", 1_514),
    (units.rate_bps, "100Mbit", 100_000_000),
    (units.rate_bps, "2.5Gbit", 2_500_000_000),
    (units.rate_bps, "1e3kbit", 1_000_000),
]
REFUSED = [
    (units.size_bytes, "0.5", "with its unit"),
    (units.size_bytes, 500_000, "with its unit"),
    (units.size_bytes, True, "with its unit"),
    (units.size_bytes, None, "with its unit"),
    (units.size_bytes, "-1MB", "with its unit"),
    (units.size_bytes, "MB", "with its unit"),
    (units.size_bytes, "1MB2", "with its unit"),
    (units.size_bytes, "0x10B", "with its unit"),
    (units.size_bytes, "nanB", "with its unit"),
    (units.size_bytes, "1" * 40 + "B", "with its unit"),
    (units.size_bytes, "1MiB", "unknown size unit 'MiB'"),
    (units.size_bytes, "10ms", "unknown size unit 'ms'"),
    (units.rate_bps, "100MB", "unknown rate unit 'MB'"),
    (units.rate_bps, "100mbit", "unknown rate unit 'mbit'"),
    (units.duration_ns, "10 days", "unknown duration unit 'days'"),
    (units.duration_ns, "1e300s", "too large"),
]


@pytest.mark.parametrize(("read", "text", "expected"), READ)
def test_reads(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(("read", "text", "reason"), REFUSED)
def test_refuses_and_says_why(read, text, reason):
    with pytest.raises(ValueError, match=reason):
        read(text)


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (units.duration_text, 0, "0ms"),
        (units.duration_text, 10_000_000, "10ms"),
        (units.duration_text, 90 * units.NS_PER_S, "1.5min"),
        (units.duration_text, 1, "1ns"),
        (units.size_text, 500_000, "500kB"),
        (units.size_text, 10_000_000, "10MB"),
        (units.rate_text, 100_000_000, "100Mbit"),
    ],
)
def test_writes_the_largest_unit_that_shows_the_value(write, value, expected):
    assert write(value) == expected


@given(st.integers(0, 2**50))
def test_what_is_written_is_read_back_exactly(value):
    assert units.duration_ns(units.duration_text(value)) == value
    assert units.size_bytes(units.size_text(value)) == value
    assert units.rate_bps(units.rate_text(value)) == value
