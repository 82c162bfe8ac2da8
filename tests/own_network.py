"""A network namespace for a test: it ends with the thread that it was made for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from pyroute2 import IPRoute

from testbed.system import kernel

T = TypeVar("T")


def in_own_network(body: Callable[[], T]) -> T:
    """Run `body` in a thread with a network namespace of its own; return what it returns and raise what it raises."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            results.append(body())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def veth(near: str, far: str, **attributes: int) -> tuple[int, int]:
    """Make a pair, both ends up and with these attributes, and return their indices."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=near, kind="veth", peer={"ifname": far})
        ends = netlink.link_lookup(ifname=near)[0], netlink.link_lookup(ifname=far)[0]
        for index in ends:
            netlink.link("set", index=index, state="up", **attributes)
    return ends
