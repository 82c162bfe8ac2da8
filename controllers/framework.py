"""The OpenFlow frameworks: the only file that imports them.

os-ken is the maintained successor of Ryu.  Both have the same modules under different package names, so all other code
uses a `Framework`.  They differ in how they run.

* **os-ken** is embedded: its launcher, and with it eventlet, is not used.  Its native hub runs each connection in
  threads.  These threads ignore exceptions and are not daemon threads.  They become daemon threads if they are started
  from one; then they end with the process.  Any thread may send.
* **Ryu 4.34** (2020, unmaintained) runs on eventlet: all green threads run in the thread that started them, and no
  other thread may use their objects.  So Ryu gets its own daemon thread, and messages are passed to it with a `Bell`.
  Ryu imports a name that eventlet has removed (`_mend_eventlet`), and can be installed only with setuptools before 68.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from testbed import installing
from testbed.controllers.bell import Bell
from testbed.errors import MachineError, ToolError
from testbed.scenario.balancer import FrameworkName

PACKAGES: dict[FrameworkName, str] = {"os-ken": "os_ken", "ryu": "ryu"}

HANDOVER_S = 0.0002  # thread switch interval; Python's default of 5 ms is longer than a decision takes

Work = Callable[[], object]


class Threads(Protocol):
    """The threads in which a framework runs."""

    def start(self, launch: Work) -> None:
        """Run `launch` in the framework's thread and return when it is done; exceptions are raised here."""

    def call(self, work: Work) -> None:
        """Run `work` soon, in order, in a thread that may use the framework's objects."""


class Framework:
    """The modules of one framework, and its threads."""

    def __init__(self, name: FrameworkName, threads: Threads) -> None:
        """Import them."""
        self.name, self.threads = name, threads
        self.proto = self.module("ofproto.ofproto_v1_3")
        self.parser = self.module("ofproto.ofproto_v1_3_parser")
        self.nicira = self.module("ofproto.nicira_ext")
        self.events = self.module("controller.ofp_event")
        self.handler = self.module("controller.handler")
        self._config, self._apps = self.module("cfg").CONF, self.module("base.app_manager")
        self.app = self._apps.OSKenApp if name == "os-ken" else self._apps.RyuApp

    def start(self, app: type, **options: Any) -> None:
        """Start `app` and the framework's own handling of OpenFlow, configured by `options`.

        Once a process: the framework's registry of applications is global.

        Raises:
            ToolError: it did not start.
        """
        sys.setswitchinterval(HANDOVER_S)
        try:
            self.threads.start(lambda: self._launch(app, options))
        except Exception as error:
            raise ToolError(f"starting the OpenFlow controller ({self.name})", repr(error)) from error

    def _launch(self, app: type, options: dict[str, Any]) -> None:
        self._config(args=[], project=PACKAGES[self.name], default_config_files=[])
        for option, value in options.items():
            self._config.set_override(option, value)
        running = self._apps.AppManager.get_instance()
        running.load_apps([f"{PACKAGES[self.name]}.controller.ofp_handler"])
        running.applications_cls[app.__name__] = app
        running.instantiate_apps(**running.create_contexts())

    def module(self, path: str) -> Any:
        """Return one of its modules."""
        return importlib.import_module(f"{PACKAGES[self.name]}.{path}")


class NativeThreads:
    """The threads of os-ken: system threads."""

    def start(self, launch: Work) -> None:
        """See `Threads.start`."""
        failures: list[Exception] = []
        starter = threading.Thread(
            target=_tried, args=(launch, failures), daemon=True
        )  # the framework's threads inherit this
        starter.start()
        starter.join()
        if failures:
            raise failures[0]

    def call(self, work: Work) -> None:
        """See `Threads.call`."""
        work()


class GreenThreads:
    """The threads of Ryu: green threads of eventlet, which all run in one thread."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._waiting: deque[Work] = deque()

    def start(self, launch: Work) -> None:
        """See `Threads.start`."""
        failures: list[Exception] = []
        launched = threading.Event()

        def live() -> None:
            _tried(launch, failures)
            launched.set()
            if not failures:
                self._serve()

        threading.Thread(target=live, daemon=True).start()
        launched.wait()
        if failures:
            raise failures[0]

    def call(self, work: Work) -> None:
        """See `Threads.call`."""
        self._waiting.append(work)
        self._bell.ring()

    def _serve(self) -> None:
        wait_readable = importlib.import_module("eventlet.hubs").trampoline
        while True:
            wait_readable(self._bell, read=True)
            self._bell.silence()
            while self._waiting:
                self._waiting.popleft()()


def remedy(name: FrameworkName) -> str:
    """Return the command that installs a framework."""
    return installing.optional("ryu") if name == "ryu" else installing.packages("os-ken")


def installed(name: FrameworkName) -> bool:
    """Return whether the framework is installed, without importing it."""
    return importlib.util.find_spec(PACKAGES[name]) is not None


def preload(name: FrameworkName) -> None:
    """Import os-ken, which takes a third of a second, for processes that are forked from this one.

    Ryu cannot be preloaded: the hub of eventlet belongs to the process that imported it.
    """
    if name == "os-ken" and installed(name):
        Framework(name, NativeThreads()).module("controller.ofp_handler")


def load(name: FrameworkName) -> Framework:
    """Import a framework.

    Raises:
        MachineError: it is not installed.
    """
    if not installed(name):
        raise MachineError(f"controller.framework: {name}", "it is not installed", remedy(name))
    if name == "os-ken":
        return Framework(name, NativeThreads())
    _mend_eventlet()
    return Framework(name, GreenThreads())


def _mend_eventlet() -> None:
    """Restore the name that Ryu imports and eventlet 0.30.3 removed; Ryu only passes it back to eventlet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")  # Ryu runs only on eventlet
        wsgi: Any = importlib.import_module("eventlet.wsgi")
    if not hasattr(wsgi, "ALREADY_HANDLED"):
        wsgi.ALREADY_HANDLED = object()


def _tried(launch: Work, failures: list[Exception]) -> None:
    try:
        launch()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is raised in the caller's thread
        failures.append(error)
