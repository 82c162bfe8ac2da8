/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which packet is it?  The plan of a run is known before it begins, and numbers its packets from 0 without gaps: first
 * those of flow 0 in the order of their sequence numbers, then those of flow 1, and so on.  So one bit per packet says
 * what happened to it: where it was delivered, or which program dropped it.  After the traffic, user space compares the
 * bits of all programs; so each lost or duplicated packet is known by its number. 64 packets share a word; a plan of 10
 * million packets takes 1.25 MB.
 *
 * A probe whose flow or sequence number is not in the plan has no number.
 *
 * Functions that handle probes are verified separately (CHECKED_ALONE).  Such a function gets no pointer into the
 * packet, but the offset at which the probe begins.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "parse.h"
#include "testbed_abi.h"

#define PACKETS_A_WORD 64
#define NOT_PLANNED    0xffffffffU

#define NO_PROBE     0
#define MAX_PROBE_AT 0x3fff /* beyond this no header of ours ends */

/* Return where a probe would begin, counted from the start of the frame, or NO_PROBE. */
static __always_inline __u32 probe_at(const struct packet *packet)
{
    if (packet->protocol != IPPROTO_UDP || !packet->l4)
        return NO_PROBE;
    if (packet->l4_bytes < sizeof(struct udphdr) + sizeof(struct probe))
        return NO_PROBE;
    return packet->l4 + sizeof(struct udphdr) - (void *)packet->eth;
}

/* Return the probe (of any run) at this offset, or NULL. */
static __always_inline struct probe *find_probe(void *data, void *end, __u32 at)
{
    struct probe *probe = data + at;

    if (at == NO_PROBE || at > MAX_PROBE_AT || (void *)(probe + 1) > end)
        return NULL;
    return probe->magic == bpf_htonl(PROBE_MAGIC) ? probe : NULL;
}

/* Return the number in the plan of the packet `seq` of a flow, or NOT_PLANNED. */
static __always_inline __u32 packet_number(const struct packet_range *range, __u32 seq)
{
    return range && seq < range->count ? range->first + seq : NOT_PLANNED;
}

static __always_inline __u64 bit_of(__u32 number)
{
    return 1ULL << (number % PACKETS_A_WORD);
}

#endif
