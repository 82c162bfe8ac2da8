/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Baselines for the node program in benchmarks: the cost of parsing, and of parsing plus one reading of the clock (the
 * exact one, or that of the last timer tick).
 *
 * All pass the packets that can be parsed and drop the others.  They sum up what they parsed, so that the compiler does
 * not remove the work.
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
