/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How long packets take for one stage of their path: a histogram, and the maximum of each time slot.
 *
 * The histogram shows the usual times.  Its buckets are 4 us wide up to 16.8 ms and 4.2 ms wide above, so that finding
 * one takes a comparison and a shift but no logarithm.  Times longer than 4.3 s are in the last bucket.
 *
 * The slots show the exceptions: each holds the longest time that ended in its 16.8 ms.  So a stall of the stage is
 * recorded with its length and its time, and so is its aftermath.  The map covers the whole run, so nothing has to be
 * read while packets flow.  There is no slot before the start and after the last slot.  Times shorter than a
 * millisecond are only in the histogram, so that nearly no packet needs a lookup of its slot.
 *
 * Under the lock of generic mode no map may be accessed, so nothing here runs under this lock: counts are atomic, and
 * if two packets update the maximum of a slot at the same moment, either may win.
 */
#ifndef STAGE_H
#define STAGE_H

#include "sequence.h"
#include "testbed_abi.h"

#define MAX_STAGE_NS 0xffffffffULL

/* Resized by user space before the program is loaded. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct stage_slot);
} slots SEC(".maps");

/* Return the time from one timestamp to another, or 0 if they are in the wrong order. */
static __always_inline __u64 stage_ns(__u64 from_ns, __u64 to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

static __always_inline void stage_worst(__u32 *worst_ns, __u64 ns)
{
    if (ns > *worst_ns)
        *worst_ns = ns < MAX_STAGE_NS ? ns : MAX_STAGE_NS;
}

/* Update the slot of `now_ns` with the time that a packet took and its send lateness; the run began at `t0_ns`. */
static __always_inline void stage_note(__u64 t0_ns, __u64 now_ns, __u64 taken_ns, __u64 late_ns)
{
    __u64 number = (now_ns - t0_ns) >> STAGE_SLOT_SHIFT; /* huge before the start */
    __u32 index = number < 0xffffffff ? number : 0xffffffff;
    struct stage_slot *slot;

    if ((taken_ns < STAGE_NOTED_NS && late_ns < STAGE_NOTED_NS) || !t0_ns)
        return;
    slot = bpf_map_lookup_elem(&slots, &index);
    if (!slot)
        return;
    stage_worst(&slot->taken_max_ns, taken_ns);
    stage_worst(&slot->late_max_ns, late_ns);
}

/* Count a packet that took `taken_ns`. */
static __always_inline void stage_count(__u32 locked, struct stage *stage, __u64 taken_ns)
{
    __u64 bucket = taken_ns >> STAGE_FINE_SHIFT;

    if (bucket >= STAGE_FINE_BUCKETS)
        bucket = STAGE_FINE_BUCKETS - STAGE_COARSE_FIRST + (taken_ns >> STAGE_COARSE_SHIFT);
    if (bucket >= STAGE_BUCKETS)
        bucket = STAGE_BUCKETS - 1;
    count(locked, &stage->counts[bucket]);
}

#endif
