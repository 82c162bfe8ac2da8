"""What a node makes of its peers' precursors.

Bursts come to a cluster, not to a node: new flows are dealt over all nodes, and a wave of load reaches one a little
before the next.  So a peer that sees a burst coming is a sign here too, joined with a node's own signs as they are with
each other (``precursor.py``), as independent evidence at half the weight of one's own:

    severity = 1 - (1 - own) × (1 - PEER_WEIGHT × peers)

`peers` is the highest fresh severity among the others (`Membership.peers_severity_ratio`).  It scales how far a
predicted need is met beyond what is predicted, and no more: a node that predicts nothing reserves nothing because of
its peers.  What a node sends to others is its own severity alone; with the joined one, two nodes would continue to
alarm each other with what each had from the other.
"""

from __future__ import annotations

from testbed.policies.arithmetic import Values

PEER_WEIGHT = 0.5


def joined(own_ratio: Values, peers_ratio: Values) -> Values:
    """Return the severity that counts, 0..1; exactly one's own where no peer announces anything."""
    return own_ratio + (1.0 - own_ratio) * (PEER_WEIGHT * peers_ratio)
