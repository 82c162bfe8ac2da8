/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The sink: takes in the probe packets of one run at a backend and counts them; everything else passes.
 *
 * A probe is an unfragmented UDP packet over IPv4 or IPv6 whose payload opens with the magic number and the run's
 * number.  For each flow the last 64 sequence numbers up to the highest are remembered one by one, as in the replay
 * window of IPsec: a number ahead opens a gap, one behind is late (reordered) or a duplicate, one behind the window is
 * `stale`, because nobody can tell.  Numbers are compared modulo 2^32.  A flow may begin with any number: what was lost
 * before the first arrival shows in `first_seq`.
 *
 * User space divides a run into epochs.  A flow that comes back after it was served elsewhere opens a gap, which says
 * how many numbers were served there or lost; `epoch_first_seq` says which number it came back with.
 *
 * One-way delay (now - sent, the same clock in every namespace) goes into a log-linear histogram: below 64 ns a bucket
 * each, above 64 buckets an octave.  A bucket is 1/64 of its lower edge wide, so any value in it is known to 1.6 %.
 *
 * Source: RFC 4303, section 3.4.3 (window); HdrHistogram, G. Tene (bucket scheme; written anew).
 */
#include "parse.h"
#include "sequence.h"
#include "testbed_abi.h"

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

static __always_inline __u32 delay_bucket(__u64 delay_ns)
{
    __u32 exponent, bucket;

    if (delay_ns < SINK_DELAY_LINEAR)
        return delay_ns;
    exponent = floor_log2(delay_ns);
    bucket = (exponent - DELAY_LINEAR_BITS + 1) * SINK_DELAY_LINEAR +
             ((delay_ns >> (exponent - DELAY_LINEAR_BITS)) & (SINK_DELAY_LINEAR - 1));
    return bucket < SINK_DELAY_BUCKETS ? bucket : SINK_DELAY_BUCKETS - 1;
}

/* Return the probe of this run that the packet carries, or NULL. */
static __always_inline struct probe *find_probe(struct xdp_md *context, const struct packet *packet)
{
    void *end = (void *)(long)context->data_end;
    struct probe *probe;

    if (packet->protocol != IPPROTO_UDP || !packet->l4)
        return NULL;
    probe = packet->l4 + sizeof(struct udphdr);
    if (packet->l4_bytes < sizeof(struct udphdr) + sizeof(*probe) || (void *)(probe + 1) > end)
        return NULL;
    if (probe->magic != bpf_htonl(PROBE_MAGIC))
        return NULL;
    if (probe->run != bpf_htonl(config.run)) {
        count(config.locked, &memory.state.foreign_run_pkts);
        return NULL;
    }
    return probe;
}

static __always_inline void take_late(struct sink_state *state, struct sink_flow *flow, __u32 behind)
{
    __u64 bit = 1ULL << (behind % SINK_SEEN_WINDOW);

    if (behind >= SINK_SEEN_WINDOW) {
        flow->stale_pkts += 1;
        state->stale_pkts += 1;
    } else if (flow->seen & bit) {
        flow->duplicate_pkts += 1;
        state->duplicate_pkts += 1;
    } else {
        flow->seen |= bit;
        flow->reordered_pkts += 1;
        state->reordered_pkts += 1;
        /* Numbers before the first arrival were never counted as missing. */
        if ((__s32)(flow->highest_seq - behind - flow->first_seq) > 0)
            flow->missing_pkts -= 1;
    }
}

static __always_inline void take_sequence(struct sink_state *state, struct sink_flow *flow, __u32 seq)
{
    __s32 ahead = seq - flow->highest_seq;

    if (!flow->pkts) {
        flow->first_seq = seq;
        flow->highest_seq = seq;
        flow->seen = 1;
    } else if (ahead > 0) {
        flow->seen = ahead < SINK_SEEN_WINDOW ? flow->seen << ahead | 1 : 1;
        flow->missing_pkts += ahead - 1;
        flow->gaps += ahead > 1;
        flow->highest_seq = seq;
    } else {
        take_late(state, flow, -ahead);
    }
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

static __always_inline void take(const struct packet *packet, const struct probe *probe, struct sink_flow *flow,
                                 __u64 now_ns)
{
    struct sink_state *state = &memory.state;
    __u64 sent_ns = bpf_be64_to_cpu(probe->sent_ns);
    __u64 delay_ns = now_ns > sent_ns ? now_ns - sent_ns : 0;
    __u32 bucket = delay_bucket(delay_ns);

    if (bucket < SINK_DELAY_BUCKETS)
        memory.delay_counts[bucket] += 1;
    if (!state->first_ns)
        state->first_ns = now_ns;
    state->last_ns = now_ns;
    state->delivered_bytes += packet->frame_bytes;
    state->delivered_pkts += 1;
    state->delay_sum_ns += delay_ns;
    state->negative_delay_pkts += now_ns < sent_ns;
    state->ce_pkts += (packet->tos & ECN_CE) == ECN_CE;
    if (delay_ns > state->delay_max_ns)
        state->delay_max_ns = delay_ns;
    if (!flow) {
        state->flow_overflow_pkts += 1;
        return;
    }
    take_sequence(state, flow, bpf_ntohl(probe->seq));
    take_epoch(flow, bpf_ntohl(probe->seq));
    take_first(flow, bpf_ntohl(probe->seq), delay_ns);
    flow->pkts += 1;
    flow->bytes += packet->frame_bytes;
    flow->last_ns = now_ns;
    if (delay_ns > flow->delay_max_ns)
        flow->delay_max_ns = delay_ns;
}

SEC("xdp")
int sink(struct xdp_md *context)
{
    struct packet packet = {};
    struct sink_flow *flow;
    struct probe *probe;
    struct spin *spin;
    enum parsed parsed = parse_packet(context, &packet);
    __u64 now_ns;
    __u32 index;

    probe = parsed == PARSED_IPV4 || parsed == PARSED_IPV6 ? find_probe(context, &packet) : NULL;
    if (!probe) {
        count(config.locked, &memory.state.passed_pkts);
        return XDP_PASS;
    }
    index = bpf_ntohl(probe->flow);
    flow = bpf_map_lookup_elem(&flows, &index); /* NULL beyond the last */
    now_ns = bpf_ktime_get_ns();
    spin = write_begin(config.locked, &memory.state.sequence);
    take(&packet, probe, flow, now_ns);
    write_end(spin, &memory.state.sequence);
    return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
