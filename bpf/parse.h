/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Parsing: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with extension headers, UDP and TCP.
 *
 * A cursor walks the frame and every step is checked against its end.  The rules for what does not parse:
 *
 *   PARSED_OTHER      no IP behind at most two tags (ARP, LLDP, a third tag, ...), or ICMPv6 neighbour discovery
 *   PARSED_MALFORMED  the frame ends within a header it announces, a length field contradicts another or the frame, the
 *                     version is wrong, or the IPv4 header checksum is: the kernel would not forward it either
 *   PARSED_IPV4/6     all else.  `l4` points to a whole UDP or TCP header, or is NULL: a fragment (every one of a
 *                     datagram, the first too, so that all look alike), another protocol, or more extension headers
 *                     than we follow
 *
 * Bytes behind the IP packet's own length (Ethernet padding) belong to the frame but not to the packet.
 *
 * An IPv6 fragment header that neither announces more nor has an offset is that of a whole datagram.
 *
 * Source: RFC 791, RFC 8200 (headers), RFC 6946 (whole datagrams), RFC 1071 (checksum); the order of the checks is that
 * of ip_rcv() and ip6_rcv().
 */
#ifndef PARSE_H
#define PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* What the programs are given: an XDP frame, or what a program defines before it includes this. */
#ifndef FRAME
#define FRAME struct xdp_md
#endif

/* A function that the verifier checks once and separately; inlined, it would exceed the verifier's limit. */
#define CHECKED_ALONE __attribute__((noinline))

#define MAX_VLAN_TAGS              2
#define MAX_IPV6_EXTENSIONS        6
#define MIN_IPV4_WORDS             5
#define MAX_IPV4_WORDS             15
#define IPV4_FRAGMENT_BITS         0x3fff /* more fragments, offset */
#define IPV6_FRAGMENT_BITS         0xfff9 /* offset, more fragments */
#define ICMPV6_ROUTER_SOLICITATION 133
#define ICMPV6_REDIRECT            137
#define ICMPV6_HEADER_BYTES        4
#define SUM_CUT_OFF                (~0ULL)
#define EXTENSIONS_AT              0x3fff
#define EXTENSIONS_PROTOCOL        0x4000
#define EXTENSIONS_FRAGMENT        0x400000
#define EXTENSIONS_MALFORMED       0xffffffff

enum parsed {
    PARSED_OTHER,
    PARSED_MALFORMED,
    PARSED_IPV4,
    PARSED_IPV6,
};

struct vlan_tag {
    __be16 control;
    __be16 encapsulated;
};

struct cursor {
    void *at;
    void *end;
};

struct packet {
    struct ethhdr *eth;
    struct iphdr *ip4;
    struct ipv6hdr *ip6;
    void *l4;
    __u32 version; /* 4 or 6; the verifier does not take a packet pointer for proof that it is not NULL */
    __u32 frame_bytes;
    __u32 l4_bytes; /* of the IP packet, from l4 on */
    __u8 protocol;  /* IANA number; of the last header we could read */
    __u8 tos;       /* DSCP and ECN */
    __u8 ttl;
};

/* The checks below must stay comparisons of packet pointers: the verifier learns from nothing else. */
#define OPAQUE(value)             asm volatile("" : "+r"(value))
#define FITS(cursor, from, bytes) ((void *)(from) + (bytes) <= (cursor)->end)

static __always_inline __u32 ones_complement_fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

static __always_inline enum parsed parse_ports(struct cursor *cursor, struct packet *packet)
{
    __u32 header_bytes;

    if (packet->protocol == IPPROTO_UDP)
        header_bytes = sizeof(struct udphdr);
    else if (packet->protocol == IPPROTO_TCP)
        header_bytes = sizeof(struct tcphdr);
    else
        return PARSED_IPV4;
    if (packet->l4_bytes < header_bytes || !FITS(cursor, cursor->at, sizeof(struct udphdr)))
        return PARSED_MALFORMED;
    packet->l4 = cursor->at;
    return PARSED_IPV4;
}

/* Return the sum of `count` words of IPv4 options, counted from the start of the frame, or SUM_CUT_OFF. */
CHECKED_ALONE __u64 sum_options(FRAME *frame, __u32 at, __u32 count)
{
    void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
    __u64 sum = 0;

    if (at > EXTENSIONS_AT)
        return SUM_CUT_OFF;
    for (__u32 i = 0; i < count && i < MAX_IPV4_WORDS - MIN_IPV4_WORDS; i++) {
        __u32 *word = data + at + i * sizeof(*word);

        OPAQUE(word); /* or clang makes one check of ten that the verifier cannot follow */
        if ((void *)(word + 1) > end)
            return SUM_CUT_OFF;
        sum += *word;
    }
    return sum;
}

static __always_inline enum parsed parse_ipv4(FRAME *frame, struct cursor *cursor, struct packet *packet)
{
    struct iphdr *ip = cursor->at;
    __u32 *words = cursor->at;
    __u32 total_bytes;
    __u64 sum;

    if (!FITS(cursor, ip, sizeof(*ip)) || ip->version != 4 || ip->ihl < MIN_IPV4_WORDS)
        return PARSED_MALFORMED;
    total_bytes = bpf_ntohs(ip->tot_len);
    /* Written as a difference of pointers' offsets: both ends of the packet are known only at run time. */
    if (total_bytes < ip->ihl * 4u || total_bytes > (__u64)(cursor->end - cursor->at))
        return PARSED_MALFORMED;
    sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];
    if (ip->ihl > MIN_IPV4_WORDS) {
        __u64 options = sum_options(frame, (void *)(ip + 1) - (void *)packet->eth, ip->ihl - MIN_IPV4_WORDS);

        if (options == SUM_CUT_OFF)
            return PARSED_MALFORMED;
        sum += options;
    }
    if (ones_complement_fold(sum) != 0xffff)
        return PARSED_MALFORMED;

    packet->ip4 = ip;
    packet->version = 4;
    packet->protocol = ip->protocol;
    packet->tos = ip->tos;
    packet->ttl = ip->ttl;
    packet->l4_bytes = total_bytes - ip->ihl * 4u;
    if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_BITS))
        return PARSED_IPV4;
    cursor->at += ip->ihl * 4u;
    return parse_ports(cursor, packet);
}

static __always_inline int is_ipv6_extension(__u8 protocol)
{
    return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS ||
           protocol == IPPROTO_AH || protocol == IPPROTO_FRAGMENT;
}

/* Return the length of an extension header, by its own word. */
static __always_inline __u32 ipv6_extension_bytes(__u8 protocol, __u8 hdrlen)
{
    if (protocol == IPPROTO_FRAGMENT)
        return 8;
    if (protocol == IPPROTO_AH)
        return (hdrlen + 2u) * 4; /* RFC 4302, section 2.2 */
    return (hdrlen + 1u) * 8;
}

/*
 * Step over the extension headers from `at`, counted from the start of the frame, on, of which `bytes` of the packet
 * are left.  Return where they end, the protocol behind them times EXTENSIONS_PROTOCOL, and EXTENSIONS_FRAGMENT for a
 * fragment, where the walk ends too; or EXTENSIONS_MALFORMED.
 */
CHECKED_ALONE __u32 skip_ipv6_extensions(FRAME *frame, __u32 at, __u32 protocol, __u32 bytes)
{
    void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;

    for (int i = 0; i < MAX_IPV6_EXTENSIONS && is_ipv6_extension(protocol); i++) {
        struct ipv6_opt_hdr *header = data + at;
        __u32 own_bytes;
        __u8 kind = protocol;

        if (at > EXTENSIONS_AT || (void *)header + 8 > end)
            return EXTENSIONS_MALFORMED;
        own_bytes = ipv6_extension_bytes(kind, header->hdrlen);
        if (own_bytes > bytes)
            return EXTENSIONS_MALFORMED;
        protocol = header->nexthdr;
        bytes -= own_bytes;
        at += own_bytes;
        if (kind == IPPROTO_FRAGMENT && ((__be16 *)header)[1] & bpf_htons(IPV6_FRAGMENT_BITS))
            return (at & EXTENSIONS_AT) | protocol * EXTENSIONS_PROTOCOL | EXTENSIONS_FRAGMENT;
    }
    return at > EXTENSIONS_AT ? EXTENSIONS_MALFORMED : at | protocol * EXTENSIONS_PROTOCOL;
}

static __always_inline enum parsed parse_icmpv6(struct cursor *cursor, struct packet *packet)
{
    __u8 *type = cursor->at;

    if (packet->l4_bytes < ICMPV6_HEADER_BYTES || !FITS(cursor, type, ICMPV6_HEADER_BYTES))
        return PARSED_MALFORMED;
    if (*type >= ICMPV6_ROUTER_SOLICITATION && *type <= ICMPV6_REDIRECT)
        return PARSED_OTHER;
    return PARSED_IPV6;
}

static __always_inline enum parsed parse_ipv6(FRAME *frame, struct cursor *cursor, struct packet *packet)
{
    struct ipv6hdr *ip = cursor->at;

    if (!FITS(cursor, ip, sizeof(*ip)) || ip->version != 6)
        return PARSED_MALFORMED;
    packet->l4_bytes = bpf_ntohs(ip->payload_len);
    if (packet->l4_bytes + sizeof(*ip) > (__u64)(cursor->end - cursor->at))
        return PARSED_MALFORMED;
    packet->ip6 = ip;
    packet->version = 6;
    packet->protocol = ip->nexthdr;
    packet->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
    packet->ttl = ip->hop_limit;
    cursor->at += sizeof(*ip);
    if (is_ipv6_extension(packet->protocol)) {
        __u32 from = cursor->at - (void *)packet->eth;
        __u32 found = skip_ipv6_extensions(frame, from, packet->protocol, packet->l4_bytes);
        __u32 to = found & EXTENSIONS_AT;

        if (found == EXTENSIONS_MALFORMED)
            return PARSED_MALFORMED;
        packet->protocol = found / EXTENSIONS_PROTOCOL;
        packet->l4_bytes -= to - from;
        cursor->at = (void *)packet->eth + to;
        if (found & EXTENSIONS_FRAGMENT)
            return PARSED_IPV6;
    }
    if (packet->protocol == IPPROTO_ICMPV6)
        return parse_icmpv6(cursor, packet);
    return parse_ports(cursor, packet) == PARSED_MALFORMED ? PARSED_MALFORMED : PARSED_IPV6;
}

static __always_inline enum parsed parse_packet(FRAME *frame, struct packet *packet)
{
    struct cursor cursor = {(void *)(long)frame->data, (void *)(long)frame->data_end};
    struct ethhdr *eth = cursor.at;
    __be16 protocol;

    packet->eth = eth;
    packet->frame_bytes = cursor.end - cursor.at;
    if (!FITS(&cursor, eth, sizeof(*eth)))
        return PARSED_MALFORMED;
    protocol = eth->h_proto;
    cursor.at += sizeof(*eth);
#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        struct vlan_tag *tag = cursor.at;

        if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
            break;
        if (!FITS(&cursor, tag, sizeof(*tag)))
            return PARSED_MALFORMED;
        protocol = tag->encapsulated;
        cursor.at += sizeof(*tag);
    }
    if (protocol == bpf_htons(ETH_P_IP))
        return parse_ipv4(frame, &cursor, packet);
    if (protocol == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(frame, &cursor, packet);
    return PARSED_OTHER;
}

#endif
