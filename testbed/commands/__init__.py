"""The verbs: one file each, arguments in, output and exit code out.  The work itself is done in other packages.

The order of the imports is the order of the verbs in ``--help``.
"""

from testbed.commands import run, serve, sweep, agree, claims, validate, doctor, report, replay, compare, export  # noqa: I001
from testbed.commands import plot, package, bench, train, evaluate, listing, new, graph, ps, watch, execute
from testbed.commands import logs, clean, deployment, completion
from testbed.commands.app import app

__all__ = [  # noqa: RUF022
    "run",
    "serve",
    "sweep",
    "agree",
    "claims",
    "validate",
    "doctor",
    "report",
    "replay",
    "compare",
    "export",
    "plot",
    "package",
    "bench",
    "train",
    "evaluate",
    "listing",
    "new",
    "graph",
    "ps",
    "watch",
    "execute",
    "logs",
    "clean",
    "deployment",
    "completion",
    "app",
]
