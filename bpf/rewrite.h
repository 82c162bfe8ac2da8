/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Changes to a packet: ECN mark, TTL, addresses of a deflected frame.
 *
 * The IPv4 checksum is updated, not recomputed: HC' = ~(~HC + ~m + m') for a 16-bit word m that becomes m'.
 *
 * Source: RFC 1624, equation 3; RFC 3168, section 5 (ECN field).
 */
#ifndef REWRITE_H
#define REWRITE_H

#include "parse.h"
#include "testbed_abi.h"

#define ECN_MASK       3
#define ECN_CE         3
#define IPV6_ECN_SHIFT 4 /* of the ECN field within the header's second byte */

static __always_inline int is_ecn_capable(__u8 tos)
{
    __u8 ecn = tos & ECN_MASK;

    return ecn == 1 || ecn == 2;
}

static __always_inline void replace_in_checksum(struct iphdr *ip, __be16 before, __be16 after)
{
    __u32 sum = (__u16)~ip->check + (__u16)~before + after;

    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ip->check = ~sum;
}

static __always_inline void mark_congestion(struct packet *packet)
{
    if (packet->version == 4) {
        __be16 *first = (__be16 *)packet->ip4;
        __be16 before = *first;

        packet->ip4->tos = packet->tos | ECN_CE;
        replace_in_checksum(packet->ip4, before, *first);
    } else {
        packet->ip6->flow_lbl[0] |= ECN_CE << IPV6_ECN_SHIFT;
    }
}

static __always_inline void decrement_ttl(struct packet *packet)
{
    if (packet->version == 4) {
        __be16 *ttl_and_protocol = (__be16 *)&packet->ip4->ttl;
        __be16 before = *ttl_and_protocol;

        packet->ip4->ttl = packet->ttl - 1;
        replace_in_checksum(packet->ip4, before, *ttl_and_protocol);
    } else {
        packet->ip6->hop_limit = packet->ttl - 1;
    }
}

static __always_inline __u64 load_mac(const __u8 *mac)
{
    return *(const __u32 *)mac | (__u64) * (const __u16 *)(mac + 4) << 32;
}

static __always_inline void store_mac(__u8 *mac, __u64 value)
{
    *(__u32 *)mac = value;
    *(__u16 *)(mac + 4) = value >> 32;
}

/* A frame that was deflected once carries 02:de:f1 and the number of the node that did it as its source address. */
static __always_inline int was_deflected(const struct packet *packet)
{
    return (load_mac(packet->eth->h_source) & 0xffffff) == DEFLECT_MARK;
}

static __always_inline void deflect(struct packet *packet, __u64 sibling, __u32 number)
{
    __u32 wire_number = bpf_htonl(number << 8); /* three bytes, highest first */

    store_mac(packet->eth->h_dest, sibling);
    store_mac(packet->eth->h_source, DEFLECT_MARK | (__u64)wire_number << 24);
    decrement_ttl(packet);
}

#endif
