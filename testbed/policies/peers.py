"""How a node uses the precursors of other nodes.

A burst usually reaches all nodes of a cluster: new flows are distributed over all nodes, and a wave of load reaches one
node a little before the next.  So a burst that another node expects is a precursor here too.  It is combined with the
node's own signs like these with each other (``precursor.py``): as independent evidence, with half the weight.

    severity = 1 - (1 - own) × (1 - PEER_WEIGHT × peers)

`peers` is the highest recent severity of the other nodes (`Membership.peers_severity_ratio`).  It only scales how much
more than the predicted need is requested: a node that predicts nothing reserves nothing because of the others.  A node
sends only its own severity to the others.  If it sent the combined one, two nodes would keep alarming each other.
"""

from __future__ import annotations

from testbed.policies.arithmetic import Values

PEER_WEIGHT = 0.5


def joined(own_ratio: Values, peers_ratio: Values) -> Values:
    """Return the combined severity, 0 to 1; exactly the own one if no peer announces anything."""
    return own_ratio + (1.0 - own_ratio) * (PEER_WEIGHT * peers_ratio)
