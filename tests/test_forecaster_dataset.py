"""Generated and recorded traffic: seeded, meant as the scenario means it, and split without a leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testbed import units
from testbed.errors import InputError
from testbed.forecaster.data.dataset import TRAIN_STREAM, VALIDATION_STREAM, generated_datasets
from testbed.forecaster.data.generate import NodeTraffic, TrafficProfile, generate
from testbed.forecaster.data.traces import HELD_OUT, load_host_trace, notices_of, split_of, trace_datasets
from testbed.forecaster.runtime.horizons import LOOK_AHEAD

ONE_SOURCE = {"sources": (1, 1), "nodes": (1, 1), "burst_flows": (20, 20), "base_ratio": (0.3, 0.3), "load": (0.6, 0.6)}


def test_the_same_seed_gives_the_same_traffic_and_a_further_series_changes_no_other() -> None:
    few, more = (generate(TrafficProfile(), count, 2000, (7, 1)) for count in (3, 5))
    assert np.array_equal(few.arrived_bytes, more.arrived_bytes[:3])
    assert np.array_equal(few.new_flows, more.new_flows[:3])
    assert not np.array_equal(few.arrived_bytes, generate(TrafficProfile(), 3, 2000, (8, 1)).arrived_bytes)


def test_the_mean_load_is_what_the_profile_asks_for() -> None:
    profile = TrafficProfile(**ONE_SOURCE, off_ms=(1.0, 2.0), peak_ratio=(2.0, 2.0), precursor_share=0.0)
    traffic = generate(profile, 20, 60_000, (1,))
    served = traffic.rate_bps * (60_000 * units.NS_PER_MS / 8e9)
    assert (traffic.arrived_bytes.sum(axis=1) / served).mean() == pytest.approx(0.6, abs=0.05)


def before_bursts(traffic: NodeTraffic) -> np.ndarray:
    """Return the mean load, over the rate, of the 60 ms before loads above three quarters of the peak."""
    load = traffic.arrived_bytes / (traffic.rate_bps[:, None] / 8000)
    found = []
    for row in load:
        starts = np.flatnonzero((row[1:] > 3.0) & (row[:-1] <= 3.0)) + 1
        found += [row[start - 60 : start] for start in starts if start > 200 and row[start - 200 : start].max() <= 3.0]
    return np.array(found).mean(axis=0)


@pytest.mark.parametrize(("strength", "rises"), [(0.5, True), (0.0, False)])
def test_a_ramp_precedes_a_burst_only_where_it_is_asked_for(strength: float, rises: bool) -> None:
    profile = TrafficProfile(
        **ONE_SOURCE,
        rate_bps=(1e9, 1e9),
        off_ms=(1000.0, 1000.0),
        peak_ratio=(4.0, 4.0),
        lead_ms=(60.0, 60.0),
        strength=(strength, strength),
        precursor_share=1.0,
        false_ramp_share=0.0,
    )
    mean = before_bursts(generate(profile, 10, 30_000, (3,)))
    late, early = mean[-10:].mean(), mean[:10].mean()
    assert (late > early + 1.0) == rises
    if rises:  # just before the burst the ramp stands at strength x peak over the base of 0.3
        assert mean[-5:].mean() == pytest.approx(0.3 + 0.5 * 4.0, abs=0.3)


def test_training_and_validation_share_no_series() -> None:
    def rows(stream: int) -> set[bytes]:
        parts = generated_datasets(TrafficProfile(), 20, 60, 1, stream)
        return {row.tobytes() for part in parts for row in part.samples.arrived_bytes}

    assert not rows(TRAIN_STREAM) & rows(VALIDATION_STREAM)


def test_a_data_set_is_finite_and_of_one_length_and_its_digest_tells_seeds_apart() -> None:
    first, again, other = (generated_datasets(TrafficProfile(), 10, 80, seed, TRAIN_STREAM) for seed in (1, 1, 2))
    for part in first:
        assert part.inputs.shape[1] == part.growth.shape[1] == part.onset.shape[1] == part.calm.shape[1] == 80
        assert part.samples.arrived_bytes.shape[1] == 80 + LOOK_AHEAD
        assert np.isfinite(part.inputs).all()
        assert np.isfinite(part.growth).all()
        assert (part.growth >= 0).all()
    assert [p.digest() for p in first] == [p.digest() for p in again] != [p.digest() for p in other]


# ------------------------------------------------------------------------------------------------- recorded traffic


@pytest.fixture
def hosts() -> np.ndarray:
    """Return 24 hosts of 2000 ms whose every value is its own: host x 10_000 + ms."""
    return np.arange(24)[:, None] * 10_000 + np.arange(2000)


def write_trace(path: Path, hosts: np.ndarray, **changes: object) -> Path:
    arrays = {
        "bytes_per_ms": hosts.reshape(-1).astype(np.int32),
        "seg_len": np.full(len(hosts), hosts.shape[1], dtype=np.int32),
        "seg_rack": np.zeros(len(hosts), dtype=np.int32),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_neither_a_host_nor_a_moment_is_in_both_splits(hosts: np.ndarray) -> None:
    training, validation = split_of(hosts, TRAIN_STREAM), split_of(hosts, VALIDATION_STREAM)
    assert not set(training[:, 0] // 10_000) & set(validation[:, 0] // 10_000)
    assert (training % 10_000).max() < (validation % 10_000).min()
    assert len(validation) == len(hosts) // HELD_OUT


def test_a_trace_becomes_series_of_summed_hosts(tmp_path: Path, hosts: np.ndarray) -> None:
    trace = load_host_trace(write_trace(tmp_path / "t.npz", hosts))
    parts = trace_datasets(trace, 3 * 2800, 1, TRAIN_STREAM)
    assert [len(part.inputs) for part in parts] == [10, 4, 2]  # of 280, 700 and 1400 samples
    assert all(np.isnan(part.strength).all() for part in parts)


def test_hosts_of_different_racks_are_never_summed(tmp_path: Path, hosts: np.ndarray) -> None:
    racks = np.repeat([5, 9], 12)
    trace = load_host_trace(write_trace(tmp_path / "t.npz", hosts, seg_rack=racks))
    assert [group[:, 0].tolist() for group in trace.groups] == [hosts[:12, 0].tolist(), hosts[12:, 0].tolist()]


def test_windows_are_hosts_of_their_own_times_and_split_by_host_alone(tmp_path: Path, hosts: np.ndarray) -> None:
    windows = np.stack([hosts[:, :300], hosts[:, :300] + 1], axis=2)
    np.savez(tmp_path / "w.npz", windows=windows)
    trace = load_host_trace(tmp_path / "w.npz")
    assert not trace.simultaneous
    np.testing.assert_array_equal(trace.groups[0], windows[:, :, 0])
    training, validation = (split_of(hosts[:, :300], stream, False) for stream in (TRAIN_STREAM, VALIDATION_STREAM))
    assert not set(training[:, 0]) & set(validation[:, 0])
    assert training.shape[1] == validation.shape[1] == 300
    assert len(training) + len(validation) == len(hosts)
    np.savez(tmp_path / "flat.npz", windows=windows[0])
    with pytest.raises(InputError, match="windows has shape"):
        load_host_trace(tmp_path / "flat.npz")


def test_a_crowd_is_many_sources_with_short_bursts() -> None:
    plain = generate(TrafficProfile(), 4, 4000, (5,))
    crowded = generate(TrafficProfile(crowd_share=1.0), 4, 4000, (5,))

    def changes(traffic: NodeTraffic) -> float:
        return float((np.abs(np.diff(traffic.new_flows, axis=1)) > 0.5).mean())

    assert changes(crowded) > 2 * changes(plain)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seg_len": np.array([3, 4]), "seg_rack": np.array([0, 0])}, "does not add up"),
        ({"seg_len": np.array([], dtype=np.int32)}, "one length per host"),
        ({"seg_len": np.array([50_000, -2000]), "seg_rack": np.array([0, 0])}, "does not add up"),
        ({"bytes_per_ms": np.full(48_000, np.nan)}, "not integers"),
        ({"bytes_per_ms": np.full(48_000, -1)}, "negative"),
        ({"bytes_per_ms": np.zeros((2, 24_000), dtype=np.int64)}, "one-dimensional"),
    ],
)
def test_a_malformed_trace_is_refused(tmp_path: Path, hosts: np.ndarray, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_host_trace(write_trace(tmp_path / "t.npz", hosts, **changes))


def test_a_trace_that_is_no_npz_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"no archive")
    for name in ("t.npz", "absent.npz"):
        with pytest.raises(InputError, match=r"t\.npz"):
            load_host_trace(tmp_path / name)


def test_too_short_a_trace_is_refused(tmp_path: Path, hosts: np.ndarray) -> None:
    trace = load_host_trace(write_trace(tmp_path / "t.npz", hosts[:, :100]))
    with pytest.raises(InputError, match="no group"):
        trace_datasets(trace, 900, 1, TRAIN_STREAM)


def test_only_data_that_asks_for_it_brings_a_notice() -> None:
    assert "Meta Platforms" in notices_of(Path("meta_hosts.npz"))[0]
    assert not notices_of(Path("own.npz"))
