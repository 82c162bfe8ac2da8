"""Which executor carries out the trials of a command: processes of this machine, or the workers of a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed.errors import InputError
from testbed.records.engines import is_real_time
from testbed.trials.process import ChildProcesses, Executor, jobs_for

LOCAL = "local"


def refuse_jobs(engine: str, jobs: int | None, scheduler: str) -> None:
    """Refuse a number of trials at a time that is not to be had.

    Raises:
        InputError: as of `jobs_for`, and when a scheduler is given as well.
    """
    if scheduler and jobs is not None:
        happened = "the workers of --scheduler determine how many trials run at a time"
        raise InputError(f"--jobs {jobs}", happened, "leave out one of the two")
    jobs_for(engine, jobs)


def uses_this_machine(engine: str, scheduler: str) -> bool:
    """Tell whether trials need of this machine what an emulated run needs."""
    return is_real_time(engine) and scheduler in ("", LOCAL)


@contextmanager
def executing(engine: str, jobs: int | None, scheduler: str, note: Callable[[str], None]) -> Iterator[Executor]:
    """Return the executor of trials, for the length of the block.

    Args:
        engine: which engine runs them.
        jobs: how many run at a time, as processes of this machine; None: as many as there are processors.
        scheduler: the address of a Dask scheduler, ``local``, or empty.
        note: gets what the user is to know on the way.

    Raises:
        TestbedError: as of `refuse_jobs` and `remote.workers`.
    """
    refuse_jobs(engine, jobs, scheduler)
    if not scheduler:
        yield ChildProcesses(jobs_for(engine, jobs))
        return
    from testbed.trials import remote

    with remote.workers(scheduler, engine, note) as executor:
        yield executor
