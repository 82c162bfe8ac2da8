"""One thread for linear algebra while a trial runs.

The arrays of a trial are small.  From some size on NumPy's library (OpenBLAS) shares a product out to all cores all the
same: at 60 nodes a step of the LSTM took 3.6 ms in place of 0.32, since the threads wait for cores that the switch has.
And a sum that is shared out otherwise rounds otherwise: results would depend on the number of cores.  The command line
says so in the environment, before NumPy is imported; who calls the testbed from Python has imported it already.
"""

from __future__ import annotations

from contextlib import AbstractContextManager


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which linear algebra has one thread, in processes that are forked in it too."""
    from threadpoolctl import threadpool_limits  # imported when a trial begins: it takes 15 ms

    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits
