"""Which nodes have processes of their own, and which share them.

The agents of a machine's nodes share one process, and so do the members of the mesh: what a process costs is then paid
once and not once a node.  Isolation is given up for that where nobody asks for it.  Somebody does where a fault acts on
the processes of a node (`crash`, `pause`): a real SIGKILL or SIGSTOP is to hit that node and no other, so its agent and
its mesh member live in processes of their own.  So do those of a node that may be added or drained: they begin and end
with it.  With ``agents: separate`` those of all nodes do.
"""

from __future__ import annotations

from collections.abc import Sequence

from testbed.scenario.model import Scenario


def nodes_apart(scenario: Scenario, nodes: Sequence[str]) -> frozenset[str]:
    """Return which of all `nodes` have an agent, and a mesh member, in a process of its own."""
    if scenario.agents == "separate":
        return frozenset(nodes)
    alone = {fault.node for fault in scenario.faults if fault.row.acts_on_processes}
    changing = nodes[0 if scenario.autoscaler.scales else scenario.topology.nodes :]
    return frozenset(nodes) & {*alone, *(changing if scenario.topology.spare else ())}
