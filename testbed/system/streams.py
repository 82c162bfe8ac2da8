"""The three standard streams, made so that whoever started us cannot make a command fail by them.

    descriptor closed         /dev/null takes its place, before anything else can be given its number
    reader gone (a pipe)      what is still written to it is dropped; the exit code remains that of the work
    no space, no permission   standard output: an error of its own; standard error: dropped, it carries no result
    encoding without a sign   the sign is spelled in ASCII; bytes of a file name that are no text are shown as escapes

The streams themselves are replaced, so that this holds for whatever library prints.  Only the standard library is
imported here: it is done before anything else.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from pathlib import Path
from typing import TextIO

from testbed.errors import ToolError
from testbed.failures import cause_of

REPLACED = "spelled"  # the name of our error handler: see `codecs.register_error`
# What we print beyond ASCII, for terminals and files that cannot hold it.
_ASCII = {"…": "...", "→": "->", "·": ".", "×": "x", "–": "-", "µ": "u", "█": "#", "░": ".", "±": "+-", "≤": "<="}
_ESCAPED_BYTES = range(0xDC80, 0xDD00)  # how Python keeps bytes that are no text (PEP 383)
_STREAMS = (("stdin", "standard input"), ("stdout", "standard output"), ("stderr", "standard error"))


def secure() -> None:
    """Make the standard streams of this process safe to use; call it once, before anything else is imported.

    Streams that somebody has replaced already (a test, a notebook) are theirs and stay.
    """
    reserve()
    codecs.register_error(REPLACED, _spelled)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (never closed)
    for number, (name, words) in enumerate(_STREAMS[1:], start=1):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):
            secured = _secured(number, words, getattr(sys, name))
            setattr(sys, name, secured)
            setattr(sys, f"__{name}__", secured)


def reserve() -> None:
    """Open /dev/null in place of each closed standard descriptor.

    Else the next file or socket that is opened gets its number, and what is printed goes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number: this one


def _secured(number: int, words: str, before: TextIO | None) -> TextIO:
    raw = _Descriptor(number, words, failing=number == 1)
    buffer = io.BufferedWriter(raw)  # type: ignore[type-var]
    if before is not None:
        before.flush()
    return io.TextIOWrapper(
        buffer,
        encoding="utf-8" if before is None else before.encoding,
        errors=REPLACED,
        line_buffering=number == 2 or raw.isatty(),
        write_through=bool(getattr(before, "write_through", False)),
    )


class _Descriptor(io.RawIOBase):
    """What lies below a text stream: a descriptor; once it has failed, what is written to it is dropped."""

    def __init__(self, number: int, words: str, *, failing: bool) -> None:
        self._number, self._words, self._failing = number, words, failing
        self._lost = False
        self.name = f"<{words}>"
        self.mode = "wb"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._lost:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # somebody who shares the terminal or pipe has made it non-blocking
                select.select([], [self._number], [])
            except BrokenPipeError:
                self._lost = True
            except OSError as error:
                self._lost = True
                if self._failing:
                    cause, remedy = cause_of(error)
                    raise ToolError(f"writing {self._words}", cause, remedy) from error
        return len(memoryview(data))


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the signs that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(sign: str) -> str:
    if ord(sign) in _ESCAPED_BYTES:
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return _ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")


def send_to(path: Path) -> None:
    """Send what this process and its children print to a file."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
