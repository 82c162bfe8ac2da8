/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One writer, many readers: how user space reads a consistent state through its mapping while packets flow.
 *
 * The writer makes `sequence` odd, writes, and makes it even again.  A reader reads `sequence`, copies the state, reads
 * `sequence` again, and keeps the copy if both were the same even number.  The writer never waits.  There is only one:
 * the program of a receive queue runs on one CPU at a time, and user space refuses devices with more than one queue.
 * In generic mode, where the kernel runs the program on any CPU, `locked` is set and a spin lock protects the writer.
 *
 * Source: Linux, include/linux/seqlock.h (the idea; no code of it).
 */
#ifndef SEQUENCE_H
#define SEQUENCE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct spin {
    struct bpf_spin_lock lock;
};

/* A separate map, because the kernel maps no map with a spin lock into user space. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct spin);
} spins SEC(".maps");

#define COMPILER_BARRIER() asm volatile("" ::: "memory")

static __always_inline void sequence_step(__u64 *sequence)
{
    COMPILER_BARRIER();
#ifdef STORES_STAY_IN_ORDER
    *(volatile __u64 *)sequence = *sequence + 1;
#else
    __u64 before = __sync_fetch_and_add(sequence, 1); /* an atomic that fetches is a full barrier */

    asm volatile("" : : "r"(before)); /* without a used result it would be no barrier */
#endif
    COMPILER_BARRIER();
}

/* `locked` is frozen before the program is loaded: where it is 0 the verifier removes the branch. */
static __always_inline struct spin *write_begin(__u32 locked, __u64 *sequence)
{
    struct spin *spin = NULL;
    __u32 first = 0;

    if (locked) {
        spin = bpf_map_lookup_elem(&spins, &first);
        if (spin)
            bpf_spin_lock(&spin->lock);
    }
    sequence_step(sequence);
    return spin;
}

static __always_inline void write_end(struct spin *spin, __u64 *sequence)
{
    sequence_step(sequence);
    if (spin)
        bpf_spin_unlock(&spin->lock);
}

/* Add one to a counter that is read independently of the others. */
static __always_inline void count(__u32 locked, __u64 *counter)
{
    if (locked)
        __sync_fetch_and_add(counter, 1);
    else
        *counter += 1;
}

#endif
