"""The verdict: can the results of this run be trusted?

A trial on a real machine can be disturbed by the machine.  Each check compares one measured value with two bounds:
beyond the first the run is DEGRADED (its results have a stated caveat), beyond the second INVALID (its results are
never averaged).  The worst check is the verdict.  Every bound is a constant next to its check, with its reason.

What the engine did not measure is not checked.  Those checks are listed in `Fidelity.not_checked`.
"""

from testbed.results.fidelity.check import Bound, Check, Verdict
from testbed.results.fidelity.judge import Fidelity, check_names, judge

__all__ = ["Bound", "Check", "Fidelity", "Verdict", "check_names", "judge"]
