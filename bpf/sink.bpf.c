/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The sink: counts the probe packets of one run at a backend and drops them; all other packets pass.
 *
 * A probe is an unfragmented UDP packet over IPv4 or IPv6 whose payload begins with the magic number and the number of
 * the run.  Every planned packet has its own bit (identity.h), which is set when it arrives.  A packet whose bit is
 * already set is a duplicate, however late it arrives.  From the bits of all sinks, user space sees which packets
 * arrived anywhere, and which arrived twice.  Within a flow, a sequence number higher than all before opens a gap; a
 * lower one means that the packet was reordered.  `first_seq` shows how many packets were missing before the first
 * arrival. A probe that is not in the plan is counted separately.
 *
 * User space divides a run into epochs.  A flow that returns after it was served by another node opens a gap, which is
 * the number of packets that were served there or lost; `epoch_first_seq` is the sequence number with which it
 * returned.
 *
 * The one-way delay (now - sent, the same clock in every namespace) is counted in a log-linear histogram: one bucket
 * per ns below 64 ns, and 64 buckets per octave above.  The width of a bucket is 1/64 of the lower edge of its octave,
 * so every value is known to 1.6 %.
 *
 * Source: HdrHistogram, G. Tene (bucket scheme; written anew).
 */
#include "identity.h"
#include "parse.h"
#include "sequence.h"
#include "stage.h"
#include "testbed_abi.h"
#include "times.h"

#define DELAY_LINEAR_BITS 6 /* 2^6 = SINK_DELAY_LINEAR */
#define ECN_CE            3

const volatile struct sink_config config SEC(".rodata");
volatile struct sink_control control SEC(".data");
struct sink_memory memory;

/* Resized by user space before the program is loaded. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sink_flow);
} flows SEC(".maps");

/* One bit for each planned packet: it has arrived. Resized likewise. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} arrived SEC(".maps");

struct probe_place {
    struct sink_flow *flow; /* NULL: the plan does not have the packet */
    __u64 *word;
    __u64 bit;
    struct packet_time *time; /* NULL: not kept */
};

static __always_inline __u32 floor_log2(__u64 value)
{
    __u32 result = 0;

#pragma unroll
    for (int bits = 32; bits; bits /= 2) {
        if (value >> bits) {
            value >>= bits;
            result += bits;
        }
    }
    return result;
}

/* Return the bucket of a delay. Separate: otherwise the verifier checks all that follows once for each octave. */
CHECKED_ALONE __u32 delay_bucket(__u64 delay_ns)
{
    __u32 exponent, bucket;

    if (delay_ns < SINK_DELAY_LINEAR)
        return delay_ns;
    exponent = floor_log2(delay_ns);
    bucket = (exponent - DELAY_LINEAR_BITS + 1) * SINK_DELAY_LINEAR +
             ((delay_ns >> (exponent - DELAY_LINEAR_BITS)) & (SINK_DELAY_LINEAR - 1));
    return bucket < SINK_DELAY_BUCKETS ? bucket : SINK_DELAY_BUCKETS - 1;
}

/* Return the probe of this run that begins there, or NULL. */
static __always_inline struct probe *own_probe(struct xdp_md *context, __u32 at)
{
    struct probe *probe = find_probe((void *)(long)context->data, (void *)(long)context->data_end, at);

    if (probe && probe->run != bpf_htonl(config.run)) {
        count(config.locked, &memory.state.foreign_run_pkts);
        return NULL;
    }
    return probe;
}

/* Find the entries of the probe; before the lock is taken, because no map may be accessed under it. */
static __always_inline struct probe_place find_place(const struct probe *probe)
{
    struct probe_place place = {};
    __u32 flow = bpf_ntohl(probe->flow), number, index;
    struct sink_flow *row = bpf_map_lookup_elem(&flows, &flow); /* NULL beyond the last */

    if (!row)
        return place;
    number = packet_number(&row->range, bpf_ntohl(probe->seq));
    index = number / PACKETS_A_WORD;
    place.word = bpf_map_lookup_elem(&arrived, &index);
    place.bit = bit_of(number);
    if (config.timed)
        place.time = times_of(number);
    if (number != NOT_PLANNED && place.word)
        place.flow = row;
    return place;
}

static __always_inline void take_sequence(struct sink_state *state, struct sink_flow *flow, __u32 seq)
{
    if (!flow->pkts) {
        flow->first_seq = seq;
        flow->highest_seq = seq;
    } else if (seq > flow->highest_seq) {
        flow->missing_pkts += seq - flow->highest_seq - 1;
        flow->highest_seq = seq;
    } else {
        state->reordered_pkts += 1;
        /* Numbers before the first arrival were never counted as missing. */
        if (seq > flow->first_seq)
            flow->missing_pkts -= 1;
    }
}

static __always_inline void take_packet(struct sink_state *state, const struct probe_place *place, __u32 seq)
{
    if (*place->word & place->bit) {
        state->duplicate_pkts += 1;
        return;
    }
    *place->word |= place->bit;
    take_sequence(state, place->flow, seq);
}

static __always_inline void take_epoch(struct sink_flow *flow, __u32 seq)
{
    __u32 epoch = control.epoch; /* read once: user space may change it at any time */

    if (flow->pkts && flow->epoch == epoch)
        return;
    flow->epoch = epoch;
    flow->epoch_first_seq = seq;
}

static __always_inline void take_first(struct sink_flow *flow, __u32 seq, __u64 delay_ns)
{
    if (seq == 0 && !flow->first_delay_ns)
        flow->first_delay_ns = delay_ns < 0xffffffff ? delay_ns : 0xffffffff;
}

static __always_inline void take(const struct probe *probe, const struct probe_place *place, __u64 now_ns, __u64 bytes,
                                 __u32 tos, __u64 delay_ns, __u32 bucket)
{
    struct sink_state *state = &memory.state;
    struct sink_flow *flow = place->flow;

    if (bucket < SINK_DELAY_BUCKETS)
        memory.delay_counts[bucket] += 1;
    state->last_ns = now_ns;
    state->delivered_bytes += bytes;
    state->delivered_pkts += 1;
    state->ce_pkts += (tos & ECN_CE) == ECN_CE;
    if (delay_ns > state->delay_max_ns)
        state->delay_max_ns = delay_ns;
    if (!flow) {
        state->unplanned_pkts += 1;
        return;
    }
    take_packet(state, place, bpf_ntohl(probe->seq));
    take_epoch(flow, bpf_ntohl(probe->seq));
    take_first(flow, bpf_ntohl(probe->seq), delay_ns);
    flow->pkts += 1;
}

/* Measure how the packet came here from the node's queue. */
static __always_inline void take_queue(const struct probe *probe, __u64 now_ns)
{
    __u64 departs_ns = bpf_be64_to_cpu(probe->planned_ns), queue_ns;

    if (!(departs_ns & PROBE_DEPARTS)) {
        count(config.locked, &memory.unbuffered_pkts);
        return;
    }
    queue_ns = stage_ns(departs_ns & ~PROBE_DEPARTS, now_ns);
    stage_count(config.locked, &memory.queue, queue_ns);
    stage_note(control.t0_ns, now_ns, queue_ns, 0);
}

/* Take the packet in if it carries a probe of this run; return whether it does. */
CHECKED_ALONE int take_in(struct xdp_md *context, __u32 at, __u32 tos)
{
    struct probe *probe = own_probe(context, at);
    struct probe_place place;
    struct spin *spin;
    __u64 bytes, now_ns, delay_ns;
    __u32 bucket;

    if (!probe)
        return 0;
    bytes = (void *)(long)context->data_end - (void *)(long)context->data;
    place = find_place(probe);
    now_ns = bpf_ktime_get_ns();
    if (place.time && !place.time->delivered_ns)
        place.time->delivered_ns = now_ns;
    take_queue(probe, now_ns);
    delay_ns = stage_ns(bpf_be64_to_cpu(probe->sent_ns), now_ns);
    bucket = delay_bucket(delay_ns); /* before the lock, under which no function may be called */
    spin = write_begin(config.locked, &memory.state.sequence);
    take(probe, &place, now_ns, bytes, tos, delay_ns, bucket);
    write_end(spin, &memory.state.sequence);
    return 1;
}

SEC("xdp")
int sink(struct xdp_md *context)
{
    struct packet packet = {};
    enum parsed parsed = parse_packet(context, &packet);

    if ((parsed == PARSED_IPV4 || parsed == PARSED_IPV6) && take_in(context, probe_at(&packet), packet.tos))
        return XDP_DROP;
    count(config.locked, &memory.state.passed_pkts);
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
