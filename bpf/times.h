/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * When each packet of the plan was seen, for runs that record it: a row a packet, by its number (identity.h).
 *
 * The programs of all nodes and sinks of a run share one map.  A packet is at one node at a time, so no two of them
 * write to the same value at once.  Where nothing is to be recorded the map has one row, and the verifier removes the
 * code, since `timed` is frozen before the program is loaded.
 */
#ifndef TIMES_H
#define TIMES_H

#include "identity.h"
#include "testbed_abi.h"

/* Resized by user space before the program is loaded, or replaced by that of another program. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct packet_time);
} times SEC(".maps");

/* Return the row of the packet of that number, or NULL. */
static __always_inline struct packet_time *times_of(__u32 number)
{
    return number == NOT_PLANNED ? NULL : bpf_map_lookup_elem(&times, &number);
}

#endif
