"""Benchmarks: each figure beside that of its rivals, measured in the same call.

Every module has `run() -> list[dict]`: rows with ``name``, ``value``, ``unit``, ``rival``, ``rival_value``, ``ratio``,
``bar`` and, where they help, ``met`` and ``note``.  Figures are medians; on a shared machine trust the ratios.
Those in `COUNTED` have `run(count)`; one with columns of its own has `table(rows)`.  Those in `LONG` run only by name;
they are proofs rather than figures.
"""

NAMES = {
    "xdp": "the node's XDP program and a resize",
    "forecaster": "a prediction: time, load, memory",
    "loop": "the agent's loop under a whole trial",
    "sender": "the paced sender",
    "queue": "the modelled queue beside the qdisc, at 10, 100 and 500 Mbit/s",
    "simulate": "the simulation engine",
    "hop": "from one switch to the next, beside what the simulation takes it for",
    "failover": "failover: silent crashes and links that go down",
    "nodes": "what a node costs, from 3 nodes to 100",
    "capacity": "whether the verdict that doctor foretells is the one that a run gets",
    "scale": "goodput of more nodes, and how evenly each balancer policy loads them",
    "suspicion": "false-positive rate of the failure detector",
    "gossip": "the mesh that gossips, from 100 members to 10,000",
    "balancer": "the balancer's decisions",
    "cluster": "one node against a cluster of three",
    "map": "when a state-aware balancer helps: the cost of a run under pairs of balancer and buffer, cell by cell",
    "kill-start": "what is left of trials that are killed as they start",
    "kill-matrix": "what is left and said when any process of a trial is killed in any phase",
    "verdict": "what disturbs a run, and whether the verdict names it",
    "soak": "memory and descriptors of every process of a long trial",
}
ANYBODYS = ("forecaster", "simulate", "map", "gossip")  # the others need root, and what a run needs of the machine
LONG = ("nodes", "capacity", "map", "gossip", "kill-start", "kill-matrix", "verdict", "soak")
COUNTED = {
    "failover": "failures of each kind (100)",
    "scale": "seeds of the imbalance (3)",
    "suspicion": "minutes of node time (6)",
    "gossip": "minutes of calm (1)",
    "cluster": "silent crashes (20)",
    "map": "seeds of each cell (10)",
    "kill-start": "kills (2500)",
    "kill-matrix": "trials (each place of the matrix once)",
    "verdict": "undisturbed runs (3)",
}
JUDGED = ("capacity", "kill-matrix", "verdict", "soak")  # a bar that is not passed there is a failure: exit 1
TABLED = (*JUDGED, "map")  # have a table of their own
FILTERED = ("nodes", "capacity", "map", "gossip", "kill-matrix", "verdict")  # have `run(..., only=TEXT)`
TIMED = ("soak",)  # have `run(minutes=N)`
DRAWN = ("kill-matrix",)  # have `run(..., seed=N, check_every=N)`
