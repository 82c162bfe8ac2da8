"""Captures: every variant gives the same packets, damage is told by packet, and independent readers agree."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapReader

from testbed.errors import InputError
from testbed.traffic.capture import Capture
from testbed.traffic.capture_order import MAX_DISORDER_NS, in_order
from testbed.traffic.pcap import is_pcap, read_pcap
from testbed.traffic.pcapng import is_pcapng, read_pcapng
from tests.capture_files import (
    MICRO,
    NANO,
    PATCHED,
    START_US,
    block,
    enhanced,
    interface,
    obsolete,
    packets,
    pcap,
    section,
    simple,
)

S, US = 10**9, 1000
ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])


def read(content: bytes) -> Capture:
    """Read a capture as a trace does."""
    assert is_pcap(content) != is_pcapng(content)
    return read_pcap(content, "x") if is_pcap(content) else read_pcapng(content, "x")


def seen(content: bytes) -> list[tuple[int, int]]:
    """Return time in ns and original length of every packet."""
    found = read(content)
    return list(zip(found.t_ns.tolist(), found.n_bytes.tolist(), strict=True))


def refusal(content: bytes) -> str:
    """Return what a capture is refused with, read or put in order."""
    with pytest.raises(InputError) as caught:
        in_order(read(content), "x")
    return str(caught.value).removeprefix("reading the trace x: ")


# ---------------------------------------------------------------------------------------------------- classic pcap


@ORDERS
@pytest.mark.parametrize(
    ("magic", "header_bytes"), [(MICRO, 16), (NANO, 16), (PATCHED, 24), (PATCHED, 28), (MICRO, 24), (MICRO, 20)]
)
def test_every_classic_variant_gives_times_and_original_lengths(order, magic, header_bytes):
    rows = [(START_US, 1000, 60), (START_US + 7, 0, 0), (START_US + 10**6, 9000, 128)]
    scale = US
    if magic == NANO:
        rows, scale = [(ticks * US + 1, size, held) for ticks, size, held in rows], 1
    content = pcap(rows, order, magic, header_bytes=header_bytes)
    assert seen(content) == [(ticks * scale, size) for ticks, size, _ in rows]


@pytest.mark.parametrize("version", [(2, 2), (2, 4), (543, 0)])
def test_lengths_stand_the_other_way_round_in_old_versions(version):
    content = pcap([(START_US, 1000, 60)], version=version)
    if version == (543, 0):
        content = content[:32] + content[36:40] + content[32:36] + content[40:]
    assert seen(content) == [(START_US * US, 1000)]


def test_an_unknown_version_is_refused():
    assert refusal(pcap([], version=(3, 0))) == "pcap version 3.0 is not known; convert it: `editcap -F pcap IN OUT`"


def test_seconds_are_counted_beyond_2038():
    assert seen(pcap([((2**32 - 1) * 10**6, 80, 80)])) == [((2**32 - 1) * S, 80)]


@ORDERS
@pytest.mark.parametrize("cut", [1, 59, 60, 75])
def test_a_classic_capture_that_is_cut_off_names_the_packet(order, cut):
    content = pcap(packets([START_US, START_US + 1, START_US + 2], 60), order)[:-cut]
    assert refusal(content) == (
        "packet 3 cannot be read (the file is cut off within it); `editcap -r IN OUT 1-2` keeps the whole packets"
    )


def test_the_end_of_a_packet_is_an_end():
    content = pcap(packets([START_US, START_US + 1, START_US + 2], 60))
    assert len(seen(content[:-76])) == 2


def test_a_header_that_is_cut_off_is_told():
    assert refusal(pcap([])[:20]) == "the file is cut off within its header; check it with `capinfos`"


def test_a_length_nobody_captures_is_damage():
    content = bytearray(pcap(packets([START_US, START_US + 1], 60)))
    struct.pack_into("<I", content, 24 + 76 + 8, 0xFFFFFFF0)
    assert refusal(bytes(content)).startswith("packet 2 cannot be read (it declares 4,294,967,280 bytes)")


def test_parts_of_a_second_beyond_a_second_are_damage():
    content = bytearray(pcap(packets([START_US, START_US + 1], 60)))
    struct.pack_into("<I", content, 24 + 76 + 4, 1_000_000)
    assert "packet 2 has a fraction of a second that exceeds one second" in refusal(bytes(content))


# --------------------------------------------------------------------------------------------------------- pcapng


def test_each_section_begins_its_interfaces_and_its_clock_anew():
    micro = section("<", interface("<", 6), *(enhanced(k * 1000) for k in range(500)))
    nano = section(">", interface(">", 9), *(enhanced(k * 10**6, order=">") for k in range(500, 1000)))
    assert seen(micro + nano) == [(k * 10**6, 1000) for k in range(1000)]


def test_the_second_section_has_no_interfaces_of_the_first():
    content = section("<", interface(), enhanced(START_US)) + section("<", enhanced(START_US))
    assert refusal(content) == "packet 2 names an interface that does not exist; remove it: `editcap IN OUT 2`"


def test_an_interface_is_there_from_its_block_on():
    content = section("<", interface(), enhanced(START_US, number=1), interface())
    assert "packet 1 names an interface that does not exist" in refusal(content)


@ORDERS
@pytest.mark.parametrize(
    ("resolution", "per_second"),
    [(None, 10**6), (0, 1), (3, 10**3), (9, 10**9), (12, 10**12), (0x80, 1), (0xA0, 2**32)],
)
def test_ticks_are_powers_of_ten_or_two(order, resolution, per_second):
    times = [per_second * 3, per_second * 3 + 1, per_second * 5 // 2]
    content = section(order, interface(order, resolution), *(enhanced(t, order=order) for t in times))
    assert [t for t, _ in seen(content)] == [t * S // per_second for t in times]


def test_ticks_finer_than_64_bits_of_them_last_are_exact():
    ticks = 2**64 - 1
    content = section("<", interface("<", 19), enhanced(ticks))
    assert seen(content) == [(ticks * S // 10**19, 1000)]


@pytest.mark.parametrize("offset_s", [1_700_000_000, -5])
def test_seconds_are_added_as_the_interface_says(offset_s):
    content = section("<", interface("<", 6, offset_s), interface(), enhanced(9 * 10**6), enhanced(START_US, number=1))
    assert seen(content) == [((9 + offset_s) * S, 1000), (START_US * US, 1000)]


@ORDERS
def test_old_packet_blocks_are_read_and_other_blocks_passed_over(order):
    names, statistics, custom = (block(kind, bytes(20), order) for kind in (4, 5, 0xBAD))
    content = section(
        order, interface(order), names, obsolete(START_US, order=order), statistics, custom,
        interface(order, 9), obsolete(START_US * US, order=order, number=1),
    )  # fmt: skip
    assert seen(content) == [(START_US * US, 1000)] * 2


def test_cut_frames_count_whole_and_empty_ones_nothing():
    content = section("<", interface(snap=96), enhanced(START_US, 9000, 96), enhanced(START_US, 0))
    assert [size for _, size in seen(content)] == [9000, 0]


@pytest.mark.parametrize("cut", [1, 3, 4, 12, 500, 1031])
def test_a_pcapng_that_is_cut_off_names_the_packet(cut):
    content = section("<", interface(), *(enhanced(START_US + k) for k in range(3)))[:-cut]
    assert refusal(content).startswith("packet 3 cannot be read (the file is cut off within it)")


def _damaged(at: int, value: int) -> bytes:
    content = bytearray(section("<", interface(), enhanced(START_US, 60), enhanced(START_US, 60)))
    struct.pack_into("<I", content, len(content) - 92 + at, value)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_damaged(4, 0), "it is damaged after packet 1: a block of 0 bytes is not possible"),
        (_damaged(4, 93), "it is damaged after packet 1: a block of 93 bytes is not possible"),
        (_damaged(4, 28), "it is damaged after packet 1: a block of 28 bytes is not possible"),
        (_damaged(88, 96), "it is damaged after packet 1: a block has two different lengths"),
        (_damaged(20, 61), "packet 2 is longer than its block"),
        (_damaged(12, 2**30), "packet 2 has a time before 1970 or after 2242"),
        (_damaged(4, 0xFFFFFFF0), "packet 2 cannot be read (the file is cut off within it)"),
        (section("<", major=2), "pcapng version 2 is not known"),
        (section("<", interface("<", 6, -1), enhanced(0)), "packet 1 has a time before 1970"),
        (section("<", interface("<", 6, 2**40)), "the times of interface 0 have an offset of 1099511627776 s"),
        (section("<", block(1, struct.pack("<HHIHHHH", 1, 0, 0, 9, 2, 0, 0))), "interface 0 is damaged"),
        (section("<", block(1, struct.pack("<HHIHHI", 1, 0, 0, 9, 200, 0))), "interface 0 is damaged"),
        (section()[:8] + bytes(20), "the section header has no valid byte order"),
    ],
)
def test_damage_is_told_and_what_is_before_it_can_be_kept(content, words):
    assert words in refusal(content)


# ------------------------------------------------------------------------------------------------------ order, times


def test_packets_that_stood_behind_later_ones_are_put_in_order_and_counted():
    times = [START_US + k * 1000 - (1001 if k == 500 else 0) for k in range(1000)]
    found, notes = in_order(read(pcap(packets(times))), "x")
    assert found.t_ns.tolist() == sorted(time * US for time in times)
    assert notes == ("1 packet out of order, by at most 0.001 ms; sorted by time",)


def test_lengths_move_with_their_packets():
    rows = [(START_US, 100, 100), (START_US + 30, 300, 300), (START_US + 10, 200, 200), (START_US + 20, 250, 250)]
    found, notes = in_order(read(pcap(rows)), "x")
    assert found.n_bytes.tolist() == [100, 200, 250, 300]
    assert notes[0].startswith("2 packets out of order, by at most 0.02 ms")


def test_a_step_of_the_clock_is_no_disorder():
    step_us = MAX_DISORDER_NS // US
    assert in_order(read(pcap(packets([START_US, START_US + step_us, START_US]))), "x")[1]
    text = refusal(pcap(packets([START_US, START_US + step_us + 1, START_US])))
    assert text == (
        "packet 3: the time goes back, to 0.500001 s before packet 2; "
        "sort it with `reordercap IN OUT`, or cut it there with `editcap`"
    )


def test_a_packet_without_a_time_is_named_with_what_takes_it_out():
    text = refusal(pcap(packets([0, *(START_US + k * 1000 for k in range(1000))])))
    assert text == "packet 1 has no time; remove packets without a time: `editcap IN OUT 1`"


def test_many_packets_without_a_time_are_taken_out_by_date():
    text = refusal(pcap(packets([*[0] * 9, START_US])))
    assert text.startswith(
        "packet 1 has no time, nor have 8 others; remove packets without a time: `editcap IN OUT 1 2 3 4 5`"
    )
    assert "`editcap -A '1971-01-01 00:00:00' IN OUT`" in text


def test_times_from_zero_on_are_times():
    assert in_order(read(pcap(packets([0, 1000, 2000]))), "x")[1] == ()


def test_a_packet_of_another_age_is_named():
    text = refusal(pcap(packets([5, START_US])))
    assert text.startswith("packet 2 is 1.7e+09 s after the one before it; remove what does not belong to it")


def test_simple_packets_have_no_times():
    text = refusal(section("<", interface(), simple(), simple()))
    assert text == (
        "its packets have no times (Simple Packet Blocks); capture again with dumpcap or tcpdump, which write times"
    )
    mixed = refusal(section("<", interface(), enhanced(START_US), simple(), enhanced(START_US)))
    assert mixed == "packet 2 has no time; remove packets without a time: `editcap IN OUT 2`"


def test_a_capture_of_nothing_is_refused():
    for content in (pcap([]), section(), section("<", interface())):
        assert refusal(content) == "it contains no packets; use a capture with traffic"


# ------------------------------------------------------------------------------------------------ independent readers

rows = st.lists(
    st.tuples(st.integers(0, 2**32 * 10**6 - 1), st.integers(0, 2**32 - 1), st.integers(0, 70)), min_size=1, max_size=8
)


@given(rows, st.sampled_from("<>"), st.sampled_from([MICRO, NANO]))
def test_scapy_reads_the_same_of_a_whole_classic_capture(tmp_path_factory, rows, order, magic):
    path = tmp_path_factory.mktemp("scapy") / "x.pcap"
    path.write_bytes(pcap(rows, order, magic))
    scale = 1 if magic == NANO else US
    with RawPcapReader(str(path)) as reader:
        theirs = [(meta.sec * S + meta.usec * scale, meta.wirelen) for _, meta in reader]
    assert seen(path.read_bytes()) == theirs


def _tshark(path: Path) -> list[tuple[int | None, int]]:
    fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len"]
    out = subprocess.run(["tshark", "-n", "-r", str(path), *fields], capture_output=True, text=True, check=True).stdout
    found = []
    for line in out.splitlines():
        time, length = line.split("\t")
        whole, _, part = time.partition(".")
        found.append((int(whole) * S + int(part.ljust(9, "0")) if time else None, int(length)))
    return found


def _ours(content: bytes) -> list[tuple[int | None, int]]:
    found = read(content)
    times = [time if timed else None for time, timed in zip(found.t_ns.tolist(), found.timed.tolist(), strict=True)]
    return list(zip(times, found.n_bytes.tolist(), strict=True))


def _all_kinds() -> bytes:
    """Return sections of both byte orders with interfaces of many clocks, and packets of every kind."""
    parts = []
    for order in "<>":
        clocks = [(None, None), (9, None), (6, 1_600_000_000), (0x94, -3), (3, 0)]
        blocks = [interface(order, resolution, offset) for resolution, offset in clocks]
        ticks = [START_US, START_US * US + 5, 17 * 10**6 + 3, (1_700_000_000 << 20) + 12345, 1_700_000_000_123]
        blocks += [enhanced(t, 60 + n, 50, order, n) for n, t in enumerate(ticks)]
        blocks += [obsolete(START_US * US + 999, 77, order, 1), block(5, bytes(12), order), simple(42, order)]
        parts.append(section(order, *blocks))
    return b"".join(parts)


@pytest.mark.requires("tshark")
@pytest.mark.parametrize(
    "content",
    [
        _all_kinds(),
        pcap([(START_US, 1000, 60), (START_US + 7, 90, 90)], ">", NANO),
        pcap(packets([START_US, START_US + 5, START_US + 3]), "<", PATCHED, header_bytes=24),
        pcap(packets([START_US, START_US + 5, START_US + 3]), ">", PATCHED, header_bytes=24),
    ],
    ids=["pcapng", "nano", "patched", "patched-big"],
)
def test_tshark_reads_the_same(tmp_path, content):
    path = tmp_path / "x.cap"
    path.write_bytes(content)
    assert _ours(content) == _tshark(path)


def test_a_capture_keeps_its_arrays_to_one_length():
    found = read(_all_kinds())
    lengths = {len(getattr(found, f.name)) for f in dataclasses.fields(found) if f.name != "link_types"}
    assert lengths == {14}
    assert found.timed.dtype == np.bool_
