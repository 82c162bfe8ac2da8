"""The kinds of faults: what each breaks, what it needs, how it heals, and what it explains.

A row here is the whole declaration of a kind: the key of a scenario's `faults` comes from it, and validation, order of
time, evidence, verdict, summary and documents read it.  What an engine does is in a file named after the kind,
``emulation/faults/<kind>.py`` and ``simulation/fault_acts/<kind>.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

Target = Literal["node", "link", "groups", "controllers", "machine", "site", "wan"]
Groups = Annotated[tuple[Annotated[tuple[str, ...], Field(strict=False)], ...], Field(strict=False)]
EVERYTHING = frozenset({"send", "stamp", "way", "queue", "agent", "mesh", "controller", "tcp"})


@dataclass(frozen=True, kw_only=True)
class FaultKind:
    """One kind.

    Attributes:
        name: its key in a scenario.
        doc: what its target is, or what is done to it.
        breaks: its effect, for the documents; empty for a kind that only ends another one.
        target: what it is aimed at.
        example: a target as a scenario writes it.
        value: the type of the target.
        needs: further keys that it must have, each with an example.
        heals: the kind whose end it is; empty for a fault.
        repeats: the kind whose act it repeats, once a period; empty for one that happens once.
        between: for a target that is a link: the kind that it is if the link is one between switches; empty: it cannot
            be aimed at such a link.
        between_of: the kind whose key a scenario writes, for a kind that only `between` leads to.
        lasts: whether it is a state that may end after `for`.
        states: what the target is called while it is whole, and while it is broken.
        takes_node_away: whether no packet passes the node while it lasts.
        ends_processes: whether the node's processes begin a new life afterwards.
        holds_processes: whether the node's processes do not run while it lasts.
        ends_with_traffic: whether it is over when sending ends: always, where it has an end, or never.
        stops: stages (`records.stages`) that stand still by order: at the target, or anywhere for one that is aimed at
            no node.
        harmless_ns: one that lasts less explains no suspicion.
        refused_by: engines that cannot carry it out, each with the reason.
        refused_deflecting: engines that cannot carry it out where full nodes deflect, each with the reason.
        order: whether it is no fault but an order to the cluster (`policies.lifecycle`), which takes its time.
    """

    name: str
    doc: str
    breaks: str = ""
    target: Target
    example: str
    value: Any = str
    needs: Mapping[str, str] = field(default_factory=dict)
    heals: str = ""
    repeats: str = ""
    between: str = ""
    between_of: str = ""
    lasts: bool = True
    states: tuple[str, str] = ("whole", "broken already")
    takes_node_away: bool = False
    ends_processes: bool = False
    holds_processes: bool = False
    ends_with_traffic: Literal["always", "timed", "never"] = "never"
    stops: frozenset[str] = frozenset()
    harmless_ns: int = 0
    refused_by: Mapping[str, str] = field(default_factory=dict)
    refused_deflecting: Mapping[str, str] = field(default_factory=dict)
    order: bool = False

    @property
    def key(self) -> str:
        """Return the key of a scenario that means it."""
        return self.between_of or self.name

    @property
    def act(self) -> str:
        """Return the kind whose act it is: its own, or the one that it repeats."""
        return self.repeats or self.name

    @property
    def state(self) -> str:
        """Return the kind of state of the target that it changes."""
        return self.heals or self.act

    @property
    def takes_link_down(self) -> bool:
        """Return whether it takes a link down or up again."""
        return self.state in ("link_down", "trunk_down")

    @property
    def acts_on_processes(self) -> bool:
        """Return whether it stops or ends the processes of its node, which must be the node's own then."""
        return self.ends_processes or self.holds_processes or self.order

    @property
    def fails_over(self) -> bool:
        """Return whether the cluster is to do without the node: taken away, and not only for part of a period."""
        return self.takes_node_away and not self.repeats


FAULT_KINDS: dict[str, FaultKind] = {
    row.name: row
    for row in (
        FaultKind(
            name="crash",
            doc="a node that stops responding; its links stay up",
            breaks="the node stops responding; its links stay up",
            target="node",
            example="n2",
            states=("running", "crashed already"),
            takes_node_away=True,
            ends_processes=True,
            holds_processes=True,
            stops=frozenset({"agent", "mesh", "way", "stamp", "queue"}),
        ),
        FaultKind(
            name="restart",
            doc="ends a `crash`: the node restarts",
            target="node",
            example="n2",
            heals="crash",
            lasts=False,
        ),
        FaultKind(
            name="link_down",
            doc="a link between switch and node, such as s1-n2, or between two switches, such as s1-s2",
            breaks="the link between switch and node is down",
            target="link",
            example="s1-n3",
            between="trunk_down",
            states=("up", "down already"),
            takes_node_away=True,
            stops=frozenset({"way"}),
        ),
        FaultKind(
            name="link_up",
            doc="brings a link up",
            target="link",
            example="s1-n3",
            between="trunk_up",
            heals="link_down",
            lasts=False,
        ),
        FaultKind(
            name="trunk_down",
            doc="`link_down` of a link between two switches",
            breaks="the link between two switches is down. Each of the two sends over its other paths of equal length; "
            "without one its packets are lost there. Other switches do not change their routes",
            target="link",
            example="leaf1-spine1",
            between_of="link_down",
            states=("up", "down already"),
        ),
        FaultKind(
            name="trunk_up",
            doc="`link_up` of a link between two switches",
            target="link",
            example="leaf1-spine1",
            between_of="link_up",
            heals="trunk_down",
            lasts=False,
        ),
        FaultKind(
            name="flap",
            doc="a link that goes down and up again, once a period",
            breaks="the link is down in the first half of each period",
            target="link",
            example="s1-n3",
            needs={"for": "4s", "period": "400ms"},
            between="trunk_flap",
            repeats="link_down",
            takes_node_away=True,
            stops=frozenset({"way"}),
        ),
        FaultKind(
            name="trunk_flap",
            doc="`flap` of a link between two switches",
            breaks="the link between two switches is down in the first half of each period",
            target="link",
            example="leaf1-spine1",
            needs={"for": "4s", "period": "400ms"},
            between_of="flap",
            repeats="trunk_down",
        ),
        FaultKind(
            name="loss",
            doc="a link that randomly drops a fraction of the packets to its node",
            breaks="the link randomly drops this fraction of the packets to the node",
            target="link",
            example="s1-n3",
            needs={"ratio": "0.01"},
            states=("whole", "losing packets already"),
            ends_with_traffic="always",
            refused_deflecting={
                "simulation": "the simulation does not model the order of the packets at a node that deflects"
            },
        ),
        FaultKind(
            name="partition",
            doc="groups of nodes whose mesh messages do not reach each other",
            breaks="mesh messages between the groups are lost",
            target="groups",
            example="[[n1], [n2, n3]]",
            value=Groups,
            ends_with_traffic="timed",
        ),
        FaultKind(
            name="kill",
            doc="kills the active controller, or all controllers",
            breaks="the active controller is killed; a standby takes over. `controllers`: all are killed; the switch "
            "continues to forward",
            target="controllers",
            example="controller",
            value=Literal["controller", "controllers"],
            lasts=False,
        ),
        FaultKind(
            name="pause",
            doc="a node whose processes are stopped",
            breaks="the node's processes are stopped",
            target="node",
            example="n1",
            needs={"for": "30ms"},
            states=("running", "paused already"),
            holds_processes=True,
            ends_with_traffic="timed",
            stops=frozenset({"agent", "mesh"}),
            harmless_ns=40_000_000,
        ),
        FaultKind(
            name="cpu_hog",
            doc="starts N CPU-bound processes",
            breaks="N CPU-bound processes run during the trial",
            target="machine",
            example="3",
            value=Annotated[int, Field(ge=1, le=64)],
            needs={"for": "2s"},
            ends_with_traffic="always",
            stops=EVERYTHING,
            refused_by={"simulation": "CPU load has no effect in virtual time"},
        ),
        FaultKind(
            name="site_loss",
            doc="a site of a topology with several sites: all its nodes crash, and it reports nothing to other sites",
            breaks="all nodes of the site crash, and it reports nothing; the edge of its region continues to forward",
            target="site",
            example="europe",
            states=("running", "lost already"),
            refused_by={"emulation": "the emulation has no sites"},
        ),
        FaultKind(
            name="wan_cut",
            doc="a WAN link between two sites that loses everything sent into it",
            breaks="packets and reports sent into the WAN link between the two sites are lost",
            target="wan",
            example="asia-europe",
            states=("whole", "cut already"),
            refused_by={"emulation": "the emulation has no sites"},
        ),
        FaultKind(
            name="drain",
            doc="an order: the node gets no new flows; it leaves when its flows have ended, at "
            "the latest after `autoscaler.drain_deadline`",
            breaks="(no failure) the node gets no new flows; it leaves when its flows have ended or after a deadline",
            target="node",
            example="n2",
            states=("in service", "out of service"),
            stops=frozenset({"agent", "mesh"}),
            order=True,
        ),
        FaultKind(
            name="add",
            doc="an order: a node that is out of service is started and, when it is ready, gets new flows",
            target="node",
            example="n2",
            heals="drain",
            lasts=False,
            order=True,
        ),
    )
}


def kind_of(name: str) -> FaultKind:
    """Return the row of a kind; of one that another version recorded, a row without traits."""
    return FAULT_KINDS.get(name) or FaultKind(name=name, doc="not known to this version", target="machine", example="")
