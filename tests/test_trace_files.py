"""What a trace file holds is told by its content; packed and damaged ones are told apart from whole ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.forecaster.data.arrivals import read_series
from testbed.forecaster.data.traces import load_host_trace
from testbed.traffic import trace_file, traces
from tests.capture_files import START_US, enhanced, interface, packets, pcap, section

CSV = b"time_s,bytes\n" + b"".join(b"%.2f,1000\n" % (k / 100) for k in range(200))
PCAP = pcap(packets([START_US + k * 10_000 for k in range(200)], 100))
PCAPNG = section("<", interface(), *(enhanced(START_US + k * 10_000, 100) for k in range(200)))


def npz(**arrays) -> bytes:
    """Return an archive of arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


BINS = npz(bytes_per_bin=np.full(200, 1000), bin_s=0.01)
HOSTS = npz(bytes_per_ms=np.full(2000, 1000), seg_len=np.array([2000]))
KINDS = {"csv": CSV, "npz": BINS, "pcap": PCAP, "pcapng": PCAPNG}


def refusal(path: Path) -> str:
    """Return what a trace is refused with."""
    with pytest.raises(InputError) as caught:
        traces.load(path)
    return str(caught.value).removeprefix(f"reading the trace {path}: ")


# ---------------------------------------------------------------------------------------------------------- by content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x.csv", "x.npz", "x.pcap", "x.pcap.gz", "x.gz", "x.trace", "x"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_file_is_what_its_content_says_whatever_its_name(tmp_path, kind, name, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(KINDS[kind]) if packed else KINDS[kind])
    trace, plain = traces.load(path), traces.parse(KINDS[kind], "x")
    assert np.array_equal(trace.t_s, plain.t_s)
    assert np.array_equal(trace.n_bytes, plain.n_bytes)
    assert trace.bin_s == plain.bin_s


def test_hosts_may_be_packed_and_are_the_same_hosts(tmp_path):
    (tmp_path / "plain.npz").write_bytes(HOSTS)
    (tmp_path / "packed").write_bytes(gzip.compress(HOSTS))
    plain, packed = (load_host_trace(tmp_path / name) for name in ("plain.npz", "packed"))
    assert packed.sha256 == plain.sha256
    assert read_series(tmp_path / "packed", 1.0, 10)[0].mean_bps == 8e6


def test_several_members_are_one_file(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(CSV[:100]) + gzip.compress(b"") + gzip.compress(CSV[100:]) + bytes(512))
    assert len(traces.load(path).t_s) == 200


# --------------------------------------------------------------------------------------------------------- damaged gzip


def _flipped(content: bytes, at: int) -> bytes:
    damaged = bytearray(content)
    damaged[at] ^= 0x40
    return bytes(damaged)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gzip_whose_check_sum_or_length_is_wrong_is_refused(tmp_path, kind):
    whole = gzip.compress(KINDS[kind])
    for at in (-8, -1):
        (tmp_path / "x").write_bytes(_flipped(whole, at))
        assert refusal(tmp_path / "x").startswith("its gzip is damaged (incorrect ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [2, 9, 12, -8, -4, -1])
def test_a_gzip_that_is_cut_off_is_refused(tmp_path, kind, left):
    (tmp_path / "x").write_bytes(gzip.compress(KINDS[kind])[:left])
    assert "its gzip is damaged (it is cut off)" in refusal(tmp_path / "x")


def test_a_second_member_counts_as_much_as_the_first(tmp_path):
    first, second = gzip.compress(PCAP[:1000]), gzip.compress(PCAP[1000:])
    (tmp_path / "x").write_bytes(first + second[:-1])
    assert "it is cut off" in refusal(tmp_path / "x")
    (tmp_path / "x").write_bytes(first + _flipped(second, -8))
    assert "incorrect data check" in refusal(tmp_path / "x")


def test_other_data_behind_a_gzip_are_damage(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(CSV) + b"0.5,1\n")
    assert "its gzip is damaged (other data follow it)" in refusal(tmp_path / "x")


def test_a_gzip_of_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_file, "MAX_FILE_BYTES", 10**6)
    (tmp_path / "x").write_bytes(gzip.compress(bytes(10**7)))
    assert refusal(tmp_path / "x") == "it unpacks to more than 1,000,000 bytes; shorten it"


def test_members_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_file, "_MAX_MEMBERS", 3)
    (tmp_path / "x").write_bytes(gzip.compress(b"") * 4)
    assert "its gzip has more than 3 members" in refusal(tmp_path / "x")


# ---------------------------------------------------------------------------------------------------- other formats


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lzma.compress(PCAP), "it is compressed with xz; decompress it with `unxz`"),
        (bz2.compress(PCAP), "it is compressed with bzip2; decompress it with `bunzip2`"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "it is compressed with zstd; decompress it with `unzstd`"),
        (b"snoop\0\0\0" + bytes(9), "it is a snoop file of Solaris; convert it: `editcap -F pcap IN OUT`"),
        (b"GMBU" + bytes(9), "it is a Network Monitor file; convert it"),
        (b"PK\x03\x04" + bytes(60), "it cannot be read (it is not an archive of arrays, or not a complete one)"),
    ],
)
def test_formats_that_are_not_read_are_named_with_what_helps(tmp_path, content, words):
    (tmp_path / "x.pcap").write_bytes(content)
    assert words in refusal(tmp_path / "x.pcap")


@pytest.mark.parametrize(
    ("name", "own", "foreign"),
    [
        ("x.pcap", "unlike a pcap or pcapng file; check it with `capinfos`", ("time_s", "npz")),
        ("x.pcapng.gz", "unlike a pcap or pcapng file; check it with `capinfos`", ("time_s", "npz")),
        ("x.npz", "unlike an .npz file; an .npz trace holds bytes_per_bin", ("time_s", "capinfos", "editcap")),
        ("x.csv", "its first line is 'garbage'; a CSV trace begins with 'time_s,bytes'", ("capinfos", "npz")),
        ("x.csv.gz", "its first line is 'garbage'; a CSV trace begins with 'time_s,bytes'", ("capinfos", "npz")),
    ],
)
def test_the_remedy_is_of_the_format_that_the_name_promises(tmp_path, name, own, foreign):
    (tmp_path / name).write_bytes(b"garbage\n")
    text = refusal(tmp_path / name)
    assert own in text
    assert not [word for word in foreign if word in text]


@pytest.mark.parametrize(
    ("kind", "rows", "bin_s", "words"),
    [
        ("pcap", "bins", None, "the packets of a capture are bursts; remove `rows` and `bin`, which are for CSV"),
        ("pcapng", None, 0.1, "the packets of a capture are bursts"),
        ("npz", "bursts", None, "an .npz holds bins, and says how long they are; remove `rows` and `bin`"),
        ("npz", None, 0.1, "an .npz holds bins"),
    ],
)
def test_what_is_declared_of_a_csv_is_not_taken_for_another_kind(kind, rows, bin_s, words):
    with pytest.raises(InputError, match=words):
        traces.parse(KINDS[kind], "x", rows, bin_s)


def test_frames_that_are_not_ethernet_are_said():
    notes = traces.parse(pcap(packets([START_US]), link_type=127), "x").notes
    assert notes == ("its frames are not all Ethernet (link type 127); their lengths count as recorded",)


# -------------------------------------------------------------------------------------------------------- archives


def _archive(header: bytes, body: bytes = b"", bin_s: bytes = b"") -> bytes:
    """Return an archive whose bytes_per_bin has that header."""
    file = io.BytesIO()
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("bytes_per_bin.npy", array)
        archive.writestr("bin_s.npy", bin_s or npz_member(np.array(0.01)))
    return file.getvalue()


def npz_member(array) -> bytes:
    """Return an array as a member of an archive."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _header(shape: str, kind: str = "<i8") -> bytes:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_archive(_header("(1000000000000,)")), "bytes_per_bin is damaged: it is not as long as its header says"),
        (_archive(_header("(-1, -8)"), bytes(64)), "it is not as long as its header says"),
        (_archive(_header("(4,)"), bytes(31)), "it is not as long as its header says"),
        (_archive(_header("(1,)", "|O"), bytes(8)), "bytes_per_bin contains no plain numbers (object)"),
        (_archive(_header("(2,)", "<c16"), bytes(32)), "contains no plain numbers (complex128)"),
        (_archive(b"(" * 5000), "its header cannot be read"),
        (_archive(b"{'descr': '<i8'}\n"), "its header cannot be read"),
        (_archive(b"\xff" * 50), "its header cannot be read"),
        (_archive(b"{'descr': '<i8', 'fortran_order': 1is 1, 'shape': (1,)}\n", bytes(8)), "its header cannot be read"),
        (BINS[:-1], "it is damaged: File is not a zip file"),
        (BINS[:-22] + BINS[-22:-10] + struct.pack("<I", 1 << 30) + BINS[-6:], "it is not an archive of arrays"),
    ],
)
def test_an_archive_is_what_it_says_before_memory_is_taken(content, words):
    with pytest.raises(InputError) as caught:  # and no warning of Python's parser, about the header
        traces.parse(content, "x.npz")
    assert words in str(caught.value)


def test_more_hosts_than_are_read_are_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(npz(bytes_per_ms=np.zeros(20_000_001, np.int8), seg_len=np.array([20_000_001])))
    with pytest.raises(InputError, match=r"it has 20,000,001 values, more than 20,000,000"):
        load_host_trace(tmp_path / "x.npz")
