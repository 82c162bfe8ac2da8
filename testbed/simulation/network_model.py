"""The delays of virtual time: constants where the kernel has distributions.

Data plane.  A packet reaches the buffer of its node `switch_ns` after its planned send time, plus the delays of its
links and `hop_ns` for each link between switches.  It waits in the queue and reaches the sink `node_ns` later.
Control. A limit takes effect, and a notification is sent, `decision_ns` after the sample; the notification reaches the
balancer `notification_ns` later, and a decision of the balancer takes effect in the switch after `flow_mod_ns`.  When a
link goes down or up, the switch sees it after `port_ns`, and the balancer `port_report_ns` later.  Mesh messages take
`message_ns` plus an exponentially distributed time with mean `message_spread_ns`.  They are lost with probability
`message_loss_ratio`; its default is 0, as in the emulation.

The constants are the medians of emulated runs of ``burst.yaml``, ``flap.yaml`` (port) and ``controller-loss.yaml``
(takeover, one run) on a machine with two cores.  `hop_ns` is an estimate; `bench hop` measures it on the present
machine.  The variance is not modelled: in the emulation ticks are late and packets wait for a softirq, by tens of
microseconds at the median and sometimes by milliseconds.  The queues that a scenario studies take 40 ms and more to
drain.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

import numpy as np

from testbed.errors import InputError
from testbed.records.events import Ints
from testbed.scenario.network import Network
from testbed.units import NS_PER_MS, NS_PER_US


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """Delays, in nanoseconds.

    Attributes:
        switch_ns: client's kernel, switch and node's interface together, per packet.
        hop_ns: from one switch to the next, per packet, beyond the delay and the queue of the link.
        node_ns: forwarding in the node and the way to the sink, per packet, beyond waiting and service.
        decision_ns: from a sample to the limit in force, and to the notification on its way.
        notification_ns: from node to balancer.
        flow_mod_ns: from the balancer's decision to the switch acting on it.
        port_ns: from a link that goes down or up to the switch acting on it.
        port_report_ns: from there to the balancer.
        takeover_ns: from the end of a controller to the pipeline of its standby in force.
        start_ns: from the order that adds a node to all its parts running, beyond its boot and warm-up.
        message_ns, message_spread_ns: of the mesh, from member to member or balancer: least, and mean of the rest.
        message_loss_ratio: of those messages, 0..1.
    """

    switch_ns: int = 45 * NS_PER_US
    hop_ns: int = 30 * NS_PER_US
    node_ns: int = 25 * NS_PER_US
    decision_ns: int = 300 * NS_PER_US
    notification_ns: int = 350 * NS_PER_US
    flow_mod_ns: int = 3 * NS_PER_MS
    port_ns: int = 4_800 * NS_PER_US
    port_report_ns: int = 100 * NS_PER_US
    takeover_ns: int = 17 * NS_PER_MS
    start_ns: int = 100 * NS_PER_MS
    message_ns: int = 60 * NS_PER_US
    message_spread_ns: int = 100 * NS_PER_US
    message_loss_ratio: float = 0.0

    def __post_init__(self) -> None:
        """Refuse to go back in time.

        Raises:
            InputError: when a delay is negative, or a ratio none.
        """
        if not 0.0 <= self.message_loss_ratio <= 1.0:
            happened = f"a ratio of {self.message_loss_ratio} is not within 0..1"
            raise InputError("network model message_loss_ratio", happened)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 0:
                raise InputError(f"network model {field.name}", f"a delay of {value} ns is negative", "give 0 or more")

    def message_delay_ns(self, draws: random.Random) -> int | None:
        """Return how long a message of the mesh takes, None when it gets lost; two draws, whatever comes of them."""
        lost, rest = draws.random() < self.message_loss_ratio, draws.random()
        return None if lost else self.message_ns - round(self.message_spread_ns * math.log1p(-rest))


def service_rates_bps(network: Network) -> Ints:
    """Return the rate at which each node serves its buffer, int64 [n].

    Raises:
        InputError: when a node has no rate-limited link behind it.
    """
    rate_of = {link.a: link.rate_bps for link in reversed(network.links) if link.rate_bps}
    for node in network.nodes:
        if node.name not in rate_of:
            raise InputError(
                "simulating the network", f"{node.name} has no service rate", "give its egress link a rate"
            )
    return np.array([rate_of[node.name] for node in network.nodes], dtype=np.int64)


def access_delay_ns(network: Network, host: str) -> int:
    """Return the delay of the link between a host and its switch."""
    switch = network.switch_of(host)
    return next(link.delay_ns for link in network.links_of(host) if link.end_beside(host) == switch)
