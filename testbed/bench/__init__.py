"""Benchmarks: each figure beside that of its rivals, measured in the same call.

Every module has `run() -> list[dict]`: rows with ``name``, ``value``, ``unit``, ``rival``, ``rival_value``, ``ratio``,
``bar`` and, where they help, ``met`` and ``note``.  Figures are medians; on a shared machine trust the ratios.
Those in `COUNTED` have `run(count)`; one with columns of its own has `table(rows)`.  Those in `LONG` run only by name;
they are proofs rather than figures.
"""

NAMES = {
    "xdp": "the node's XDP program and a resize",
    "forecaster": "a prediction: time, load, memory",
    "loop": "the agent's control loop during a trial",
    "sender": "the paced sender",
    "queue": "the modelled queue compared with the qdisc, at 10, 100 and 500 Mbit/s",
    "simulate": "the simulation engine",
    "hop": "delay from one switch to the next, compared with the simulation's model",
    "failover": "failover times after crashes and link failures",
    "nodes": "CPU time, memory and set-up time per node, for 3 to 100 nodes",
    "capacity": "how often doctor predicts the verdict of a run correctly",
    "scale": "goodput as nodes are added, and load imbalance under each balancer policy",
    "suspicion": "false-positive rate of the failure detector",
    "gossip": "the mesh with gossip, for 100 to 10,000 members",
    "balancer": "how long the balancer's decisions take",
    "cluster": "one node compared with a cluster of three",
    "map": "when a state-aware balancer helps: cost under pairs of balancer and buffer policy, per cell",
    "kill-start": "leftovers of trials that are killed during set-up",
    "kill-matrix": "leftovers and messages when any process of a trial is killed in any phase",
    "verdict": "whether the verdict detects and names injected disturbances",
    "soak": "memory and open file descriptors of every process during a long trial",
}
ANYBODYS = ("forecaster", "simulate", "map", "gossip")  # the others need root, and what a run needs of the machine
LONG = ("nodes", "capacity", "map", "gossip", "kill-start", "kill-matrix", "verdict", "soak")
COUNTED = {
    "failover": "failures of each kind (100)",
    "scale": "seeds for the load imbalance (3)",
    "suspicion": "minutes of node time (6)",
    "gossip": "minutes without a fault (1)",
    "cluster": "node crashes (20)",
    "map": "seeds per cell (10)",
    "kill-start": "kills (2500)",
    "kill-matrix": "trials (default: one per cell of the matrix)",
    "verdict": "runs without a disturbance (3)",
}
JUDGED = ("capacity", "kill-matrix", "verdict", "soak")  # a bar that is not passed there is a failure: exit 1
TABLED = (*JUDGED, "map")  # have a table of their own
FILTERED = ("nodes", "capacity", "map", "gossip", "kill-matrix", "verdict")  # have `run(..., only=TEXT)`
TIMED = ("soak",)  # have `run(minutes=N)`
DRAWN = ("kill-matrix",)  # have `run(..., seed=N, check_every=N)`
