"""Answers scrapes of a trial's metrics over HTTP, at an address or a unix socket.

The socket is bound before the trial begins, so that an address in use ends the command at once; the thread that
answers begins with the first sample, when the trial has made all the processes it makes by fork (a fork copies no
thread, only the locks it may hold).  Until then scrapes wait in the queue of the socket.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from testbed.errors import InputError, ToolError
from testbed.openmetrics.live import LiveMetrics

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9_.-]*)):(?P<port>\d{1,5})")
_UNIX = "unix:"
Application = Callable[..., Iterable[bytes]]  # of WSGI
_SCRAPE_TIMEOUT_S = 5.0  # of a client that connects and says nothing
_EXAMPLES = "such as 127.0.0.1:9464, [::1]:9464 or unix:/run/testbed.sock"


@dataclass(frozen=True, slots=True)
class Address:
    """Where metrics are served: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that a text names.

        Raises:
            InputError: it names none.
        """
        if text.startswith(_UNIX) and len(text) > len(_UNIX):
            return cls(path=Path(text[len(_UNIX) :]))
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match["port"]) > 65535:
            raise InputError("serve metrics", f"{text!r} is no address", f"give one {_EXAMPLES}")
        return cls(host=match["v6"] or match["host"] or "127.0.0.1", port=int(match["port"]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_UNIX}{self.path}" if self.path is not None else f"http://{host}:{self.port}/metrics"


class MetricsServer:
    """Holds the address, and serves once it is started.

    Raises:
        ToolError: the address cannot be had.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._thread: threading.Thread | None = None
        try:
            self._server = _bound(address)
        except OSError as error:
            happened = error.strerror or str(error)
            raise ToolError(f"serve metrics at {address}", happened, f"choose another address, {_EXAMPLES}") from error

    @property
    def address(self) -> Address:
        """Return where it listens; port 0 has become the one that the system chose."""
        if self._address.path is not None:
            return self._address
        return Address(self._address.host, self._server.socket.getsockname()[1])

    @property
    def started(self) -> bool:
        """Return whether scrapes are answered."""
        return self._thread is not None

    def start(self, metrics: LiveMetrics) -> None:
        """Answer scrapes from now on."""
        registry = CollectorRegistry()
        registry.register(metrics)
        self.answer(_timed(make_wsgi_app(registry), metrics))

    def answer(self, application: Application) -> None:
        """Answer requests by a WSGI application from now on."""
        self._server.set_app(application)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="metrics")
        self._thread.start()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer no more, and free the address."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        if self._address.path is not None:
            self._address.path.unlink(missing_ok=True)


def _timed(application: Application, metrics: LiveMetrics) -> Application:
    """Return the application (WSGI), its processor time noted in the metrics."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        began_ns = time.thread_time_ns()
        body = application(environ, start_response)
        metrics.spent_ns += time.thread_time_ns() - began_ns
        metrics.scrapes += 1
        return body

    return answer


class _Quiet(WSGIRequestHandler):
    """Writes no access log, and does not wait for a client that says nothing."""

    timeout = _SCRAPE_TIMEOUT_S

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the name is the library's
        """Write nothing."""

    def address_string(self) -> str:
        """Return the client; one at a unix socket has no address."""
        return str(self.client_address[0]) if self.client_address else "unix"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False


class _Server6(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Bind; the name and port that WSGI wants are none."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next connection; its peer has no address."""
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


def _bound(address: Address) -> _Server:
    if address.path is None:
        kind = _Server6 if ":" in address.host else _Server
        return kind((address.host, address.port), _Quiet)
    _remove_stale(address.path)
    return _UnixServer(os.fspath(address.path), _Quiet)  # type: ignore[arg-type]  # the stubs know no unix sockets


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at any more: its process was killed."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionRefusedError):
        probe.connect(os.fspath(path))
        return
    path.unlink()
