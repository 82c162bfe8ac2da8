/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counts what the switch gives to a link, at the traffic control hook before the link's own queue, and cuts the link.
 *
 * A link that goes down loses packets in places that count nothing: those that lie in the receive ring of its other
 * end are freed in silence.  And a frame that meets an end which is going down is an error to its sender, which Open
 * vSwitch then gives a second time, and forgets the rest of its batch.  So a link is cut here first: frames go nowhere
 * without an error, and each that belongs to the plan of the run is noted (identity.h).  What was given before passes
 * on, and when it has reached the other end that can go down and costs nothing.
 */
#include <linux/pkt_cls.h>

#define FRAME struct __sk_buff
#include "parse.h"
#include "ranges.h"
#include "testbed_abi.h"

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile struct link_config config SEC(".rodata");
struct link_memory memory;

/* Which packets of the plan went nowhere, one bit each.  Resized by user space before the program is loaded. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} swallowed SEC(".maps");

/* Note which packet goes nowhere, if the plan has it. */
CHECKED_ALONE int note(struct __sk_buff *frame)
{
    struct packet packet = {};
    void *data, *end;
    __u32 number, index;
    enum parsed parsed;
    __u64 *word;

    if (bpf_skb_pull_data(frame, frame->len))
        return 0;
    parsed = parse_packet(frame, &packet);
    if (parsed != PARSED_IPV4 && parsed != PARSED_IPV6)
        return 0;
    data = (void *)(long)frame->data;
    end = (void *)(long)frame->data_end;
    number = planned_number(data, end, probe_at(&packet), config.run);
    index = number / PACKETS_A_WORD;
    if (number == NOT_PLANNED)
        return 0;
    __sync_fetch_and_add(&memory.cut_planned_pkts, 1);
    word = bpf_map_lookup_elem(&swallowed, &index);
    if (word)
        __sync_fetch_and_or(word, bit_of(number));
    return 0;
}

SEC("tc")
int link(struct __sk_buff *frame)
{
    __sync_fetch_and_add(&memory.given_pkts, 1); /* whoever sends runs this, on any CPU */
    if (!*(volatile __u64 *)&memory.cut)
        return TC_ACT_OK;
    __sync_fetch_and_add(&memory.cut_pkts, 1);
    note(frame);
    return TC_ACT_STOLEN;
}

char _license[] SEC("license") = "Dual BSD/GPL";
