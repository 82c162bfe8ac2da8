"""Sends back every UDP datagram from the address that it was sent to; the example of a service behind the buffers."""

from __future__ import annotations

import socket
import sys
import time


def main(host: str, port: int) -> None:
    """Answer at an address, which may come into being later."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        try:
            line.bind((host, port))
            break
        except OSError:
            time.sleep(0.1)
    while True:
        data, sender = line.recvfrom(65536)
        line.sendto(data, sender)


main(sys.argv[1], int(sys.argv[2]))
