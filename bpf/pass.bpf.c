/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Passes every packet.
 *
 * A veth end accepts frames that its peer returns by XDP_TX only if it runs an XDP program itself.  At the switch's end
 * of a node's link, this program makes deflection possible.  In the benchmarks it shows the cost of an empty program.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(struct xdp_md *context)
{
    (void)context;
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
