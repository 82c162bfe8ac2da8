/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The meter: the quantities from which the precursors of a burst are computed.  Arrivals are counted for each traffic
 * class; a reader adds the classes up.
 *
 * Counters never decrease, so each reader can compute its own differences.  Maxima cannot be computed from differences.
 * They are kept in a ring of bins of 1 ms; a reader takes the maximum over the bins since its last reading.  The
 * division that finds a bin is done once per bin, not once per packet.
 *
 * New flows: each flow hashes to one of 65,536 cells, which hold the time of the last packet.  A packet whose cell was
 * idle for longer than `flow_idle` starts a new flow.  In contrast to rotating bitmaps, the cells need not be cleared.
 * Two active flows in one cell count as one: with n active flows, a new flow is missed with probability n / 65,536; no
 * flow is counted that does not exist.
 */
#ifndef METER_H
#define METER_H

#include "parse.h"
#include "testbed_abi.h"

#define FLOW_CELL_SHIFT 48                    /* the top 16 bits pick the cell */
#define HASH_FACTOR_A   0x9e3779b97f4a7c15ULL /* 2^64 / golden ratio */
#define HASH_FACTOR_B   0xc2b2ae3d27d4eb4fULL
#define MAX_GAP_NS      0xffffffffULL

static __always_inline __u64 load64(const void *from)
{
    const __u32 *half = from;

    return half[0] | (__u64)half[1] << 32;
}

/* Return the cell of the packet's 5-tuple; the ports of a fragment or of other protocols count as 0. */
static __always_inline __u32 meter_flow_cell(const struct packet *packet)
{
    __u64 hash;

    if (packet->version == 4) {
        hash = load64(&packet->ip4->saddr);
    } else {
        const __u8 *source = (const void *)&packet->ip6->saddr;

        hash = load64(source) * HASH_FACTOR_B + load64(source + 8);
        hash = hash * HASH_FACTOR_B + load64(source + 16);
        hash = hash * HASH_FACTOR_B + load64(source + 24);
    }
    hash *= HASH_FACTOR_A;
    hash ^= hash >> 32;
    hash += packet->protocol;
    if (packet->l4)
        hash += (__u64) * (__u32 *)packet->l4 << 8;
    return hash * HASH_FACTOR_B >> FLOW_CELL_SHIFT;
}

static __always_inline __u32 meter_is_new_flow(struct node_memory *memory, __u32 cell, __u64 now_ns, __u32 idle)
{
    __u32 age = now_ns >> NODE_FLOW_AGE_SHIFT;
    __u32 last = memory->flow_age[cell];

    memory->flow_age[cell] = age;
    return !last || age - last > idle; /* 0: never hit */
}

static __always_inline __u64 meter_gap_ns(__u64 last_ns, __u64 now_ns)
{
    __u64 gap_ns = now_ns - last_ns;

    if (!last_ns)
        return 0;
    return gap_ns < MAX_GAP_NS ? gap_ns : MAX_GAP_NS;
}

/* Return the bin of `now_ns`, cleared if it is new. */
static __always_inline struct node_bin *meter_bin(struct node_memory *memory, __u64 now_ns)
{
    struct node_state *state = &memory->state;
    struct node_bin *bin;

    if (now_ns >= state->bin_end_ns) {
        __u64 number = now_ns / NODE_BIN_NS;

        state->bin_end_ns = (number + 1) * NODE_BIN_NS;
        state->bin_index = number % NODE_BINS;
        bin = &memory->bins[number % NODE_BINS];
        __builtin_memset(bin, 0, sizeof(*bin));
        bin->number = number;
    }
    return &memory->bins[state->bin_index % NODE_BINS];
}

/* Count the arrival of `bytes` in class `k`; `gap_ns` is the time since the node's last packet. */
static __always_inline void meter_arrival(struct node_memory *memory, struct node_bin *bin, __u32 k, __u32 bytes,
                                          __u64 gap_ns, __u32 new_flow)
{
    struct node_class *class = &memory->state.classes[k];

    class->arrived_bytes += bytes;
    class->arrived_pkts += 1;
    memory->state.new_flows += new_flow;
    bin->bytes += bytes;
    if (gap_ns > bin->gap_max_ns)
        bin->gap_max_ns = gap_ns;
}

#endif
