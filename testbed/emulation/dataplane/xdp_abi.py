"""The layouts of ``bpf/testbed_abi.h`` as numpy types, and the edges of the histogram's buckets.

The header is the source.  ``tests/test_libbpf.py`` compares offset and size of every field with the BTF of the compiled
programs, and every constant with the text of the header.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints

NANOBITS_PER_BYTE = 8_000_000_000
QUEUE_CAP_BYTES = 1_000_000_000
BUCKET_CAP_BYTES = 50_000_000
NODE_CLASSES = 8
NODE_LOCAL_ADDRESSES = 4
NODE_BINS = 4096
NODE_BIN_NS = 1_000_000
NODE_FLOW_CELLS = 65_536
NODE_FLOW_AGE_SHIFT = 20
NODE_SIBLING_ENABLED = 1 << 63
DEFLECT_MARK = 0xF1DE02
PROBE_MAGIC = 0x54425042
SINK_DELAY_LINEAR = 64
SINK_DELAY_OCTAVES = 30
SINK_DELAY_BUCKETS = 1984

STAGE_FINE_SHIFT = 12
STAGE_FINE_BUCKETS = 4096
STAGE_COARSE_SHIFT = 22
STAGE_COARSE_FIRST = 4
STAGE_BUCKETS = 5116
STAGE_NOTED_NS = 1_000_000
STAGE_SLOT_SHIFT = 24
PROBE_DEPARTS = 1 << 63

STAGE = np.dtype([("counts", "<u8", (STAGE_BUCKETS,))])

STAGE_SLOT = np.dtype([("taken_max_ns", "<u4"), ("late_max_ns", "<u4")])

PACKET_RANGE = np.dtype([("first", "<u4"), ("count", "<u4")])

PACKET_TIME = np.dtype([("arrived_ns", "<u8"), ("delivered_ns", "<u8"), ("node", "<u8")])

NODE_CONFIG = np.dtype(
    [
        ("rate_bps", "<u8"),
        ("full_drain_ns", "<u8"),
        ("bucket_nb", "<i8"),
        ("mac", "<u8"),
        ("mac_mask", "<u8"),
        ("local_ip6", "<u8", (NODE_LOCAL_ADDRESSES, 2)),
        ("local_ip4", "<u4", (NODE_LOCAL_ADDRESSES,)),
        ("flow_idle", "<u4"),
        ("number", "<u4"),
        ("locked", "<u4"),
        ("run", "<u4"),
        ("wait_factor", "<u8"),
        ("wait_shift", "<u4"),
        ("timed", "<u4"),
        ("way_delay_ns", "<u8"),
    ]
)

NODE_CONTROL = np.dtype(
    [
        ("limit_bytes", "<u8"),
        ("ecn_threshold_bytes", "<u8"),
        ("sibling", "<u8"),
        ("crashed", "<u8"),
        ("loss_threshold", "<u8"),
        ("loss_seed", "<u8"),
        ("t0_ns", "<u8"),
        ("class_of_dscp", "u1", (64,)),
    ]
)

NODE_CLASS = np.dtype(
    [
        ("arrived_bytes", "<u8"),
        ("arrived_pkts", "<u8"),
        ("dropped_bytes", "<u8"),
        ("dropped_pkts", "<u8"),
        ("marked_pkts", "<u8"),
    ]
)

NODE_STATE = np.dtype(
    [
        ("sequence", "<u8"),
        ("t_ns", "<u8"),
        ("debt_nb", "<i8"),
        ("new_flows", "<u8"),
        ("bin_end_ns", "<u8"),
        ("bin_index", "<u8"),
        ("passed_other_pkts", "<u8"),
        ("passed_local_pkts", "<u8"),
        ("malformed_pkts", "<u8"),
        ("ttl_expired_pkts", "<u8"),
        ("loss_draws", "<u8"),
        ("repeated_pkts", "<u8"),
        ("deflected_bytes", "<u8", (NODE_CLASSES,)),
        ("deflected_pkts", "<u8", (NODE_CLASSES,)),
        ("deflected_in_pkts", "<u8", (NODE_CLASSES,)),
        ("lost_pkts", "<u8", (NODE_CLASSES,)),
        ("crashed_pkts", "<u8", (NODE_CLASSES,)),
        ("classes", NODE_CLASS, (NODE_CLASSES,)),
    ]
)

NODE_BIN = np.dtype([("number", "<u8"), ("backlog_max_nb", "<u8"), ("gap_max_ns", "<u4"), ("bytes", "<u4")])

NODE_MEMORY = np.dtype(
    [
        ("state", NODE_STATE),
        ("bins", NODE_BIN, (NODE_BINS,)),
        ("flow_age", "<u4", (NODE_FLOW_CELLS,)),
        ("way", STAGE),
    ]
)

NODE_FATES = np.dtype([("dropped", "<u8"), ("crashed", "<u8"), ("lost", "<u8")])

LINK_CONFIG = np.dtype([("run", "<u4"), ("unused", "<u4")])

LINK_MEMORY = np.dtype([("given_pkts", "<u8"), ("cut", "<u8"), ("cut_pkts", "<u8"), ("cut_planned_pkts", "<u8")])

SINK_CONFIG = np.dtype([("run", "<u4"), ("locked", "<u4"), ("timed", "<u4"), ("unused", "<u4")])

SINK_CONTROL = np.dtype([("epoch", "<u4"), ("unused", "<u4"), ("t0_ns", "<u8")])

SINK_FLOW = np.dtype(
    [
        ("pkts", "<u8"),
        ("range", PACKET_RANGE),
        ("first_seq", "<u4"),
        ("highest_seq", "<u4"),
        ("missing_pkts", "<u4"),
        ("epoch", "<u4"),
        ("epoch_first_seq", "<u4"),
        ("first_delay_ns", "<u4"),
    ]
)

SINK_STATE = np.dtype(
    [
        ("sequence", "<u8"),
        ("last_ns", "<u8"),
        ("delivered_bytes", "<u8"),
        ("delivered_pkts", "<u8"),
        ("delay_max_ns", "<u8"),
        ("ce_pkts", "<u8"),
        ("duplicate_pkts", "<u8"),
        ("reordered_pkts", "<u8"),
        ("unplanned_pkts", "<u8"),
        ("foreign_run_pkts", "<u8"),
        ("passed_pkts", "<u8"),
    ]
)

SINK_MEMORY = np.dtype(
    [
        ("state", SINK_STATE),
        ("delay_counts", "<u8", (SINK_DELAY_BUCKETS,)),
        ("queue", STAGE),
        ("unbuffered_pkts", "<u8"),
    ]
)


def delay_edges_ns() -> Ints:
    """Return the edges of the sink's delay buckets: int64, ascending, shape [1985], bucket k is [k, k + 1)."""
    octaves = 2 ** np.arange(SINK_DELAY_OCTAVES, dtype=np.int64)
    steps = np.arange(SINK_DELAY_LINEAR, 2 * SINK_DELAY_LINEAR, dtype=np.int64)
    return np.concatenate(
        (
            np.arange(SINK_DELAY_LINEAR, dtype=np.int64),
            np.multiply.outer(octaves, steps).ravel(),
            [2 * SINK_DELAY_LINEAR * octaves[-1]],
        )
    ).astype(np.int64)
