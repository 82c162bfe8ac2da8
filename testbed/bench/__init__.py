"""Benchmarks: each figure beside that of its rivals, measured in the same call.

Every module has `run() -> list[dict]`: rows with ``name``, ``value``, ``unit``, ``rival``, ``rival_value``, ``ratio``,
``bar`` and, where they help, ``met`` and ``note``.  Figures are medians; on a shared machine trust the ratios.
"""

NAMES = {
    "xdp": "the node's XDP program and a resize",
    "cortex": "a prediction: time, load, memory",
    "loop": "the agent's loop under a whole trial",
    "sender": "the paced sender",
    "simulate": "the simulation engine",
}
