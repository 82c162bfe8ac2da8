/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counts what the switch gives to a link, at the traffic control hook before the link's own queue.
 *
 * A link that goes down loses packets in places that count nothing: those that lie in the receive ring of its other
 * end are freed in silence.  What was given here and never reached the node's program was lost on the link.
 *
 * A link is cut here before its end goes down.  A frame that meets an end which is going down is an error to its
 * sender, and Open vSwitch then gives it a second time and forgets the rest of its batch: neither count would be true.
 */
#include <linux/pkt_cls.h>

#include "testbed_abi.h"

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct link_memory memory;

SEC("tc")
int link(struct __sk_buff *frame)
{
    (void)frame;
    __sync_fetch_and_add(&memory.given_pkts, 1); /* whoever sends runs this, on any CPU */
    return memory.cut ? TC_ACT_STOLEN : TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
