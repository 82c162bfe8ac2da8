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
 *                     datagram, so that all look alike), another protocol, or more extension headers than we follow
 *
 * Bytes behind the IP packet's own length (Ethernet padding) belong to the frame but not to the packet.
 *
 * Source: RFC 791, RFC 8200 (headers), RFC 1071 (checksum); the order of the checks is that of ip_rcv() and ip6_rcv().
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

#define MAX_VLAN_TAGS              2
#define MAX_IPV6_EXTENSIONS        6
#define MIN_IPV4_WORDS             5
#define MAX_IPV4_WORDS             15
#define IPV4_FRAGMENT_BITS         0x3fff /* more fragments, offset */
#define ICMPV6_ROUTER_SOLICITATION 133
#define ICMPV6_REDIRECT            137
#define ICMPV6_HEADER_BYTES        4

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

static __always_inline enum parsed parse_ipv4(struct cursor *cursor, struct packet *packet)
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
    for (__u32 i = MIN_IPV4_WORDS; i < ip->ihl && i < MAX_IPV4_WORDS; i++) {
        __u32 *word = &words[i];

        OPAQUE(word); /* or clang makes one check of ten that the verifier cannot follow */
        if (!FITS(cursor, word, sizeof(*word)))
            return PARSED_MALFORMED;
        sum += *word;
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

/* Step over one extension header.  Returns 1 when there may be another, 0 at the end, -1 when it is cut off. */
static __always_inline int parse_ipv6_extension(struct cursor *cursor, struct packet *packet, int *fragment)
{
    struct ipv6_opt_hdr *header = cursor->at;
    __u32 bytes;

    switch (packet->protocol) {
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_DSTOPTS:
    case IPPROTO_AH:
    case IPPROTO_FRAGMENT:
        break;
    default:
        return 0;
    }
    if (!FITS(cursor, header, 8))
        return -1;
    bytes = (header->hdrlen + 1u) * 8;
    if (packet->protocol == IPPROTO_AH)
        bytes = (header->hdrlen + 2u) * 4; /* RFC 4302, section 2.2 */
    if (packet->protocol == IPPROTO_FRAGMENT) {
        bytes = 8;
        *fragment = 1;
    }
    if (packet->l4_bytes < bytes || !FITS(cursor, header, bytes))
        return -1;
    packet->protocol = header->nexthdr;
    packet->l4_bytes -= bytes;
    cursor->at += bytes;
    return *fragment ? 0 : 1;
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

static __always_inline enum parsed parse_ipv6(struct cursor *cursor, struct packet *packet)
{
    struct ipv6hdr *ip = cursor->at;
    int fragment = 0;

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
#pragma unroll
    for (int i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
        int more = parse_ipv6_extension(cursor, packet, &fragment);

        if (more < 0)
            return PARSED_MALFORMED;
        if (!more)
            break;
    }
    if (fragment)
        return PARSED_IPV6;
    if (packet->protocol == IPPROTO_ICMPV6)
        return parse_icmpv6(cursor, packet);
    return parse_ports(cursor, packet) == PARSED_MALFORMED ? PARSED_MALFORMED : PARSED_IPV6;
}

static __always_inline enum parsed parse_packet(struct xdp_md *context, struct packet *packet)
{
    struct cursor cursor = {(void *)(long)context->data, (void *)(long)context->data_end};
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
        return parse_ipv4(&cursor, packet);
    if (protocol == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(&cursor, packet);
    return PARSED_OTHER;
}

#endif
