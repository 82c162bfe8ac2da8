"""A ranking over many series: of files, folders and generated traffic together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.forecaster.data.arrivals import REFERENCE_BPS
from testbed.forecaster.evaluation import fitted_rivals, many, ranking_text, series, text
from testbed.forecaster.evaluation.config import EvaluateConfig
from testbed.forecaster.evaluation.ranking import _critical_difference, _letters, over_many
from testbed.forecaster.runtime.artefact import load_model


def csv(path: Path, samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrived = rng.poisson(20, samples) * 500 + 150_000 * (rng.random(samples) < 0.02)
    rows = "\n".join(f"{index * 0.01:.2f},{value}" for index, value in enumerate(arrived))
    path.write_text("time_s,bytes\n" + rows + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of six traces, one of which is too short, in two levels, and a file that is no trace."""
    (tmp_path / "traces" / "deep").mkdir(parents=True)
    for seed in range(5):
        csv(tmp_path / "traces" / f"{seed}.csv", 300 + seed, seed)
    csv(tmp_path / "traces" / "deep" / "short.csv", 40, 9)
    (tmp_path / "traces" / "README.md").write_text("about them")
    return tmp_path / "traces"


def test_the_critical_difference_is_that_of_the_example_in_the_paper() -> None:
    """Demšar 2006, section 3.2.3: four classifiers, 14 data sets, 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25."""
    assert _critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_groups_are_the_largest_within_the_critical_difference() -> None:
    assert _letters([1.0, 1.5, 2.2, 4.0], 1.0) == ["a", "ab", "b", "c"]
    assert _letters([1.0, 1.5, 1.8], 1.0) == ["a", "a", "a"]
    assert _letters([1.0, 3.0], 1.0) == ["a", "b"]


def test_few_series_have_no_critical_difference_and_ties_no_test() -> None:
    own = np.ones(5)
    assert over_many({"own": own, "a": own, "b": own}, "own")["critical_difference"] is None
    tied = over_many({name: np.ones(20) for name in ("own", "a", "b")}, "own")
    assert tied["friedman_p"] is None
    assert [row["group"] for row in tied["ranking"]] == ["a", "a", "a"]


def test_a_folder_is_one_set_and_what_cannot_be_judged_is_counted(folder: Path) -> None:
    notes: list[str] = []
    ((name, found, left_out),) = series.trace_sets(EvaluateConfig(traces=(folder,)), notes.append)
    assert (name, len(found), left_out) == ("traces", 5, 1)
    assert len(notes) == 1
    assert notes[0].startswith("traces: 1 of 7 files are left out, the first one README.md")
    with pytest.raises(InputError, match=r"README\.md"):
        series.trace_sets(EvaluateConfig(traces=(folder / "README.md",)))


def test_a_folder_without_a_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of its 0 files"):
        series.trace_sets(EvaluateConfig(traces=(tmp_path,)))


def test_series_are_cut_to_a_few_lengths_before_their_rate_is_chosen(folder: Path) -> None:
    ((_, found, _),) = series.trace_sets(EvaluateConfig(traces=(folder,), cut=True))
    assert {len(one.arrived_bytes) for one in found} == {2500}
    for one in found:
        assert one.arrived_bytes.mean() * 8000 == pytest.approx(0.6 * REFERENCE_BPS)


def test_every_series_counts_once_and_the_tables_name_every_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitted_rivals, "BUDGET", 1)
    monkeypatch.setattr(series, "_GENERATED_SERIES", 3)
    monkeypatch.setattr(series, "_GENERATED_SAMPLES", 200)
    document = many.rank(EvaluateConfig(traces=(folder,), generated=True))
    assert [one["series"] for one in document["sets"]] == [5, 3, 3]
    over = document["over_horizons"]
    assert over["series"] == 11
    assert sum(row["mean_rank"] for row in over["ranking"]) == pytest.approx(
        len(over["ranking"]) * (len(over["ranking"]) + 1) / 2
    )
    tables = ranking_text.as_markdown(document)
    assert "traces (5)" in tables
    assert "1 of 6 series are left out" in tables
    assert "--ranking" in tables
    card = tmp_path / "MODEL.md"
    card.write_text(f"# Card\n\n{load_model().sha256}\n\n## Limits\n\nnone\n")
    for _ in range(2):
        text.write_part(card, "ranking", "Ranking", document["model_sha256"], tables)
    assert card.read_text().count("<!-- ranking: begin -->") == 1
    assert card.read_text().endswith("## Limits\n\nnone\n")
