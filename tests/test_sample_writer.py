"""``samples.parquet`` while it grows: readable at any time, a few row groups in memory, equal bytes for equal rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.errors import ToolError
from testbed.files import row_groups
from testbed.files.reading import Source
from testbed.records.samples import COLUMNS, SCHEMA, in_order, table_of
from testbed.results import sample_file, sample_writer
from testbed.results.sample_writer import SampleWriter
from tests.sample_rows import columns

GROUP = 16


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_writer, "ROW_GROUP_ROWS", GROUP)


def row(t_ns: int) -> dict[str, Any]:
    values: dict[str, Any] = {name: t_ns * 7 % 1000 for name in COLUMNS if name not in ("loop_ns", "look_ns")}
    return values | {"t_ns": t_ns, "node": f"n{t_ns % 3}", "severity_ratio": t_ns / 7}


def rows(times: list[int]) -> list[dict[str, Any]]:
    return [row(t_ns) for t_ns in times]


def nearly_in_order(count: int) -> list[int]:
    draws = random.Random(1)
    return sorted(range(1, count + 1), key=lambda t_ns: t_ns + 3 * draws.random())


def written(path: Path, times: list[int], at_once: int) -> bytes:
    writer = SampleWriter(path, "")
    for first in range(0, len(times), at_once):
        some = rows(times[first : first + at_once])
        writer.append_columns(columns(some))
        writer.write()
    writer.settle()
    return path.read_bytes()


def test_the_file_is_whole_and_readable_at_any_time(tmp_path: Path) -> None:
    writer, path, taken = SampleWriter(tmp_path / "samples.parquet", ""), tmp_path / "samples.parquet", []
    writer.write()
    assert pq.read_table(path).schema.equals(SCHEMA)
    for t_ns in nearly_in_order(10 * GROUP):
        writer.append_columns(columns([row(t_ns)]))
        taken.append(row(t_ns))
        writer.write()
        assert in_order(pq.read_table(path)).equals(in_order(table_of(columns(taken))))
        assert writer.rows == len(taken)
        assert writer._waiting_rows <= 2 * GROUP
    assert len(writer._sealed) == 9
    by_node = sample_file.read_by_node(Source(path, "make it anew"))  # the pages are where the footer says
    assert sum(len(samples.t_ns) for samples in by_node.values()) == 10 * GROUP
    assert [found.name for found in tmp_path.iterdir()] == ["samples.parquet"]


@pytest.mark.parametrize("count", [0, 1, GROUP, 2 * GROUP, 5 * GROUP + 3])
def test_equal_rows_give_equal_bytes_however_they_come(tmp_path: Path, count: int) -> None:
    times = nearly_in_order(count)
    first = written(tmp_path / "a", times, 1)
    assert written(tmp_path / "b", times, 7) == first
    assert written(tmp_path / "c", times, 1000) == first
    assert written(tmp_path / "d", sorted(times), 3) == first
    file = pq.ParquetFile(tmp_path / "a")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [
        min(GROUP, count - first) for first in range(0, count, GROUP)
    ]


def test_a_row_that_comes_much_too_late_takes_its_place(tmp_path: Path) -> None:
    times = [*range(2, 6 * GROUP), 1]
    assert written(tmp_path / "a", times, 4) == written(tmp_path / "b", sorted(times), 4)


def test_rows_of_one_instant_stay_in_the_order_they_came(tmp_path: Path) -> None:
    writer = SampleWriter(tmp_path / "a", "")
    for k in range(4 * GROUP):
        writer.append_columns(columns([{**row(5), "weight": k}]))
    writer.settle()
    assert pq.read_table(tmp_path / "a").column("weight").to_pylist() == list(range(4 * GROUP))


def test_a_disk_that_takes_no_more_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, path = SampleWriter(tmp_path / "samples.parquet", ""), tmp_path / "samples.parquet"
    writer.append_columns(columns(rows(list(range(1, 20)))))
    writer.write()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sample_writer, "_write_all", full)
        with pytest.raises(ToolError, match="No space left"):
            writer.append_columns(columns(rows(list(range(20, 60)))))
    assert pq.read_table(path).num_rows == 19
    writer.settle()  # there is room again
    assert pq.read_table(path).column("t_ns").to_pylist() == list(range(1, 60))


def test_a_footer_is_written_as_it_was_read() -> None:
    table = pa.table({"a": [1, None, 3], "b": ["x", "y", None], "c": [True, False, True], "d": [0.5, 1.5, 2.5]})
    content, group = row_groups.row_group(table, 1000)
    file = row_groups.MAGIC + bytes(996) + content + row_groups.footer(table.schema, [group])
    assert pq.read_table(pa.BufferReader(file)).equals(table)
    assert pq.ParquetFile(pa.BufferReader(file)).metadata.row_group(0).column(0).total_compressed_size > 0
