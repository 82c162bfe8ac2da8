/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the BPF programs and user space share: constants, struct layouts, verdicts.
 *
 * User space (testbed/emulation/dataplane/xdp_abi.py) states the same layouts for numpy; tests/test_libbpf.py compares
 * them field by field with the BTF of the compiled programs.  Every struct lives in a global variable, one a section,
 * so that it starts at offset 0 of a memory-mappable array map:
 *
 *   .rodata  struct node_config, sink_config    frozen when the program is loaded; the verifier knows the values
 *   .data    struct node_control, sink_control  written by user space while packets flow
 *   .bss     struct node_memory, sink_memory    written by the program
 *
 * Quantities.  The queue counts NANOBITS (bits * 10^9): what a link of r bit/s drains in t ns is exactly r * t of them,
 * so the queue needs no division and rounds nothing.  A byte is 8 * 10^9 nanobits; a signed 64-bit integer holds
 * 1.15 GB of them, hence the caps below.
 */
#ifndef TESTBED_ABI_H
#define TESTBED_ABI_H

#include <linux/types.h>

#define NANOBITS_PER_BYTE 8000000000LL
#define QUEUE_CAP_BYTES   1000000000LL /* the largest limit */
#define BUCKET_CAP_BYTES  50000000LL   /* the deepest token bucket */

#define NODE_CLASSES         8
#define NODE_LOCAL_ADDRESSES 4
#define NODE_BINS            4096
#define NODE_BIN_NS          1000000
#define NODE_FLOW_CELLS      65536
#define NODE_FLOW_AGE_SHIFT  20 /* flow ages count 2^20 ns */
#define NODE_SIBLING_ENABLED (1ULL << 63)
#define DEFLECT_MARK         0xf1de02 /* source address 02:de:f1:..., first three bytes in memory order */

#define PROBE_MAGIC        0x54425042 /* "TBPB" */
#define SINK_DELAY_LINEAR  64   /* delays below this have a bucket each, and so many buckets has each octave above */
#define SINK_DELAY_OCTAVES 30   /* 2^6 .. 2^36 ns = 69 s */
#define SINK_DELAY_BUCKETS 1984 /* SINK_DELAY_LINEAR * (1 + SINK_DELAY_OCTAVES) */

/* --------------------------------------------------------------------------------------------------- identity */

/* The numbers of a flow's packets in the plan, see identity.h. */
struct packet_range {
    __u32 first;
    __u32 count;
};

/* When one packet of the plan was seen, CLOCK_MONOTONIC; 0: it was not. */
struct packet_time {
    __u64 arrived_ns;   /* at the buffer of a node, the last one if it was deflected */
    __u64 delivered_ns; /* at a sink, the first time */
    __u64 node;         /* number of that node */
};

/* ------------------------------------------------------------------------------------------------------ stage */

#define STAGE_FINE_SHIFT   12      /* buckets of 2^12 ns = 4 us */
#define STAGE_FINE_BUCKETS 4096    /* up to 2^24 ns = 16.8 ms */
#define STAGE_COARSE_SHIFT 22      /* above that, of 2^22 ns = 4.2 ms */
#define STAGE_COARSE_FIRST 4       /* 2^24 >> 22 */
#define STAGE_BUCKETS      5116    /* STAGE_FINE_BUCKETS + (2^32 >> 22) - STAGE_COARSE_FIRST */
#define STAGE_NOTED_NS     1000000 /* shorter times are not kept in slots */
#define STAGE_SLOT_SHIFT   24      /* slots of 2^24 ns = 16.8 ms */

/* How long packets took over a stage. */
struct stage {
    __u64 counts[STAGE_BUCKETS];
};

/* The maxima of a time slot; at most 2^32 - 1 ns. */
struct stage_slot {
    __u32 taken_max_ns; /* over the stage that ends here */
    __u32 late_max_ns;  /* send lateness; the sink leaves it 0 */
};

/* ------------------------------------------------------------------------------------------------------- node */

struct node_config {
    __u64 rate_bps;
    __u64 full_drain_ns; /* a pause of this length empties any queue and fills the bucket */
    __s64 bucket_nb;
    __u64 mac;                                /* own address, first byte in the low bits */
    __u64 mac_mask;                           /* 0: accept frames to any unicast address */
    __u64 local_ip6[NODE_LOCAL_ADDRESSES][2]; /* network order; unused entries are 0 */
    __u32 local_ip4[NODE_LOCAL_ADDRESSES];
    __u32 flow_idle;   /* a flow that was silent for longer counts as new; in 2^20 ns */
    __u32 number;      /* of the node, in the deflection mark */
    __u32 locked;      /* 1: the program may run on several CPUs at once */
    __u32 run;         /* packets of this run are recorded one by one when they end here */
    __u64 wait_factor; /* the queue is sent after (v >> 32) * wait_factor >> wait_shift ns, v in nanobits */
    __u32 wait_shift;
    __u32 timed;        /* 1: the times of each packet of the plan are recorded */
    __u64 way_delay_ns; /* configured delay of the links on the path to the node */
};

struct node_control {
    __u64 limit_bytes;
    __u64 ecn_threshold_bytes; /* 0: off */
    __u64 sibling;             /* address, first byte in the low bits, | NODE_SIBLING_ENABLED */
    __u64 crashed;             /* 1: the node has crashed, by a fault of the scenario: nothing passes */
    __u64 loss_threshold;      /* a fault of the scenario loses packets to the node with probability this / 2^32 */
    __u64 loss_seed;
    __u64 t0_ns; /* the start of the run; 0: it has not begun */
    __u8 class_of_dscp[64];
};

struct node_class {
    __u64 arrived_bytes;
    __u64 arrived_pkts;
    __u64 dropped_bytes;
    __u64 dropped_pkts;
    __u64 marked_pkts;
};

struct node_state {
    __u64 sequence; /* odd while the program writes */
    __u64 t_ns;     /* time of the last packet */
    __s64 debt_nb;  /* at t_ns: backlog when positive, -tokens when negative */
    __u64 new_flows;
    __u64 bin_end_ns;
    __u64 bin_index;
    __u64 passed_other_pkts; /* not forwarded IP: ARP, neighbour discovery, multicast, other protocols, other hosts */
    __u64 passed_local_pkts; /* to the node's own addresses */
    __u64 malformed_pkts;    /* dropped: truncated, contradicting itself, or a wrong header checksum */
    __u64 ttl_expired_pkts;  /* dropped: TTL or hop limit of 1 or 0 */
    __u64 loss_draws;        /* packets for which a random loss was drawn, by a fault of the scenario */
    __u64 repeated_pkts;     /* ended here in the same way for the second time or more */
    __u64 deflected_bytes[NODE_CLASSES]; /* handed to the sibling instead of being dropped */
    __u64 deflected_pkts[NODE_CLASSES];
    __u64 deflected_in_pkts[NODE_CLASSES]; /* arrived with the mark of another node; part of arrived */
    __u64 lost_pkts[NODE_CLASSES];         /* lost by such a draw; not part of arrived */
    __u64 crashed_pkts[NODE_CLASSES];      /* would have been queued, had the node not crashed; not part of arrived */
    struct node_class classes[NODE_CLASSES];
};

/* Which of 64 packets of the plan ended here, bit k: number 64 i + k. */
struct node_fates {
    __u64 dropped; /* the buffer was full */
    __u64 crashed;
    __u64 lost; /* on the way, by a fault */
};

struct node_bin {
    __u64 number;         /* CLOCK_MONOTONIC / 1 ms */
    __u64 backlog_max_nb; /* highest after an admitted packet */
    __u32 gap_max_ns;     /* longest gap that ended in this bin, at most 2^32 - 1 */
    __u32 bytes;          /* that arrived */
};

struct node_memory {
    struct node_state state;
    struct node_bin bins[NODE_BINS]; /* ring: bin `number` is at number % NODE_BINS */
    __u32 flow_age[NODE_FLOW_CELLS];
    struct stage way; /* from the client's send call to here */
};

/* ------------------------------------------------------------------------------------------------------- link */

struct link_memory {
    __u64 given_pkts;       /* frames the switch gave to the link */
    __u64 cut;              /* not 0: frames go nowhere, without the sender noticing */
    __u64 cut_pkts;         /* those that went nowhere */
    __u64 cut_planned_pkts; /* those of them that are packets of the run's plan */
};

struct link_config {
    __u32 run;
    __u32 unused;
};

/* ------------------------------------------------------------------------------------------------------- sink */

/*
 * The header in each data packet, right behind UDP; network byte order.  After the node has read the planned time, it
 * overwrites it with the time at which its queue will release the packet: delay beyond that is not due to the queue.
 * Four bytes are aligned wherever a header of ours ends; without that, clang reads byte by byte.
 */
#define PROBE_DEPARTS (1ULL << 63)
struct probe {
    __u32 magic;
    __u32 run;
    __u32 flow;
    __u32 seq;
    __u64 planned_ns; /* since the start of the run; from the node on: time of departure | PROBE_DEPARTS */
    __u64 sent_ns;    /* CLOCK_MONOTONIC */
} __attribute__((packed, aligned(4)));

struct sink_config {
    __u32 run;
    __u32 locked;
    __u32 timed; /* as in node_config */
    __u32 unused;
};

struct sink_control {
    __u32 epoch; /* user space counts it up when something happens that may move flows */
    __u32 unused;
    __u64 t0_ns; /* the start of the run; 0: it has not begun */
};

struct sink_flow {
    __u64 pkts;
    struct packet_range range; /* written by user space */
    __u32 first_seq;
    __u32 highest_seq;
    __u32 missing_pkts;    /* skipped so far between first_seq and highest_seq and not arrived late */
    __u32 epoch;           /* of the last arrival */
    __u32 epoch_first_seq; /* number of the first arrival in that epoch */
    __u32 first_delay_ns;  /* of number 0, at most 2^32 - 1; 0: it has not arrived */
};

struct sink_state {
    __u64 sequence; /* odd while the program writes */
    __u64 last_ns;  /* arrival of the last probe */
    __u64 delivered_bytes;
    __u64 delivered_pkts;
    __u64 delay_max_ns;
    __u64 ce_pkts; /* delivered with an ECN mark */
    __u64 duplicate_pkts;
    __u64 reordered_pkts;   /* arrived after a higher number of their flow */
    __u64 unplanned_pkts;   /* of no flow, or no number, of the plan: in the totals, in no flow */
    __u64 foreign_run_pkts; /* probes of another run, passed on */
    __u64 passed_pkts;      /* everything that is no probe of this run */
};

struct sink_memory {
    struct sink_state state;
    __u64 delay_counts[SINK_DELAY_BUCKETS];
    struct stage queue;    /* from the time at which the node's queue let it go to here */
    __u64 unbuffered_pkts; /* came without such a time: no node's program admitted them */
};

#endif
