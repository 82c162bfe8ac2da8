"""The verdict: may this run be believed?

A trial on a real machine can be disturbed by the machine.  Each check compares one measured value with two bounds:
past the first the run is DEGRADED (its numbers carry a caveat, named), past the second INVALID (its numbers are never
averaged).  The worst check is the verdict.  Every bound is a constant beside its check, with its reason.

What the engine did not measure is not checked and listed in `Fidelity.not_checked`, so that silence is visible.
"""

from testbed.results.fidelity.check import Bound, Check, Verdict
from testbed.results.fidelity.judge import Fidelity, check_names, judge

__all__ = ["Bound", "Check", "Fidelity", "Verdict", "check_names", "judge"]
