"""A Mininet `Topo` as its users write it: two racks of nodes, the clients and the balancer at the first.

c1 ─┐           ┌─ n2
c2 ─┼─ s1 ── s2 ┤          backends are not drawn: the testbed puts one behind each node
n1 ─┘           └─ n3
"""

from mininet.topo import Topo


class TwoRacks(Topo):
    """Two racks, one link between them."""

    def build(self, far: int = 2) -> None:
        """Add `far` nodes in the second rack."""
        s1, s2 = self.addSwitch("s1"), self.addSwitch("s2")
        self.addLink(s1, s2)
        for number in (1, 2):
            self.addLink(self.addHost(f"c{number}"), s1)
        self.addLink(self.addHost("n1"), s1)
        for number in range(2, far + 2):
            self.addLink(self.addHost(f"n{number}"), s2)


topos = {"tworacks": TwoRacks}
