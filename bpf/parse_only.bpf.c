/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rivals of the node program: what parsing costs, and parsing plus one reading of the clock, exact or as of the
 * last timer tick.
 *
 * All pass what parses and drop what does not.  They add up what they found, so that the compiler keeps the work.
 */
#include "parse.h"

struct {
    __u64 found;
    __u64 t_ns;
} memory;

static __always_inline enum xdp_action parse(struct xdp_md *context)
{
    struct packet packet = {};

    switch (parse_packet(context, &packet)) {
    case PARSED_MALFORMED:
        return XDP_DROP;
    case PARSED_OTHER:
        return XDP_PASS;
    default:
        memory.found += packet.frame_bytes + packet.tos + packet.ttl + packet.protocol;
        if (packet.l4)
            memory.found += *(__u32 *)packet.l4;
        return XDP_PASS;
    }
}

SEC("xdp")
int parse_only(struct xdp_md *context)
{
    return parse(context);
}

SEC("xdp")
int parse_clock(struct xdp_md *context)
{
    memory.t_ns = bpf_ktime_get_ns();
    return parse(context);
}

SEC("xdp")
int parse_coarse_clock(struct xdp_md *context)
{
    memory.t_ns = bpf_ktime_get_coarse_ns();
    return parse(context);
}

char _license[] SEC("license") = "Dual BSD/GPL";
