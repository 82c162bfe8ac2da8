/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The buffer node: meter and fluid queue at the ingress of its data interface.
 *
 * What happens to a frame, first rule that applies:
 *
 *   cut off, self-contradicting, wrong IPv4 header checksum     drop    malformed_pkts
 *   no IP, neighbour discovery, group or foreign address        pass    passed_other_pkts
 *   to an address of the node itself                            pass    passed_local_pkts
 *   TTL or hop limit 0 or 1: the kernel would not forward it    drop    ttl_expired_pkts
 *   the node has crashed                                        drop    crashed_pkts
 *   lost on the way, by a fault of the scenario                 drop    lost_pkts
 *   fits into the queue, above the ECN threshold, ECN-capable   pass    arrived, marked (CE)
 *   fits into the queue                                         pass    arrived
 *   full, a sibling is named, not deflected before              TX      arrived, deflected
 *   full                                                        drop    arrived, dropped
 *
 * "Pass" hands the packet to the kernel, which forwards it and decrements its TTL. A deflected packet goes back to
 * where it came from, so its TTL is decremented here.  Lengths are those of the frame, including tags.  Fragments and
 * unknown protocols are queued like other packets; the fragments of a datagram count as one flow.  Each planned packet
 * that is dropped is recorded with the reason (identity.h).  If the time of a packet is earlier than that of the
 * previous one (possible only in generic mode, where CPUs compete for the lock), both count as simultaneous.  A crashed
 * node passes no frame of any kind to its kernel, so that the kernel answers nothing.
 */
#include "meter.h"
#include "parse.h"
#include "queue.h"
#include "ranges.h"
#include "rewrite.h"
#include "sequence.h"
#include "stage.h"
#include "times.h"

enum verdict {
    VERDICT_ADMIT,
    VERDICT_ADMIT_MARKED,
    VERDICT_DEFLECT,
    VERDICT_DROP,
};

#define ROUTABLE 1
#define LOCAL    2

#define VERDICT_SHIFT  62
#define MAX_DEPARTS_NS ((1ULL << VERDICT_SHIFT) - 1)

const volatile struct node_config config SEC(".rodata");
volatile struct node_control control SEC(".data");
struct node_memory memory;

/* Resized by user space before the program is loaded. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct node_fates);
} fates SEC(".maps");

enum fate {
    FATE_DROPPED,
    FATE_CRASHED,
    FATE_LOST,
};

/* Return whether an IPv4 destination lies beyond the node: not this network, loopback, multicast or reserved. */
static __always_inline int is_routable4(__be32 address)
{
    __u8 first = bpf_ntohl(address) >> 24;

    return first != 0 && first != 127 && first < 224;
}

/* Return whether an IPv6 destination lies beyond the node: not ::/64, link-local or multicast. */
static __always_inline int is_routable6(__u64 high)
{
    __u64 host_order = bpf_be64_to_cpu(high);

    return host_order != 0 && host_order >> 56 != 0xff && host_order >> 54 != 0xfe80 >> 6;
}

static __always_inline int is_local4(__be32 address)
{
    return address == config.local_ip4[0] || address == config.local_ip4[1] || address == config.local_ip4[2] ||
           address == config.local_ip4[3];
}

static __always_inline int is_local6(__u64 high, __u64 low)
{
#pragma unroll
    for (int i = 0; i < NODE_LOCAL_ADDRESSES; i++)
        if (low == config.local_ip6[i][1] && high == config.local_ip6[i][0])
            return 1;
    return 0;
}

/* Return whether a destination is routable and whether it is the node; given numbers only, like `take_in`. */
CHECKED_ALONE __u32 whose4(__be32 address)
{
    return (is_routable4(address) ? ROUTABLE : 0) | (is_local4(address) ? LOCAL : 0);
}

CHECKED_ALONE __u32 whose6(__u64 high, __u64 low)
{
    return (is_routable6(high) ? ROUTABLE : 0) | (is_local6(high, low) ? LOCAL : 0);
}

static __always_inline int is_to_us(const struct packet *packet)
{
    __u64 mac = load_mac(packet->eth->h_dest);

    return !(mac & 1) && (mac & config.mac_mask) == config.mac;
}

/* What the queue needs to know of a packet, in one number, so that the verifier checks it once. */
#define TOS_MASK        0xff
#define DEFLECTED_SHIFT 8
#define BYTES_SHIFT     32

static __always_inline __u64 packet_facts(const struct packet *packet)
{
    return (__u64)packet->frame_bytes << BYTES_SHIFT | (__u64)was_deflected(packet) << DEFLECTED_SHIFT | packet->tos;
}

/* Queue and meter one packet; the only part that changes the state, hence within the sequence lock. */
static __always_inline enum verdict admit(__u64 facts, __u64 now_ns, __u32 cell, __u64 sibling)
{
    struct node_state *state = &memory.state;
    __u64 ecn_bytes = control.ecn_threshold_bytes;
    __u8 tos = facts & TOS_MASK;
    __u32 k = control.class_of_dscp[tos >> 2] % NODE_CLASSES;
    __u64 bytes = facts >> BYTES_SHIFT;
    struct node_bin *bin;
    __s64 debt_nb;
    int deflected_before = facts >> DEFLECTED_SHIFT & 1;

    if (now_ns < state->t_ns)
        now_ns = state->t_ns;
    bin = meter_bin(&memory, now_ns);
    meter_arrival(&memory, bin, k, bytes, meter_gap_ns(state->t_ns, now_ns),
                  meter_is_new_flow(&memory, cell, now_ns, config.flow_idle));
    debt_nb = queue_served_nb(state->debt_nb, now_ns - state->t_ns, &config);
    state->t_ns = now_ns;
    state->debt_nb = debt_nb;
    if (deflected_before)
        state->deflected_in_pkts[k] += 1;

    if (!queue_has_room(debt_nb, bytes, control.limit_bytes)) {
        if ((sibling & NODE_SIBLING_ENABLED) && !deflected_before) {
            state->deflected_bytes[k] += bytes;
            state->deflected_pkts[k] += 1;
            return VERDICT_DEFLECT;
        }
        state->classes[k].dropped_bytes += bytes;
        state->classes[k].dropped_pkts += 1;
        return VERDICT_DROP;
    }
    state->debt_nb = debt_nb + (__s64)(bytes * NANOBITS_PER_BYTE);
    if (state->debt_nb > (__s64)bin->backlog_max_nb)
        bin->backlog_max_nb = state->debt_nb;
    if (ecn_bytes && queue_backlog_nb(debt_nb) > ecn_bytes * NANOBITS_PER_BYTE && is_ecn_capable(tos)) {
        state->classes[k].marked_pkts += 1;
        return VERDICT_ADMIT_MARKED;
    }
    return VERDICT_ADMIT;
}

/* Record which planned packet ends here. */
CHECKED_ALONE int note(struct xdp_md *context, __u32 probe_at, enum fate fate)
{
    void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    __u32 number = planned_number(data, end, probe_at, config.run);
    __u32 index = number / PACKETS_A_WORD;
    struct node_fates *word;
    __u64 before;

    if (number == NOT_PLANNED)
        return 0;
    word = bpf_map_lookup_elem(&fates, &index);
    if (!word)
        return 0;
    if (fate == FATE_DROPPED)
        before = __sync_fetch_and_or(&word->dropped, bit_of(number));
    else if (fate == FATE_CRASHED)
        before = __sync_fetch_and_or(&word->crashed, bit_of(number));
    else
        before = __sync_fetch_and_or(&word->lost, bit_of(number));
    if (before & bit_of(number))
        count(config.locked, &memory.state.repeated_pkts);
    return 0;
}

/*
 * Measure how late a packet of our run was sent, and how long it took from the client to here. If it is admitted, write
 * into it the time at which the queue will release it; `departs_ns` is 0 for any other packet.
 */
CHECKED_ALONE int measure(struct xdp_md *context, __u32 probe_at, __u64 now_ns, __u64 departs_ns)
{
    void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct probe *probe = find_probe(data, end, probe_at);
    __u64 sent_ns, way_ns;

    if (!probe || probe->run != bpf_htonl(config.run))
        return 0;
    sent_ns = bpf_be64_to_cpu(probe->sent_ns);
    way_ns = stage_ns(sent_ns + config.way_delay_ns, now_ns);
    stage_count(config.locked, &memory.way, way_ns);
    stage_note(control.t0_ns, now_ns, way_ns, stage_ns(control.t0_ns + bpf_be64_to_cpu(probe->planned_ns), sent_ns));
    if (departs_ns)
        probe->planned_ns = bpf_cpu_to_be64(departs_ns | PROBE_DEPARTS);
    return 0;
}

/* Keep when a packet of the plan came to the buffer of this node. */
CHECKED_ALONE int keep_time(struct xdp_md *context, __u32 probe_at, __u64 now_ns)
{
    void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct packet_time *time = times_of(planned_number(data, end, probe_at, config.run));

    if (!time)
        return 0;
    time->arrived_ns = now_ns;
    time->node = config.number;
    return 0;
}

/*
 * Queue and meter one packet under the lock. Return the verdict in the two highest bits, and in the others the time at
 * which the queue will have sent its present content. A separate function that is given numbers only: otherwise the
 * verifier would check it once for each path through the parser.
 */
CHECKED_ALONE __u64 take_in(__u64 facts, __u64 now_ns, __u32 cell, __u64 sibling)
{
    struct spin *spin = write_begin(config.locked, &memory.state.sequence);
    enum verdict verdict = admit(facts, now_ns, cell % NODE_FLOW_CELLS, sibling);
    __u64 departs_ns = now_ns + queue_wait_ns(memory.state.debt_nb, &config);

    write_end(spin, &memory.state.sequence);
    return (__u64)verdict << VERDICT_SHIFT | (departs_ns < MAX_DEPARTS_NS ? departs_ns : MAX_DEPARTS_NS);
}

static __always_inline enum xdp_action buffer(struct xdp_md *context, struct packet *packet)
{
    __u64 sibling = control.sibling; /* read once: user space may change it at any time */
    __u32 cell = meter_flow_cell(packet), at = probe_at(packet);
    __u64 now_ns = bpf_ktime_get_ns();
    __u64 taken = take_in(packet_facts(packet), now_ns, cell, sibling);
    enum verdict verdict = taken >> VERDICT_SHIFT;
    __u64 departs_ns = taken & MAX_DEPARTS_NS;

    if (at != NO_PROBE)
        measure(context, at, now_ns, verdict == VERDICT_ADMIT || verdict == VERDICT_ADMIT_MARKED ? departs_ns : 0);
    if (config.timed && verdict != VERDICT_DEFLECT)
        keep_time(context, at, now_ns);
    switch (verdict) {
    case VERDICT_ADMIT:
        return XDP_PASS;
    case VERDICT_ADMIT_MARKED:
        mark_congestion(packet);
        return XDP_PASS;
    case VERDICT_DEFLECT:
        deflect(packet, sibling, config.number);
        return XDP_TX;
    default:
        note(context, at, FATE_DROPPED);
        return XDP_DROP;
    }
}

static __always_inline enum xdp_action swallow(struct xdp_md *context, const struct packet *packet)
{
    __u32 k = control.class_of_dscp[packet->tos >> 2] % NODE_CLASSES;

    count(config.locked, &memory.state.crashed_pkts[k]);
    note(context, probe_at(packet), FATE_CRASHED);
    return XDP_DROP;
}

/*
 * Return whether the next packet is lost on the way.  The n-th draw is a hash of seed and n, so a run with the same
 * seed loses the n-th packet again.  Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
 * (2014), the mixing function of SplitMix64.
 */
CHECKED_ALONE int draw_loss(void)
{
    __u64 number = __sync_fetch_and_add(&memory.state.loss_draws, 1);
    __u64 z = control.loss_seed + (number + 1) * 0x9e3779b97f4a7c15ULL;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return (z ^ z >> 31) >> 32 < control.loss_threshold;
}

static __always_inline enum xdp_action lose(struct xdp_md *context, const struct packet *packet)
{
    __u32 k = control.class_of_dscp[packet->tos >> 2] % NODE_CLASSES;

    count(config.locked, &memory.state.lost_pkts[k]);
    note(context, probe_at(packet), FATE_LOST);
    return XDP_DROP;
}

static __always_inline enum xdp_action handle(struct xdp_md *context)
{
    struct node_state *state = &memory.state;
    struct packet packet = {};
    __u32 whose;

    switch (parse_packet(context, &packet)) {
    case PARSED_MALFORMED:
        count(config.locked, &state->malformed_pkts);
        return XDP_DROP;
    case PARSED_OTHER:
        count(config.locked, &state->passed_other_pkts);
        return XDP_PASS;
    case PARSED_IPV4:
        whose = whose4(packet.ip4->daddr);
        break;
    default: {
        const __u8 *address = (const void *)&packet.ip6->daddr;

        whose = whose6(load64(address), load64(address + 8));
    }
    }
    if (!(whose & ROUTABLE) || !is_to_us(&packet)) {
        count(config.locked, &state->passed_other_pkts);
        return XDP_PASS;
    }
    if (whose & LOCAL) {
        count(config.locked, &state->passed_local_pkts);
        return XDP_PASS;
    }
    if (packet.ttl <= 1) {
        count(config.locked, &state->ttl_expired_pkts);
        return XDP_DROP;
    }
    if (control.crashed)
        return swallow(context, &packet);
    if (control.loss_threshold && draw_loss())
        return lose(context, &packet);
    return buffer(context, &packet);
}

SEC("xdp")
int node(struct xdp_md *context)
{
    enum xdp_action action = handle(context);

    return action == XDP_PASS && control.crashed ? XDP_DROP : action;
}

char _license[] SEC("license") = "Dual BSD/GPL";
