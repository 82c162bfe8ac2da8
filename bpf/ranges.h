/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The range of packet numbers of every flow, for programs that store nothing else about flows.  User space sets the
 * size of the map before the program is loaded, and its content before the traffic begins.
 */
#ifndef RANGES_H
#define RANGES_H

#include "identity.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct packet_range);
} ranges SEC(".maps");

/* Return the number in the plan of the probe at this offset; NOT_PLANNED if it does not belong to `run`. */
static __always_inline __u32 planned_number(void *data, void *end, __u32 at, __u32 run)
{
    struct probe *probe = find_probe(data, end, at);
    __u32 flow;

    if (!probe || probe->run != bpf_htonl(run))
        return NOT_PLANNED;
    flow = bpf_ntohl(probe->flow);
    return packet_number(bpf_map_lookup_elem(&ranges, &flow), bpf_ntohl(probe->seq));
}

#endif
