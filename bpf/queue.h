/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The buffer: a fluid queue behind a token bucket, exact in integers.
 *
 * The egress of the node is a FIFO behind a token bucket of depth B that is filled at rate C (kernel: sch_tbf).  Its
 * state is one number, the debt v: if positive, the bytes that wait; if negative, the saved tokens.  A packet of length
 * L that arrives dt after the previous one finds
 *
 *     v <- max(-B, v - C dt)          backlog q = max(0, v)
 *
 * and is admitted, v <- v + L, if q + L <= limit; otherwise v does not change.  With B = 0 this is Lindley's recursion.
 * If the limit is below the backlog (after a shrink), no packet is removed from the queue, but none is admitted until
 * the queue has drained to the limit.
 *
 * Difference from the real qdisc: whole packets leave there, parts of packets here.  So the two differ by at most the
 * packet in service and the packet that waits for tokens.
 *
 * A packet leaves when everything in the queue, itself included, has been served: v / C later, or at once if v is
 * negative.  The division is a multiplication by 2^(32 + shift) / C, exact to half a byte and one part in 2^31.
 *
 * Integers.  All values are in nanobits (10^-9 bit, see testbed_abi.h), so nothing is rounded.  A pause of
 * full_drain_ns (computed by user space: the time to serve the largest queue and fill the bucket) empties the queue,
 * whatever was in it.  In a shorter pause C dt is below 10^9 + B bytes, so that v - C dt > -(10^9 + 2 B) bytes, which
 * is above -2^63 for the largest B.
 *
 * Source: Lindley, "The theory of queues with a single server" (1952); Linux, net/sched/sch_tbf.c (the model).
 */
#ifndef QUEUE_H
#define QUEUE_H

#include "testbed_abi.h"

/* Return the debt after `dt_ns` of service. */
static __always_inline __s64 queue_served_nb(__s64 debt_nb, __u64 dt_ns, const volatile struct node_config *config)
{
    __s64 floor_nb = -config->bucket_nb;

    if (dt_ns >= config->full_drain_ns)
        return floor_nb;
    debt_nb -= (__s64)(dt_ns * config->rate_bps);
    return debt_nb < floor_nb ? floor_nb : debt_nb;
}

static __always_inline __u64 queue_backlog_nb(__s64 debt_nb)
{
    return debt_nb > 0 ? debt_nb : 0;
}

/* Return how long the link needs to send the content of the queue. */
static __always_inline __u64 queue_wait_ns(__s64 debt_nb, const volatile struct node_config *config)
{
    return (queue_backlog_nb(debt_nb) >> 32) * config->wait_factor >> config->wait_shift;
}

/* Return whether `bytes` more fit into the queue. */
static __always_inline int queue_has_room(__s64 debt_nb, __u64 bytes, __u64 limit_bytes)
{
    return queue_backlog_nb(debt_nb) + bytes * NANOBITS_PER_BYTE <= limit_bytes * NANOBITS_PER_BYTE;
}

#endif
