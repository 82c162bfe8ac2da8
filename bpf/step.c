/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The data plane of virtual time, packet by packet: what testbed/simulation/ computes with arrays, compiled.
 *
 *     plan -> switch (slot, pin) -> meter -> queue -> deliveries
 *
 * This is not a BPF program but a library, which the simulation loads if it has been compiled.  An array operation
 * costs about a microsecond however few packets there are, and a step between two ticks of three nodes needs about
 * thirty of them; here the cost depends only on the number of packets.  All state is in the arrays of the simulation's
 * objects (struct plane holds pointers to them), so both ways may be used within one run.  Their results are the same
 * to the last bit: all values are integers, and every sum below is the one that switch.py, meter.py and queues.py
 * compute.
 *
 * A step processes the packets that reach their buffers by its end, in the order of time.  For all packets of the step,
 * the switch uses the idle time of each flow at the beginning of the step.
 */
#include <stdint.h>

#define NS_PER_MS         1000000
#define NANOBITS_PER_BYTE 8000000000LL
#define NEVER             (-1)
#define UNPINNED          (-1)

/* In the order of `compiled.FIELDS`; every field is a pointer or an int64_t. */
struct plane {
    /* the plan, by packet */
    const int64_t *sent_ns;
    const int32_t *flow, *size_bytes;
    /* queues, by node */
    const int64_t *rate_bps, *floor_nb, *limit_nb;
    int64_t *debt_nb;
    /* the switch, by slot, flow and node */
    const int64_t *table;
    int64_t *slot, *pin, *seen_ns;
    uint8_t *strange;
    const uint8_t *removed;
    const int64_t *leads_to;
    int64_t *turn;
    /* the meter, by node */
    int64_t *sums, *read_sums; /* five rows each: arrived bytes, packets; dropped bytes, packets; new flows */
    int64_t *deflected_bytes, *marked_pkts, *gap_max_ns, *peak_bytes, *bin_bytes, *last_ns, *bin;
    /* losses by faults, by node; null without faults */
    const int64_t *discarded_bytes;
    /* admitted packets, four rows of `room`: departure, node, number, delay */
    int64_t *fresh;
    /* by flow: number of the step in which it was placed last, and counted as new */
    int64_t *placed, *counted;
    int64_t nodes, slots, meter_idle_ns, pin_idle_ns, in_turn, way_ns, node_ns, ecn_bytes, room;
    int64_t steps;
};

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t backlog_bytes(int64_t debt_nb)
{
    return debt_nb > 0 ? (debt_nb + NANOBITS_PER_BYTE - 1) / NANOBITS_PER_BYTE : 0;
}

static void count_new(struct plane *p, int32_t flow)
{
    if (p->counted[flow] == p->steps)
        return;
    p->counted[flow] = p->steps;
    p->sums[4 * p->nodes + p->leads_to[p->pin[flow]]]++;
}

/* Unpin flows that were silent for too long, and note which of them the nodes take for new ones. */
static void forget_silent(struct plane *p, int64_t begin, int64_t end, uint8_t *is_new)
{
    for (int64_t k = begin; k < end; k++) {
        int32_t flow = p->flow[k];
        int64_t silent_ns = p->sent_ns[k] + p->way_ns - p->seen_ns[flow];

        if (silent_ns >= p->pin_idle_ns)
            p->pin[flow] = UNPINNED;
        is_new[k - begin] = silent_ns > p->meter_idle_ns;
    }
    for (int64_t k = begin; k < end; k++)
        p->seen_ns[p->flow[k]] = p->sent_ns[k] + p->way_ns;
}

/* Give every flow of the step its node. */
static void place(struct plane *p, int64_t begin, int64_t end, uint8_t *is_new)
{
    for (int64_t k = begin; k < end; k++) {
        int32_t flow = p->flow[k];
        int64_t node = p->pin[flow];

        if (p->placed[flow] == p->steps || (node != UNPINNED && !p->removed[node]))
            continue;
        p->placed[flow] = p->steps;
        is_new[k - begin] = 1;
        if (p->in_turn) {
            p->slot[flow] = *p->turn;
            *p->turn = (*p->turn + 1) % p->slots;
        }
        p->pin[flow] = p->table[p->slot[flow]];
    }
    for (int64_t k = begin; k < end; k++)
        if (is_new[k - begin] || p->strange[p->flow[k]])
            count_new(p, p->flow[k]);
    for (int64_t k = begin; k < end; k++)
        p->strange[p->flow[k]] = 0;
}

static void measure(struct plane *p, int64_t node, int64_t t_ns, int64_t size_bytes)
{
    int64_t last_ns = p->last_ns[node], bin = t_ns / NS_PER_MS;

    p->sums[node] += size_bytes;
    p->sums[p->nodes + node]++;
    if (last_ns != NEVER)
        p->gap_max_ns[node] = larger(p->gap_max_ns[node], t_ns - last_ns);
    p->last_ns[node] = t_ns;
    p->bin_bytes[node] = size_bytes + (p->bin[node] == bin ? p->bin_bytes[node] : 0);
    p->bin[node] = bin;
    p->peak_bytes[node] = larger(p->peak_bytes[node], p->bin_bytes[node]);
}

/* Offer a packet to its queue, whose debt stands at `since_ns`; return whether it is admitted. */
static int offer(struct plane *p, int64_t node, int64_t t_ns, int64_t since_ns, int64_t size_bytes)
{
    int64_t found_nb = larger(p->floor_nb[node], p->debt_nb[node] - (t_ns - since_ns) * p->rate_bps[node]);
    int64_t length_nb = size_bytes * NANOBITS_PER_BYTE;

    p->debt_nb[node] = found_nb;
    if (larger(found_nb, 0) + length_nb > p->limit_nb[node]) {
        p->sums[2 * p->nodes + node] += size_bytes;
        p->sums[3 * p->nodes + node]++;
        return 0;
    }
    p->debt_nb[node] = found_nb + length_nb;
    if (p->ecn_bytes >= 0 && backlog_bytes(found_nb) > p->ecn_bytes)
        p->marked_pkts[node]++;
    return 1;
}

static void serve(struct plane *p, int64_t begin, int64_t end, int64_t now_ns, int64_t *since_ns, int64_t *fresh_pkts)
{
    for (int64_t k = begin; k < end; k++) {
        int64_t node = p->leads_to[p->pin[p->flow[k]]], t_ns = p->sent_ns[k] + p->way_ns, at = *fresh_pkts, leaves_ns;

        measure(p, node, t_ns, p->size_bytes[k]);
        if (since_ns[node] == NEVER)
            since_ns[node] = now_ns;
        if (offer(p, node, t_ns, since_ns[node], p->size_bytes[k])) {
            leaves_ns = t_ns + larger(p->debt_nb[node], 0) / p->rate_bps[node];
            p->fresh[at] = leaves_ns;
            p->fresh[p->room + at] = node;
            p->fresh[2 * p->room + at] = k;
            p->fresh[3 * p->room + at] = leaves_ns + p->node_ns - p->sent_ns[k];
            *fresh_pkts = at + 1;
        }
        since_ns[node] = t_ns;
    }
}

/*
 * Serve the packets from row `begin` of the plan on that are at their buffers by `until_ns`, none from row `end` on.
 *
 * scratch: by packet, bytes, `room` of them; by node, int64_t.  Return the first row that is left; `begin` when there
 * is nothing to serve; -1 when `fresh` has no room for the packets of the step, and then nothing has been changed.
 */
int64_t step(struct plane *p, int64_t begin, int64_t end, int64_t now_ns, int64_t until_ns, int64_t *fresh_pkts,
             uint8_t *is_new, int64_t *since_ns)
{
    int64_t last = begin;

    while (last < end && p->sent_ns[last] + p->way_ns <= until_ns)
        last++;
    if (last == begin)
        return begin;
    if (*fresh_pkts + last - begin > p->room)
        return -1;
    p->steps++;
    for (int64_t node = 0; node < p->nodes; node++)
        since_ns[node] = NEVER;
    forget_silent(p, begin, last, is_new);
    place(p, begin, last, is_new);
    serve(p, begin, last, now_ns, since_ns, fresh_pkts);
    for (int64_t node = 0; node < p->nodes; node++) {
        int64_t since = since_ns[node] == NEVER ? now_ns : since_ns[node];

        p->debt_nb[node] = larger(p->debt_nb[node] - (until_ns - since) * p->rate_bps[node], p->floor_nb[node]);
    }
    return last;
}

/* Write what nodes saw since they were read last into ten rows of `out`, and begin their next interval. */
void take_reading(struct plane *p, int64_t first, int64_t count, int64_t now_ns, int64_t *out)
{
    for (int64_t k = 0; k < count; k++) {
        int64_t node = first + k, *at = out + k, last_ns = p->last_ns[node], backlog = backlog_bytes(p->debt_nb[node]);

        for (int64_t row = 0; row < 5; row++) {
            int64_t sum = p->sums[row * p->nodes + node];

            at[row * count] = sum - p->read_sums[row * p->nodes + node];
            p->read_sums[row * p->nodes + node] = sum;
        }
        at[5 * count] = backlog;
        at[6 * count] = p->limit_nb[node] / NANOBITS_PER_BYTE;
        at[7 * count] = larger(p->gap_max_ns[node], last_ns == NEVER ? 0 : now_ns - last_ns);
        at[8 * count] = p->peak_bytes[node];
        at[9 * count] = p->sums[node] - p->sums[2 * p->nodes + node] - p->deflected_bytes[node] - backlog -
                        (p->discarded_bytes ? p->discarded_bytes[node] : 0);
        p->gap_max_ns[node] = 0;
        p->peak_bytes[node] = p->bin[node] == now_ns / NS_PER_MS ? p->bin_bytes[node] : 0;
    }
}
