"""Recorded traffic: what is read, how it is replayed, what is refused and by which row."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, wrpcap

from testbed.errors import InputError
from testbed.files import npz
from testbed.scenario.sources import TraceSpec
from testbed.traffic import csv_rows, trace_file, traces

S = 10**9
MS = 10**6


def _spec(**changes: Any) -> TraceSpec:
    return TraceSpec.model_validate({"name": "r", "from": "c1", "trace": "x.csv", **changes})


def _csv(folder: Path, *rows: str, header: str = "time_s,bytes") -> Path:
    path = folder / "x.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def _frames(*times_s: float, size: int = 1000) -> list[Any]:
    frames = [Ether(src="02::1", dst="02::2") / IP(dst="10.0.0.1") / UDP() / Raw(bytes(size - 42)) for _ in times_s]
    for frame, when in zip(frames, times_s, strict=True):
        frame.time = when
    return frames


def test_equal_distances_are_bins_and_bytes_pass_evenly(tmp_path: Path) -> None:
    trace = traces.load(_csv(tmp_path, "5.0,10000", "5.1,0", "5.2,5000"))
    assert trace.bin_s == pytest.approx(0.1)
    t_ns = traces.replay(_spec(), trace, S, 1).t_ns
    assert t_ns[:10] == pytest.approx(np.arange(1, 11) * 10 * MS, abs=2)
    assert t_ns[10:] == pytest.approx(200 * MS + np.arange(1, 6) * 20 * MS, abs=2)


def test_unequal_distances_are_bursts_sent_one_packet_behind_the_other(tmp_path: Path) -> None:
    trace = traces.load(_csv(tmp_path, "0,3000", "0.1,2000", "0.5,1000"))
    assert trace.bin_s == 0.0
    t_ns = traces.replay(_spec(), trace, S, 1).t_ns
    assert t_ns.tolist() == [0, 8000, 16_000, 100 * MS, 100 * MS + 8000, 500 * MS]


def test_a_burst_waits_for_the_one_before_it(tmp_path: Path) -> None:
    t_ns = traces.replay(_spec(), traces.load(_csv(tmp_path, "0,3000", "0.000001,1000", "1,1")), S, 1).t_ns
    assert t_ns.tolist() == [0, 8000, 16_000, 24_000]


def test_stretch_and_scale_multiply_times_and_bytes(tmp_path: Path) -> None:
    trace = traces.load(_csv(tmp_path, "0,1000", "0.1,1000", "0.5,1000"))
    t_ns = traces.replay(_spec(stretch=2.0, rate_scale=3.0), trace, 10 * S, 1).t_ns
    assert t_ns.tolist() == [base + k * 8000 for base in (0, 200 * MS, S) for k in range(3)]


def test_a_trace_longer_than_the_run_is_cut(tmp_path: Path) -> None:
    assert len(traces.replay(_spec(), traces.load(_csv(tmp_path, "0,2000", "1,1000", "9,9000")), S, 1).t_ns) == 2


def test_spaces_line_ends_and_a_byte_order_mark_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbftime_s, bytes\r\n0, 1e3\r\n0.5, 2000\r\n\r\n")
    assert traces.load(path).n_bytes.tolist() == [1000, 2000]


def test_npz_holds_bins(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, bytes_per_bin=np.array([1000, 0, 3000], np.uint32), bin_s=0.001)
    trace = traces.load(path)
    assert (trace.bin_s, trace.n_bytes.tolist()) == (0.001, [1000, 0, 3000])


def test_one_long_bin_is_a_bin(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, bytes_per_bin=[4000.0], bin_s=[1.0])
    assert traces.replay(_spec(), traces.load(path), 2 * S, 1).t_ns.tolist() == [S // 4, S // 2, 3 * S // 4, S]


@pytest.mark.parametrize("ending", ["pcap", "nano.pcap", "pcapng"])
def test_captured_packets_are_replayed_when_they_were(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    frames = _frames(1e9 + 0.25, 1e9 + 0.5, 1e9 + 0.75)
    if ending == "pcapng":
        with PcapNgWriter(str(path)) as writer:
            writer.write(frames)
    else:
        wrpcap(str(path), frames, nano=ending.startswith("nano"))
    assert traces.replay(_spec(), traces.load(path), S, 1).t_ns.tolist() == [0, S // 4, S // 2]


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 20_000)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.5]),
    st.integers(74, 1514),
)
def test_bytes_are_kept_within_a_packet_and_time_ascends(rows: list[tuple[int, int]], bin_s: float, size: int) -> None:
    n_bytes = np.array([length for _, length in rows], np.float64)
    gaps = np.array([gap for gap, _ in rows]) / 1e6
    t_s = np.arange(len(rows)) * bin_s if bin_s else np.cumsum(gaps)
    packets = traces.replay(_spec(packet=f"{size}B"), traces.Trace(t_s, n_bytes + 1, bin_s), 100 * S, 1)
    assert len(packets.t_ns) == int((n_bytes + 1).sum()) // size
    assert np.all(np.diff(packets.t_ns) >= (0 if bin_s else size * 8))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0,1", "x,2"], r"x\.csv: row 2: 'x,2' is not two numbers"),
        (["0,1", "1"], "row 2: '1' is not two numbers"),
        (["0,1,2", "1,2,3"], "row 1: '0,1,2' is not two numbers"),
        (["0,1", "", "2,1"], "row 2: '' is not two numbers"),
        (["0,1", "1,nan"], "row 2: the number of bytes is not a finite number"),
        (["0,1", "inf,2"], "row 2: the time is not a finite number"),
        (["0,1", "1,2", "2,-5"], "row 3: the number of bytes is negative"),
        (["0,1", "2,2", "1,5"], "row 3: the time goes back"),
        (["0,0", "1,0"], "it contains no bytes"),
        (["0,1", "1e12,5"], "it spans 1e[+]12 s"),
        ([], "it has no rows"),
    ],
)
def test_a_bad_row_is_refused_by_its_number(rows: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        traces.load(_csv(tmp_path, *rows))


def test_a_csv_without_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its first line is '0,1'; a CSV trace begins with 'time_s,bytes'"):
        traces.load(_csv(tmp_path, "1,2", header="0,1"))


@pytest.mark.parametrize("name", ["x.csv", "x.npz", "x.pcap", "x.pcapng"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage that is no trace of any kind at all \x80"])
def test_garbage_is_refused_by_file(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"reading the trace .*{name}"):
        traces.load(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"bytes_per_ms": [1]}, "it has no bin_s and no bytes_per_bin"),
        ({"bytes_per_bin": [[1, 2]], "bin_s": 1}, r"bytes_per_bin has shape \(1, 2\)"),
        ({"bytes_per_bin": [1, 2], "bin_s": 0}, "bin_s is 0"),
        ({"bytes_per_bin": [1, 2], "bin_s": float("nan")}, "bin_s is nan"),
        ({"bytes_per_bin": ["a"], "bin_s": 1}, "it cannot be read"),
        ({"bytes_per_bin": [], "bin_s": 1}, "it has no rows"),
        ({"bytes_per_bin": [1, -1], "bin_s": 1}, "row 2: the number of bytes is negative"),
        ({"bytes_per_bin": np.array([{}], object), "bin_s": 1}, "it cannot be read"),
        ({"bytes_per_bin": [1 + 2j], "bin_s": 1}, "it cannot be read"),
    ],
)
def test_a_bad_npz_is_refused(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=words):
        traces.load(path)


@pytest.mark.parametrize("ending", ["pcap", "pcapng"])
@pytest.mark.parametrize("cut", [1, 20, 990, 1010])
def test_a_capture_that_is_cut_off_is_refused(ending: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    if ending == "pcapng":
        with PcapNgWriter(str(path)) as writer:
            writer.write(_frames(1.0, 2.0, 3.0))
    else:
        wrpcap(str(path), _frames(1.0, 2.0, 3.0))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"packet 3 cannot be read .the file is cut off"):
        traces.load(path)


def test_a_capture_that_goes_back_in_time_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    wrpcap(str(path), _frames(1.0, 3.0, 2.0))
    with pytest.raises(InputError, match="packet 3: the time goes back"):
        traces.load(path)


def test_an_unknown_kind_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"hello there")
    with pytest.raises(InputError, match=r"unknown kind \.txt: it begins with b'hello th'; known are \.csv, \.npz"):
        traces.load(tmp_path / "x.txt")
    with pytest.raises(InputError, match="there is no such file"):
        traces.load(tmp_path / "x.csv")
    (tmp_path / "y.csv").mkdir()
    with pytest.raises(InputError, match="it is a directory"):
        traces.load(tmp_path / "y.csv")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(InputError, match="it is a named pipe, not a file"):
        traces.load(tmp_path / "x.csv")


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    sparse = tmp_path / "x.csv"
    with sparse.open("wb") as file:
        file.truncate(trace_file.MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match="it is larger than 256,000,000 bytes"):
        traces.load(sparse)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, bytes_per_bin=np.zeros(100_000), bin_s=1)
    monkeypatch.setattr(npz, "MAX_UNPACKED_BYTES", 50_000)
    assert path.stat().st_size < 50_000
    with pytest.raises(InputError, match=r"it unpacks to 8.* bytes"):
        traces.load(path)


def test_too_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROWS", 2)
    with pytest.raises(InputError, match="more than 2 rows"):
        traces.load(_csv(tmp_path, "0,1", "1,1", "2,1"))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, bytes_per_bin=np.arange(100), bin_s=1)
    with zipfile.ZipFile(path) as archive:
        offset = archive.infolist()[0].header_offset
    damaged = bytearray(path.read_bytes())
    struct.pack_into("<I", damaged, offset + 200, 0xDEADBEEF)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="it cannot be read"):
        traces.load(path)


def test_more_packets_than_a_plan_holds_are_refused(tmp_path: Path) -> None:
    trace = traces.load(_csv(tmp_path, "0,1e9", "1,1e9"))
    with pytest.raises(InputError, match="about 2,000,000,000 packets"):
        traces.replay(_spec(rate_scale=1000.0), trace, S, 1)


def test_bins_that_end_before_the_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time_s,bytes\n0.0,9000\n0.1,9000\n0.2,9000\n", encoding="utf-8")
    spec = TraceSpec.model_validate({"name": "t", "from": "c1", "trace": "t.csv"})
    files = traces.TraceFiles(tmp_path)
    assert files.for_run(spec, 300_000_000).bin_s == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"it ends after 0\.3 s, the run after 0\.31"):
        files.for_run(spec, 310_000_000)
    stretched = spec.model_copy(update={"stretch": 2.0})
    assert len(files.for_run(stretched, 310_000_000).t_s) == 3


def test_bursts_may_be_followed_by_silence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time_s,bytes\n0.0,9000\n0.1,9000\n", encoding="utf-8")
    spec = TraceSpec.model_validate({"name": "t", "from": "c1", "trace": "t.csv"})
    assert traces.TraceFiles(tmp_path).for_run(spec, 10**10).bin_s == 0.0
