"""The XDP program of a node as an object: its buffer.

It is read by `look` (one copy, about ten microseconds) or in parts.  It is controlled by single aligned 8-byte stores
into a shared mapping, which take effect with the next packet.

All times are CLOCK_MONOTONIC, the clock that the programs read, not times since the start of a run.  The heads of
``bpf/queue.h`` and ``bpf/meter.h`` explain how queue and meter count.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.dataplane import libbpf, xdp_meter
from testbed.emulation.dataplane.times_map import TimesMap
from testbed.emulation.dataplane.xdp_abi import (
    BUCKET_CAP_BYTES,
    NANOBITS_PER_BYTE,
    NODE_BIN,
    NODE_BIN_NS,
    NODE_BINS,
    NODE_CLASS,
    NODE_CLASSES,
    NODE_CONFIG,
    NODE_CONTROL,
    NODE_FATES,
    NODE_FLOW_AGE_SHIFT,
    NODE_LOCAL_ADDRESSES,
    NODE_MEMORY,
    NODE_SIBLING_ENABLED,
    NODE_STATE,
    QUEUE_CAP_BYTES,
    STAGE,
)
from testbed.emulation.dataplane.xdp_meter import IntervalStats, NodeCounters, NodeLook, offset
from testbed.emulation.dataplane.xdp_program import NO_PACKETS, PassProgram, XdpMode, XdpProgram, within, write_ranges
from testbed.emulation.dataplane.xdp_sink import SinkProgram
from testbed.emulation.dataplane.xdp_stage import Slots, slot_stalls, stage_histogram
from testbed.records.events import Ints
from testbed.records.histogram import Histogram
from testbed.records.stages import Stall
from testbed.traffic.numbers import PacketNumbers, Words
from testbed.units import NS_PER_S

__all__ = ["IntervalStats", "NodeCounters", "NodeLook", "NodeProgram", "PassProgram", "SinkProgram", "XdpMode"]

_MAX_RATE_BPS = 10**12
_MAX_NODE_NUMBER = 2**24 - 1
_BINS_OFFSET = offset(NODE_MEMORY, "bins")
_CLASSES_OFFSET = offset(NODE_STATE, "classes")
_WAY_OFFSET = offset(NODE_MEMORY, "way")
_DSCP_OFFSET = offset(NODE_CONTROL, "class_of_dscp")


def mac_number(mac: str) -> int:
    """Return a MAC address as the programs compare it: first byte in the low bits."""
    return int.from_bytes(bytes.fromhex(mac.replace(":", "")), "little")


class NodeProgram(XdpProgram):
    """The buffer of one node: meter and fluid queue."""

    name = "node"

    def __init__(
        self,
        rate_bps: int,
        bucket_bytes: int,
        limit_bytes: int,
        *,
        number: int = 0,
        mac: str | None = None,
        local_addresses: Sequence[str] = (),
        flow_idle_ns: int = NS_PER_S,
        run: int = 0,
        numbers: PacketNumbers | None = None,
        slots: int = 1,
        way_delay_ns: int = 0,
        times: TimesMap | None = None,
        log_directory: Path | None = None,
    ) -> None:
        """Load the program.

        Args:
            rate_bps: rate of the node's egress.
            bucket_bytes: depth of its token bucket; 0 models a pure queue.
            limit_bytes: first limit of the buffer.
            number: of the node, written into frames it deflects (below 2^24).
            mac: own address; frames to others pass uncounted.  None: any unicast address is the node's.
            local_addresses: IP addresses of the node (at most 4 of each family); packets to them pass unqueued.
            flow_idle_ns: a flow silent for longer counts as new when it comes back.
            run: number of the run whose packets are noted one by one when they end here.
            numbers: of those packets; without them none is noted.
            slots: for how long the worst packets are kept, from the start of the run on (`xdp_stage.slots_for`).
            way_delay_ns: what the links between clients and node delay by themselves.
            times: where the times of those packets are kept; None: nowhere.
            log_directory: where the verifier's log goes if the kernel refuses the program.

        Raises:
            InputError: a value is out of range.
            MachineError, VerifierError: the program cannot be loaded.
        """
        self._config = _node_config(rate_bps, bucket_bytes, flow_idle_ns)
        _number(self._config, number, run, way_delay_ns)
        _add_addresses(self._config, mac, local_addresses)
        self._rate_bps, self._numbers, self._slot_count = rate_bps, numbers or NO_PACKETS, slots
        self._first_control = _first_control(limit_bytes)
        super().__init__(log_directory, times)
        self._look = xdp_meter.Look(time.monotonic_ns() // NODE_BIN_NS)

    def _configure(self, opened: libbpf.BpfObject, locked: bool) -> None:
        self._config["locked"], self._config["timed"] = locked, self._times is not None
        opened.set_data(".rodata", self._config.tobytes())
        opened.set_data(".data", self._first_control)
        opened.set_max_entries("ranges", len(self._numbers.count))
        opened.set_max_entries("fates", self._numbers.words)
        opened.set_max_entries("slots", self._slot_count)

    def _map(self) -> None:
        self._memory = libbpf.map_array(self._object.map_fd(".bss"), NODE_MEMORY.itemsize)
        self._state = memoryview(self._memory)[: NODE_STATE.itemsize].cast("Q")
        self._control_memory = libbpf.map_array(self._object.map_fd(".data"), NODE_CONTROL.itemsize)
        # A store through this view is one 8-byte move; struct.pack_into("<Q") would store byte by byte.
        self._control = memoryview(self._control_memory)[:_DSCP_OFFSET].cast("Q")
        self._fates = libbpf.map_array(self._object.map_fd("fates"), NODE_FATES.itemsize * self._numbers.words)
        self._slots = Slots(self._object, self._slot_count)
        write_ranges(self._object, self._numbers)

    def _unmap(self) -> None:
        self._state.release()
        self._memory.close()
        self._control.release()
        self._control_memory.close()
        self._fates.close()
        self._slots.close()

    def reload_locked(self) -> None:
        """Reload the program with a lock and with the control values in force; counters start again."""
        self._first_control = self.control()
        super().reload_locked()

    @property
    def limit_bytes(self) -> int:
        """Return the limit in force."""
        return int(self._control[0])

    def control(self) -> bytes:
        """Return a copy of what rules the buffer: `NODE_CONTROL`."""
        return self._control_memory[: NODE_CONTROL.itemsize]

    @property
    def rate_bps(self) -> int:
        """Return the rate of the node's egress."""
        return self._rate_bps

    def map_fds(self) -> tuple[int, int]:
        """Return descriptors of what packets change (`NODE_MEMORY`) and of what rules the buffer (`NODE_CONTROL`)."""
        return self._object.map_fd(".bss"), self._object.map_fd(".data")

    def set_limit(self, limit_bytes: int) -> None:
        """Make `limit_bytes` the limit of the buffer: one store, seen by the next packet."""
        if not 0 <= limit_bytes <= QUEUE_CAP_BYTES:
            within("limit_bytes", limit_bytes, 0, QUEUE_CAP_BYTES)
        self._control[0] = limit_bytes

    def set_ecn_threshold(self, threshold_bytes: int) -> None:
        """Mark ECN-capable packets that find more than `threshold_bytes` waiting; 0 turns marking off."""
        self._control[1] = within("threshold_bytes", threshold_bytes, 0, QUEUE_CAP_BYTES)

    def set_sibling(self, mac: str | None) -> None:
        """Deflect what does not fit to the node of that address; None drops it.

        On a veth pair in native mode the other end must run an XDP program too: `PassProgram`.
        """
        self._control[2] = 0 if mac is None else mac_number(mac) | NODE_SIBLING_ENABLED

    @property
    def crashed(self) -> bool:
        """Tell whether nothing may pass, as the node has crashed."""
        return bool(self._control[3])

    def set_crashed(self, crashed: bool) -> None:
        """Let nothing pass any more, as a node that has crashed, or be a node again."""
        self._control[3] = int(crashed)

    def forget_queue(self) -> None:
        """Take the queue for empty; for a node that has crashed, whose program leaves the queue's state alone."""
        self._state[xdp_meter.DEBT_WORD] = 0

    def set_loss(self, ratio: float, seed: int = 0) -> None:
        """Lose that share of the packets on their way to the node, drawn from the seed; 0 loses none."""
        self._control[5] = seed
        self._control[4] = round(ratio * 2**32)

    def begin(self, t0_ns: int) -> None:
        """Let the run begin at `t0_ns`: from then on the worst packets are kept with their times."""
        self._control[6] = t0_ns

    def way(self) -> Histogram:
        """Return how long the packets of the run took from the client's send call to here."""
        copy = self._consistently(self._state, lambda: self._memory[_WAY_OFFSET : _WAY_OFFSET + STAGE.itemsize])
        return stage_histogram(copy, int(self._slots.read()["taken_max_ns"].max()))

    def way_stalls(self) -> tuple[Stall, ...]:
        """Return when packets were held on that way."""
        return slot_stalls(self._slots.read()["taken_max_ns"])

    def late_stalls(self) -> tuple[Stall, ...]:
        """Return when packets that came here had been sent later than planned, by their timestamps."""
        return slot_stalls(self._slots.read()["late_max_ns"])

    def fault_pkts(self) -> Ints:
        """Return the packets that did not arrive as the node had crashed or they were lost on the way.

        They are int64, by traffic class, shape [8].
        """
        state = np.frombuffer(self._consistently(self._state, self._copy_state), NODE_STATE)
        pkts: Ints = (state["crashed_pkts"][0] + state["lost_pkts"][0]).astype(np.int64)
        return pkts

    def crashed_pkts(self) -> Ints:
        """Return the packets that came to the node while it had crashed, by traffic class: int64, shape [8]."""
        state = np.frombuffer(self._consistently(self._state, self._copy_state), NODE_STATE)
        pkts: Ints = state["crashed_pkts"][0].astype(np.int64)
        return pkts

    def repeated_pkts(self) -> int:
        """Return how often a packet ended here that had ended here in the same way before."""
        return int(self._state[xdp_meter.REPEATED_WORD])

    def fates(self) -> dict[str, Words]:
        """Return the sets of packets that ended here: ``dropped`` by the buffer, ``crashed``, ``lost`` on the way."""
        words = np.frombuffer(self._fates[: NODE_FATES.itemsize * self._numbers.words], NODE_FATES)
        return {name: np.ascontiguousarray(words[name]) for name in NODE_FATES.names or ()}

    def loss(self) -> tuple[int, int]:
        """Return of how many packets it was drawn whether they are lost, and how many were."""
        state = np.frombuffer(self._consistently(self._state, self._copy_state), NODE_STATE)
        return int(state["loss_draws"][0]), int(state["lost_pkts"][0].sum())

    def seen_pkts(self) -> int:
        """Return how many frames of any kind have reached the program."""
        counters = self.snapshot()
        passed = counters.passed_other_pkts + counters.passed_local_pkts
        dropped = counters.malformed_pkts + counters.ttl_expired_pkts + int(self.fault_pkts().sum())
        return counters.arrived_pkts + passed + dropped

    def set_classes(self, class_of_dscp: Mapping[int, int]) -> None:
        """Put each DSCP value of the mapping into a traffic class (0..7); others stay where they are (0 at first)."""
        for dscp, number in class_of_dscp.items():
            within("dscp", dscp, 0, 63)
            self._control_memory[_DSCP_OFFSET + dscp] = within("class", number, 0, NODE_CLASSES - 1)

    def snapshot(self) -> NodeCounters:
        """Return the counters, all of one instant between two packets."""
        state = self._consistently(self._state, self._copy_state)
        return xdp_meter.node_counters(xdp_meter.words_of(state), self._control[0])

    def look(self, now_ns: int) -> NodeLook:
        """Return all that an agent wants to know, of one instant: counters, backlog, statistics since the last look."""
        now_bin = now_ns // NODE_BIN_NS
        first, last = xdp_meter.bin_range(self._look.bin_number, now_bin)
        state, slots = self._consistently(self._state, lambda: (self._copy_state(), self._copy_bins(first, last)))
        words = xdp_meter.words_of(state)
        counters = xdp_meter.node_counters(words, self._control[0])
        stats, self._look = xdp_meter.interval(self._look, counters, slots, now_ns, now_bin)
        t_ns, debt = words[xdp_meter.T_WORD], words[xdp_meter.DEBT_WORD]
        return NodeLook(counters, xdp_meter.backlog_bytes(t_ns, debt, now_ns, self._rate_bps), stats)

    def backlog_bytes(self, now_ns: int) -> int:
        """Return what waits at `now_ns` if no packet came since the last one; a byte in service counts whole."""
        state = self._state
        t_ns, debt = self._consistently(state, lambda: (state[xdp_meter.T_WORD], state[xdp_meter.DEBT_WORD]))
        return xdp_meter.backlog_bytes(t_ns, debt, now_ns, self._rate_bps)

    def class_meters(self) -> NDArray[np.void]:
        """Return the meters of the traffic classes: structured array `NODE_CLASS`, shape [8]."""
        end = NODE_STATE.itemsize
        copy = self._consistently(self._state, lambda: self._memory[_CLASSES_OFFSET:end])
        return np.frombuffer(copy, NODE_CLASS)

    def deflected_by_class(self) -> tuple[Ints, Ints]:
        """Return the packets handed to siblings, and those that came from them, by traffic class: int64, shape [8]."""
        state = np.frombuffer(self._consistently(self._state, self._copy_state), NODE_STATE)
        return state["deflected_pkts"][0].astype(np.int64), state["deflected_in_pkts"][0].astype(np.int64)

    def _copy_state(self) -> bytes:
        return self._memory[: NODE_STATE.itemsize]

    def _copy_bins(self, first: int, last: int) -> bytes:
        """Return the raw slots of the ring for bins `first` to `last`."""
        size = NODE_BIN.itemsize
        low, high = first % NODE_BINS, last % NODE_BINS + 1
        if low < high:
            return self._memory[_BINS_OFFSET + low * size : _BINS_OFFSET + high * size]
        end = _BINS_OFFSET + NODE_BINS * size
        return self._memory[_BINS_OFFSET + low * size : end] + self._memory[_BINS_OFFSET : _BINS_OFFSET + high * size]


def _node_config(rate_bps: int, bucket_bytes: int, flow_idle_ns: int) -> NDArray[np.void]:
    config = np.zeros((), NODE_CONFIG)
    config["rate_bps"] = within("rate_bps", rate_bps, 1, _MAX_RATE_BPS)
    config["bucket_nb"] = within("bucket_bytes", bucket_bytes, 0, BUCKET_CAP_BYTES) * NANOBITS_PER_BYTE
    config["wait_shift"] = rate_bps.bit_length() - 1
    config["wait_factor"] = (1 << 32 + int(config["wait_shift"])) // rate_bps
    config["full_drain_ns"] = -(-(QUEUE_CAP_BYTES + bucket_bytes) * NANOBITS_PER_BYTE // rate_bps)
    config["flow_idle"] = within("flow_idle_ns", flow_idle_ns, 0, 2**31 << NODE_FLOW_AGE_SHIFT) >> NODE_FLOW_AGE_SHIFT
    return config


def _number(config: NDArray[np.void], number: int, run: int, way_delay_ns: int) -> None:
    config["number"] = within("number", number, 0, _MAX_NODE_NUMBER)
    config["run"] = within("run", run, 0, 2**32 - 1)
    config["way_delay_ns"] = within("way_delay_ns", way_delay_ns, 0, 2**62)


def _first_control(limit_bytes: int) -> bytes:
    control = np.zeros((), NODE_CONTROL)
    control["limit_bytes"] = within("limit_bytes", limit_bytes, 0, QUEUE_CAP_BYTES)
    return control.tobytes()


def _add_addresses(config: NDArray[np.void], mac: str | None, addresses: Sequence[str]) -> None:
    if mac is not None:
        config["mac"], config["mac_mask"] = mac_number(mac), 2**48 - 1
    parsed = [ipaddress.ip_address(address) for address in addresses]
    for version, field, width in ((4, "local_ip4", "<u4"), (6, "local_ip6", "<u8")):
        packed = [address.packed for address in parsed if address.version == version]
        within(f"number of IPv{version} addresses", len(packed), 0, NODE_LOCAL_ADDRESSES)
        for k, address in enumerate(packed):
            config[field][k] = np.frombuffer(address, width) if version == 6 else np.frombuffer(address, width)[0]
