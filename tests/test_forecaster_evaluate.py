"""`evaluate`: other people's traces get a clear error or a correct result, and the figures mean what they say."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import InputError, MachineError
from testbed.forecaster.evaluation import evaluate as evaluation
from testbed.forecaster.evaluation import fitted_rivals
from testbed.forecaster.evaluation import series as evaluation_series
from testbed.forecaster.evaluation import text as evaluation_text
from testbed.forecaster.evaluation.evaluate import EvaluateConfig, evaluate
from testbed.forecaster.runtime.artefact import load_model


@pytest.fixture(autouse=True)
def _short_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MAX_LOOP_STEPS", 0)
    monkeypatch.setattr(evaluation, "MAX_LOOP_ROWS", 2)
    monkeypatch.setattr(fitted_rivals, "BUDGET", 1)


def csv(path: Path, n_bytes: Any, bin_s: float = 0.01) -> Path:
    rows = "\n".join(f"{index * bin_s:.6f},{value}" for index, value in enumerate(n_bytes))
    path.write_text("time_s,bytes\n" + rows + "\n")
    return path


def bursty(count: int = 700, seed: int = 1) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    arrived = rng.poisson(20, count) * 500
    arrived[::70] += 150_000
    arrived[35::70] += 150_000
    return arrived


def judged(*paths: Path, **setting: Any) -> dict[str, Any]:
    document = evaluate(EvaluateConfig(traces=paths, **setting))
    json.dumps(document, allow_nan=False)  # no NaN, no infinity anywhere
    return document


def hosts(path: Path, rows: Any) -> Path:
    np.savez(path, bytes_per_ms=np.concatenate(rows).astype(np.int64), seg_len=np.array([len(row) for row in rows]))
    return path


# --------------------------------------------------------------------------------------------- what cannot be judged


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "its first line is nothing"),
        ("time_s,bytes\n", "no rows"),
        ("time_s,bytes\n0,5\n0.01,x\n", "not two numbers"),
        ("time_s,bytes\n0,5\n0.01,nan\n0.02,5\n", "not a finite number"),
        ("time_s,bytes\n0,5\n0.02,5\n0.01,5\n", "goes back"),
        ("time_s,bytes\n0,0\n0.01,0\n0.02,0\n", "no bytes"),
        ("time_s,bytes\n0,-1\n0.01,1\n0.02,1\n", "negative"),
        ("time_s,bytes\n0,1000\n", "too short"),
        ("time_s,bytes\n0,1e300\n0.01,1e300\n0.02,1e300\n", "carries"),
        ("time_s,bytes\n0,10\n1,10\n2,10\n3,10\n", "longer than a sample interval"),
        ("time_s,bytes\n0,10\n900000000,10\n", "spans"),
    ],
)
def test_a_trace_that_cannot_be_judged_is_refused_by_name(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=expected) as caught:
        judged(path)
    assert "odd.csv" in str(caught.value)


def test_a_missing_file_and_a_kind_nobody_knows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv"):
        judged(tmp_path / "absent.csv")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match="unknown kind"):
        judged(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"bytes_per_ms": np.ones(5, np.int64), "seg_len": np.array([4])}, "does not add up"),
        ({"bytes_per_ms": np.full(5, np.nan), "seg_len": np.array([5])}, "not integers"),
        ({"bytes_per_ms": np.array([], np.int64), "seg_len": np.array([], np.int64)}, "does not add up"),
        ({"bytes_per_ms": np.full(2000, -1), "seg_len": np.array([2000])}, "negative"),
        ({"bytes_per_ms": np.full(2000, 2**60), "seg_len": np.array([2000])}, "larger than"),
        ({"bytes_per_ms": np.zeros(2000, np.int64), "seg_len": np.array([2000])}, "no bytes"),
        ({"bytes_per_ms": np.ones(2000, np.int64)}, "seg_len"),
        ({"bytes_per_bin": np.ones(9), "bin_s": np.array(-1.0)}, "bin_s"),
        ({"something": np.ones(9)}, "no bytes_per_bin"),
    ],
)
def test_odd_archives_are_refused(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(InputError, match=expected):
        judged(tmp_path / "odd.npz")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = hosts(tmp_path / "cut.npz", [bursty()])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cut\.npz"):
        judged(path)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"stretch": 0.0}, "--stretch"),
        ({"stretch": math.nan}, "--stretch"),
        ({"rate_bps": 0}, "--rate"),
        ({"interval_ms": 0}, "--interval"),
        ({"actuation_ms": 101}, "--actuation"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, setting: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        judged(csv(tmp_path / "t.csv", bursty()), **setting)


# ----------------------------------------------------------------------------------------------- odd but to be judged


def test_constant_traffic_gives_absent_figures_and_no_burst(tmp_path: Path) -> None:
    one = judged(csv(tmp_path / "flat.csv", [1000] * 400))["sets"][0]
    assert one["series"][0]["bursts"] == 0
    assert one["series"][0]["load_ratio"] == pytest.approx(0.6, abs=0.01)
    for row in one["forecast"]:
        assert row["pinball"]["last value"] == 0
        assert row["skill_over"]["last value"]["skill"] is None
        assert row["onset"]["auc"]["LSTM"] is None
        assert row["onset"]["pr_auc"]["LSTM"] is None
    assert all(row is None for row in one["alarms"]["by"].values())
    assert any("no burst" in note for note in one["notes"])
    assert one["closed_loop"]["equal_memory"][0]["lstm_over_best_rival"] is None
    assert "nan" not in evaluation_text.as_markdown({**judged(tmp_path / "flat.csv")}).lower()


def test_a_rate_below_the_load_is_judged_and_said(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", bursty(400))
    one = judged(path, rate_bps=1_000_000)["sets"][0]
    assert one["series"][0]["load_ratio"] > 1
    assert any("more than the rate serves" in note for note in one["notes"])


def test_the_unit_of_bytes_does_not_matter(tmp_path: Path) -> None:
    """Only ratios to the rate count: a thousand times the bytes give the same figures."""
    small, large = (judged(csv(tmp_path / f"{k}.csv", bursty(500) * k))["sets"][0] for k in (1, 1000))
    for a, b in zip(small["forecast"], large["forecast"], strict=True):
        assert a["pinball"]["LSTM"] == pytest.approx(b["pinball"]["LSTM"], rel=0.01)


def test_stretched_bins_are_the_trace_of_longer_bins(tmp_path: Path) -> None:
    arrived = bursty(500)
    slow = judged(csv(tmp_path / "slow.csv", arrived, 0.01))["sets"][0]
    fast = judged(csv(tmp_path / "fast.csv", arrived, 0.002), stretch=5)["sets"][0]
    assert fast["forecast"][2]["pinball"]["LSTM"] == pytest.approx(slow["forecast"][2]["pinball"]["LSTM"], rel=1e-3)


def test_a_burst_file_keeps_its_bytes_and_leaves_at_line_rate(tmp_path: Path) -> None:
    from testbed.forecaster.data.arrivals import read_series

    path = tmp_path / "frames.csv"
    path.write_text("time_s,bytes\n0,1000000\n0.05,300\n0.3,1000000\n")
    (series,) = read_series(path, 1.0, 10)
    assert series.arrived_bytes.sum() == pytest.approx(2_000_300)
    assert series.arrived_bytes.max() <= 125_000 + 1


def test_segments_are_series_and_short_or_silent_ones_are_left_out(tmp_path: Path) -> None:
    rows = [np.repeat(bursty(300, 1) // 10, 10), np.zeros(3000), bursty(50, 2), np.repeat(bursty(300, 3) // 10, 10)]
    path = hosts(tmp_path / "hosts.npz", rows)
    groups = np.load(path)
    np.savez(path, **groups, seg_rack=np.arange(4))
    one = judged(path)["sets"][0]
    assert [row["name"] for row in one["series"]] == ["hosts.npz[0]", "hosts.npz[3]"]
    assert any("2 of 4 series are left out" in note for note in one["notes"])


def test_no_window_crosses_the_border_of_a_segment(tmp_path: Path) -> None:
    """A segment is judged the same whatever lies before and after it."""
    rows = [np.repeat(bursty(300, seed) // 10, 10) for seed in (1, 2, 3)]
    whole = judged(hosts(tmp_path / "all.npz", rows))["sets"][0]["series"]
    alone = judged(hosts(tmp_path / "one.npz", rows[1:2]))["sets"][0]["series"]
    assert whole[1]["skill_over_last_value"] == pytest.approx(alone[0]["skill_over_last_value"])


def test_a_sum_is_one_series_of_what_all_cover(tmp_path: Path) -> None:
    paths = (csv(tmp_path / "a.csv", bursty(600, 1)), csv(tmp_path / "b.csv", bursty(400, 2)))
    (one,) = judged(*paths, add_up=True)["sets"]
    (series,) = one["series"]
    assert series["name"] == "sum of 2 series"
    mean = (bursty(600, 1)[:400] + bursty(400, 2)).mean() * 800
    assert series["rate_bps"] == pytest.approx(mean / 0.6)


def test_sums_are_of_hosts_that_training_did_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file in the model's manifest only the held-out hosts and times are used, of any other file all."""
    path = hosts(tmp_path / "h.npz", [np.full(1000, 1 + host) for host in range(20)])
    summed = evaluation_series.host_sums
    seen: list[tuple[int, ...]] = []

    def watched(part: np.ndarray[Any, Any], *rest: Any) -> Any:
        seen.append(part.shape)
        return summed(part, *rest)

    monkeypatch.setattr(evaluation_series, "host_sums", watched)
    model = load_model()
    evaluation_series.sum_sets(EvaluateConfig(sums=(path,)), model)
    training = {"data_sha256": {"h.npz": hashlib.sha256(path.read_bytes()).hexdigest()}}
    known = dataclasses.replace(model, manifest={"training": training})
    ((name, series, _),) = evaluation_series.sum_sets(EvaluateConfig(sums=(path,)), known)
    assert seen == [(20, 1000), (5, 250)]
    assert "held-out" in name
    assert len(series) == 24
    assert all(len(one.arrived_bytes) == 2500 for one in series)


# ------------------------------------------------------------------------------------------------ figures, command line


def test_a_forecast_of_generated_traffic_beats_its_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_series, "_GENERATED_SERIES", 10)
    monkeypatch.setattr(evaluation_series, "_GENERATED_SAMPLES", 800)
    announced, unannounced = evaluate(EvaluateConfig())["sets"]
    for row in announced["forecast"]:
        assert row["skill_over"]["last value"]["skill"] > 0.15
        assert row["skill_over"]["Holt"]["skill"] > 0
    assert announced["forecast"][2]["onset"]["auc"]["LSTM"] >= 0.7
    assert announced["forecast"][2]["onset"]["auc_of_who_sees_precursors"] > 0.6
    assert unannounced["forecast"][2]["onset"]["auc_of_who_sees_precursors"] is None


def test_without_scikit_learn_it_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.forecaster.evaluation.config.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="scikit-learn is not installed"):
        judged(tmp_path / "no.csv")


def test_the_verb_speaks_json_and_its_errors_are_short(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", bursty(300))
    done = _verb("--trace", str(path), "--rate", "20Mbit", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rate"] == "20000000 bit/s"
    for arguments, expected in (
        (("--trace", str(tmp_path / "no.csv")), "no.csv"),
        (("--trace", str(path), "--rate", "fast"), "--rate fast"),
        (("--trace", str(path), "--model", str(tmp_path)), "default"),
    ):
        refused = _verb(*arguments)
        assert refused.returncode == 2
        assert expected in refused.stderr
        assert "Traceback" not in refused.stderr


def _verb(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})


def test_the_tables_go_into_the_card_of_the_same_model_once(tmp_path: Path) -> None:
    document = judged(csv(tmp_path / "t.csv", bursty(300)))
    card = tmp_path / "MODEL.md"
    card.write_text(f"# Card\n\n`{document['model_sha256']}`\n\n## Limits\n\nsome\n")
    evaluation_text.write_section(card, document)
    first = card.read_text()
    evaluation_text.write_section(card, document)
    assert card.read_text() == first
    assert first.index("### Against rivals") < first.index("## Limits")
    card.write_text("# Card of another\n\n## Limits\n")
    with pytest.raises(InputError, match="another model"):
        evaluation_text.write_section(card, document)
