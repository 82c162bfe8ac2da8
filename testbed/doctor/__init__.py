"""What this machine offers for a run and what it lacks, each finding with the command that fixes it.

    finding ─┬ kernel     kernel features, tested by using them
             ├ software   programs, libraries, frameworks
             ├ resources  limited resources: files, terminals, CPUs, disk
             └ verdict    predicted verdict of a scenario (`testbed.capacity`), only with `doctor SCENARIO`

``diagnose`` tests features by using them, never by version numbers.  ``refuse_if_lacking`` turns what is missing into
the error with which a run ends (exit code 3).
"""

from testbed.doctor.diagnosis import as_root, diagnose, refuse_if_lacking, refuse_without_root, to_record, worst
from testbed.doctor.finding import Finding, Status
from testbed.doctor.kernel import probing
from testbed.doctor.verdict import capacity, unmeasured

__all__ = [
    "Finding",
    "Status",
    "as_root",
    "capacity",
    "diagnose",
    "probing",
    "refuse_if_lacking",
    "refuse_without_root",
    "to_record",
    "unmeasured",
    "worst",
]
