/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The buffer: a fluid queue behind a token bucket, exact in integers.
 *
 * The node's egress is a token bucket of depth B served at rate C over a FIFO (kernel: sch_tbf).  Its state is one
 * number, the debt v: when positive the bytes that wait, when negative the tokens saved up.  A packet of length L that
 * comes dt after the last one finds
 *
 *     v <- max(-B, v - C dt)          backlog q = max(0, v)
 *
 * and is admitted, v <- v + L, if q + L <= limit; otherwise v stays.  With B = 0 this is Lindley's recursion.  A limit
 * below the backlog (after a shrink) takes nothing from the queue; it admits nothing until the queue has drained.
 *
 * Against the real qdisc: whole packets leave there, parts of them here, so the two differ by at most the packet in
 * service and the one that waits for tokens.
 *
 * The packet leaves when all that is in the queue with it has been served: v / C later, at once when v is negative. The
 * division is a multiplication by 2^(32 + shift) / C, exact to half a byte and a part in 2^31.
 *
 * Integers.  All in nanobits, see testbed_abi.h: nothing is rounded.  The pause full_drain_ns (user space: the time to
 * serve the largest queue and fill the bucket) empties the queue whatever was in it; within a shorter one C dt is below
 * 10^9 + B bytes, so that v - C dt > -(10^9 + 2 B) bytes, above -2^63 for the largest B.
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

/* Return after how long the link has sent what is in the queue. */
static __always_inline __u64 queue_wait_ns(__s64 debt_nb, const volatile struct node_config *config)
{
    return (queue_backlog_nb(debt_nb) >> 32) * config->wait_factor >> config->wait_shift;
}

/* Return whether a queue may take in `bytes` more. */
static __always_inline int queue_has_room(__s64 debt_nb, __u64 bytes, __u64 limit_bytes)
{
    return queue_backlog_nb(debt_nb) + bytes * NANOBITS_PER_BYTE <= limit_bytes * NANOBITS_PER_BYTE;
}

#endif
