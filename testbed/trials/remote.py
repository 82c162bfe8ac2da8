"""Trials on the workers of a Dask cluster, on whatever machines they are.

    call ─▶ bundle ─▶ scheduler ─▶ worker ─▶ run directory as bytes ─▶ its place here

No file system is shared.  A worker takes part once it was found to run the same versions (`identity`): it is then
given a resource, named by those versions, that every trial asks for.  So a worker that joins later is checked as well,
and one with other versions gets no trial.  An emulated trial also asks for the resource ``emulation``, of which a
worker has one: ``dask worker ADDRESS --resources emulation=1``.

A worker may die at any time.  The scheduler gives its trials to others; what one of them had written is lost with it.
A run directory appears here whole, by a rename, and once: the trial counts when its result is taken in, and not before.
When we die, the scheduler forgets our trials, and the workers end them (`worker`).
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import installing
from testbed.capacity import memory
from testbed.errors import EXIT_INTERRUPTED, EXIT_TOOL_FAILED, InputError, MachineError, TestbedError, ToolError
from testbed.files import archive, writing
from testbed.files.reading import Source
from testbed.records.engines import is_real_time
from testbed.system import allowance, interrupts, waiting
from testbed.trials import inputs, worker
from testbed.trials.child import Ended
from testbed.trials.executing import LOCAL
from testbed.trials.identity import Identity, identity
from testbed.trials.process import Running, TrialCall
from testbed.units import NS_PER_S

EMULATION_SLOT = "emulation"
_CONNECT_S = 10
_START = "start one by `dask worker {address}" + f" --nthreads N --resources {EMULATION_SLOT}=1`"

Note = Callable[[str], None]


@contextmanager
def workers(address: str, engine: str, note: Note) -> Iterator[Workers]:
    """Connect to a scheduler for the length of the block.

    Args:
        address: such as ``tcp://host:8786``; ``local`` starts a scheduler and a worker on this machine.
        engine: which engine runs the trials.
        note: gets what the user is to know on the way.

    Raises:
        InputError: the address is none.
        MachineError: the extra ``distributed`` is not installed, or a worker cannot run our trials.
        ToolError: the scheduler does not answer.
    """
    dask = _imported(address)
    with _connected(dask, address) as client:
        found = Workers(dask, client, engine, note)
        found.check()
        yield found


def _imported(address: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        happened = f"the extra `distributed` is not installed ({error})"
        raise MachineError(f"--scheduler {address}", happened, installing.optional("distributed")) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it is said by us
    return distributed


@contextmanager
def _connected(dask: Any, address: str) -> Iterator[Any]:
    with _cluster(dask) if address == LOCAL else nullcontext(address) as place:
        try:
            client = dask.Client(place, timeout=_CONNECT_S, set_as_default=False, name="testbed")
        except ValueError as error:
            remedy = f"use an address such as tcp://host:8786, or {LOCAL}"
            raise InputError(f"--scheduler {address}", f"not an address: {error}", remedy) from error
        except (OSError, dask.TimeoutError) as error:
            happened = f"no scheduler answers within {_CONNECT_S} s"
            raise ToolError(f"--scheduler {address}", happened, "start one by `dask scheduler`") from error
        with client:
            yield client


@contextmanager
def _cluster(dask: Any) -> Iterator[Any]:
    """Start a scheduler and one worker here; Ctrl-C is for us alone."""
    with interrupts.held_back((signal.SIGINT,)):
        cluster = dask.LocalCluster(
            n_workers=1,
            threads_per_worker=allowance.cores(),
            resources={EMULATION_SLOT: 1},
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    with cluster:
        yield cluster


@dataclass(slots=True)
class _Task:
    """A trial for the workers.

    Attributes:
        call: what it was called with.
        future: its result to come; None while there is no worker for it.
        stopped: whether it is to be given up.
    """

    call: TrialCall
    future: Any = None
    stopped: bool = False

    @property
    def is_done(self) -> bool:
        """Tell whether it has ended, or never will."""
        return bool(self.stopped if self.future is None else self.future.done())

    def send(self, _number: signal.Signals) -> None:
        """Give the trial up; the scheduler is told when it is waited for, not within a handler of signals."""
        self.stopped = True

    def ended(self) -> Ended:
        """Return how it ended, its run directory in its place."""
        from distributed import CancelledError, KilledWorker

        if self.future is None:
            return Ended(EXIT_INTERRUPTED)
        try:
            return _taken_in(self.call, self.future.result())
        except CancelledError as error:
            if self.stopped:
                return Ended(EXIT_INTERRUPTED)
            raise ToolError(f"trial {self.call.name}", f"lost: {error}", "repeat the command to continue") from error
        except KilledWorker:
            return Ended(-signal.SIGKILL, "every worker that ran it died")
        except Exception as error:  # noqa: BLE001 (what ended it on the worker, such as a full disk)
            return Ended(EXIT_TOOL_FAILED, f"on its worker: {error}")
        finally:
            self.future.release()


class Workers:
    """Carries trials out on the workers of a cluster; see the head of this file."""

    def __init__(self, dask: Any, client: Any, engine: str, note: Note) -> None:
        """Use the workers that are there, and those that come, for trials of an engine."""
        self._dask, self._client, self._engine, self._note = dask, client, engine, note
        self._ours = identity()
        self._admission = f"testbed-{self._ours.digest}"
        self._known: dict[str, int] = {}  # how many trials each worker takes at a time
        self._needs = memory.MemoryNeeds()
        self._waiting_for_any = False

    @property
    def slots(self) -> int:
        """Return how many trials may run at a time; at least one, which then waits for a worker."""
        return max(1, sum(self._known.values()))

    def check(self) -> None:
        """Look at the workers that are there.

        Raises:
            MachineError: one of them cannot run our trials.
        """
        if wrong := self._look():
            address, why = next(iter(wrong.items()))
            more = f", and {len(wrong) - 1} more workers cannot either" if len(wrong) > 1 else ""
            raise MachineError(f"worker {address}", f"it cannot run these trials: {why}{more}", "mend or end it")

    def fits(self, call: TrialCall, running: Sequence[Running]) -> bool:
        """Return True: each worker waits until it has the memory."""
        return True

    def start(self, call: TrialCall) -> Running:
        """Take a trial on; it is given to the scheduler as soon as there is a worker for it."""
        return _Task(call)

    def wait(self, running: Sequence[Running], within_ns: int) -> list[Running]:
        """Return those that have ended, as soon as there are any, or none after `within_ns`."""
        for address, why in self._look().items():
            self._note(f"worker {address} gets no trial: {why}")
        tasks = [one for one in running if isinstance(one, _Task)]
        self._give([one for one in tasks if not one.stopped])
        given = [one.future for one in tasks if one.future is not None]
        if stopped := [one.future for one in tasks if one.stopped and one.future is not None]:
            self._client.cancel(stopped, force=True)
        if given:
            with self._client.as_current(), suppress(self._dask.CancelledError, self._dask.TimeoutError):
                self._dask.wait(given, within_ns / NS_PER_S, return_when="FIRST_COMPLETED")
        else:
            waiting.readable((), within_ns)
        return [one for one in tasks if one.is_done]

    def _give(self, tasks: Sequence[_Task]) -> None:
        """Give trials to the scheduler, or take them back where no worker is left.

        The scheduler looks for a worker when a trial is given to it and when a worker joins, and not when a worker is
        admitted: of trials that it had when there was none, it would never think again.
        """
        if not any(self._known.values()):
            for one in tasks:
                if one.future is not None:
                    self._client.cancel([one.future], force=True)
                    one.future = None
            return
        for one in tasks:
            one.future = one.future or self._submitted(one.call)

    def _submitted(self, call: TrialCall) -> Any:
        needs = {self._admission: 1} | ({EMULATION_SLOT: 1} if is_real_time(self._engine) else {})
        most_bytes = self._needs.most_bytes(call.loaded)
        return self._client.submit(
            worker.run_trial, _bundle(call), self._engine, most_bytes,
            key=f"{call.out.name}-{uuid.uuid4().hex}", resources=needs, pure=False,
        )  # fmt: skip

    def _look(self) -> dict[str, str]:
        """Admit workers that are new, forget those that are gone, and return why others cannot take part."""
        there = self._there()
        for address in [address for address in self._known if address not in there]:
            if self._known.pop(address):
                self._note(f"worker {address} is gone; its trials are given to others")
        wrong = {}
        for address in [address for address in there if address not in self._known]:
            self._known[address] = 0
            why = self._why_not(address, there[address])
            if why:
                wrong[address] = why
            else:
                self._admit(address, there[address])
        self._say_if_none()
        return wrong

    def _there(self) -> Mapping[str, Any]:
        try:
            # Not `scheduler_info`, whose cache an update in the background may leave without any worker.
            about = self._client.sync(self._client.scheduler.identity, n_workers=-1)
            there: Mapping[str, Any] = about["workers"]
        except (OSError, self._dask.TimeoutError) as error:
            address = self._client.scheduler.address
            raise ToolError(f"scheduler {address}", f"it is gone: {error}", "repeat the command to continue") from error
        return there

    def _why_not(self, address: str, about: Mapping[str, Any]) -> str:
        found = self._client.run(worker.identified, workers=[address], on_error="return").get(address)
        if not isinstance(found, Identity):
            return f"the testbed cannot be used there ({found})"
        if differences := self._ours.differences(found):
            return f"it has {', '.join(differences)}"
        if is_real_time(self._engine) and not about["resources"].get(EMULATION_SLOT):
            return f"it does not offer the resource for emulated trials (--resources {EMULATION_SLOT}=1)"
        return ""

    def _admit(self, address: str, about: Mapping[str, Any]) -> None:
        threads = int(about["nthreads"])
        slots = min(threads, int(about["resources"][EMULATION_SLOT])) if is_real_time(self._engine) else threads
        self._client.run(worker.admitted, self._admission, threads, workers=[address], on_error="return")
        self._known[address] = slots

    def _say_if_none(self) -> None:
        none = not any(self._known.values())
        if none and not self._waiting_for_any:
            self._note(f"waiting for a worker; {_START.format(address=self._client.scheduler.address)}")
        self._waiting_for_any = none


def _bundle(call: TrialCall) -> bytes:
    """Return the scenario of a trial and all that it names as a ZIP archive."""
    with tempfile.TemporaryDirectory(prefix="testbed-") as folder:
        inputs.write_scenario(call.loaded, _Folder(Path(folder)))
        return worker.packed(Path(folder))


@dataclass(slots=True)
class _Folder:
    path: Path

    def write_text(self, name: str, text: str | bytes, *, durable: bool = True) -> Path:
        return writing.replace(self.path / name, text, durable=durable)


def _taken_in(call: TrialCall, made: worker.Made) -> Ended:
    """Put a run directory in its place, and return how the trial ended."""
    said = f"{made.ended.said} (worker {made.worker})" if made.ended.said else ""
    if made.directory:
        beside = call.out.with_name(f".{call.out.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        writing.folder(beside / "run")
        try:
            writing.replace(beside / "run.zip", lambda file: file.write(made.directory), durable=False)
            archive.unpack(Source(beside / "run.zip", "repeat the trial"), beside / "run")
            os.rename(beside / "run", call.out)
        except TestbedError as error:
            return Ended(EXIT_TOOL_FAILED, f"its run directory cannot be taken in: {error}")
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return Ended(made.ended.exit_code, said)
