/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counts the frames that the switch sends on a link, at the traffic control hook before the link's own queue, and cuts
 * the link.
 *
 * A link that goes down loses packets that no counter shows: those in the receive ring of its other end are freed
 * without being counted.  And a frame sent to an end that is going down causes an error at the sender.  Open vSwitch
 * then sends this frame again and forgets the rest of its batch.  Therefore the link is first cut here: frames are
 * dropped without an error, and each planned packet is recorded (identity.h).  Frames sent before the cut continue.
 * When they have reached the other end, that end can go down without losing any.
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

/* The planned packets that were dropped here, one bit each. Resized by user space before the program is loaded. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} swallowed SEC(".maps");

/* Record which planned packet is dropped. */
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
    __sync_fetch_and_add(&memory.given_pkts, 1); /* runs on the CPU of the sender, so on any CPU */
    if (!*(volatile __u64 *)&memory.cut)
        return TC_ACT_OK;
    __sync_fetch_and_add(&memory.cut_pkts, 1);
    note(frame);
    return TC_ACT_STOLEN;
}

char _license[] SEC("license") = "Dual BSD/GPL";
