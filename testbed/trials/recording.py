"""A run directory for the length of a trial: made, and finished with the status it deserves, whatever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from testbed.errors import EXIT_INTERRUPTED, Interrupted, TestbedError
from testbed.records.processes import TrialFailed
from testbed.records.written import written
from testbed.results import provenance
from testbed.results.run_directory import RunDirectory
from testbed.system import interrupts


@contextmanager
def recorded(create: Callable[[], RunDirectory]) -> Iterator[RunDirectory]:
    """Make a run directory and give it the status it deserves when the block fails, whatever it is that fails.

    Within the block a request to stop interrupts wherever it meets us, within imports too: there is something to
    finish.  It waits while the directory is made: one that is there is finished.
    """
    directory = None
    try:
        with interrupts.taken(interrupts.interrupt):
            with interrupts.held_back():
                directory = create()
            yield directory
    except BaseException as error:
        if directory is None:
            raise
        if directory.manifest["status"] != "running":
            _end_without_page(directory, error)
            raise
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", None) == EXIT_INTERRUPTED
        with suppress(TestbedError):  # of two failures the first one is reported
            directory.append_event(0, written(TrialFailed(error=str(error) or type(error).__name__)))
            directory.finish("interrupted" if stopped else "failed", ended_utc=provenance.utc_now())
        raise


def _end_without_page(directory: RunDirectory, error: BaseException) -> None:
    """Record that something failed after the results were complete; a stop takes nothing from them."""
    if isinstance(error, KeyboardInterrupt):
        remedy = f"`python -m testbed report {directory.path}` writes it; the results are complete"
        raise Interrupted("writing the page", "interrupted", remedy) from error
    directory.finish("failed", ended_utc=provenance.utc_now())  # a run without its page is not what was asked for
