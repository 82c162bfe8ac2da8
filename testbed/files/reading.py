"""The bytes of a file that may come from elsewhere.

What lies at a path need not be a file: a named pipe without a writer makes `open` wait for ever, a device has no end, a
link in somebody's run directory may lead to a file of ours.  So a file is opened without waiting, and looked at after
it was opened, when nobody can put another one in its place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from testbed.errors import InputError

_KINDS = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))


@dataclass(frozen=True, slots=True)
class Source:
    """A file that somebody gave us.

    Attributes:
        path: where it is.
        remedy: what to do about one that is missing or wrong.
        attempted: what it is read for, the head of every error; empty: to read it.
        follow: whether the path may be a symbolic link; the files of a run directory may not.
    """

    path: Path
    remedy: str
    attempted: str = ""
    follow: bool = True

    def refusal(self, happened: str, remedy: str = "") -> InputError:
        """Return the error that says what is wrong with the file."""
        return InputError(self.attempted or f"read {self.path}", happened, remedy or self.remedy)

    def exists(self) -> bool:
        """Return whether anything is at the path, be it a link to nothing."""
        try:
            return os.path.lexists(self.path)
        except ValueError:  # a path with a null byte
            return False

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for the block; an error of the system in it is a refusal, too.

        Raises:
            InputError: when there is none, it cannot be read or is no regular file.
        """
        try:
            with os.fdopen(self._descriptor(), "rb") as file:
                yield file
        except FileNotFoundError as error:
            raise self.refusal("there is no such file") from error
        except OSError as error:
            raise self.refusal(_words(error)) from error

    def read(self, most_bytes: int) -> bytes:
        """Return what the file holds.

        Raises:
            InputError: as `open`, and when it holds more than `most_bytes`.
        """
        with self.open() as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise self.refusal(f"it is larger than {most_bytes:,} bytes", "shorten it, or choose another file")
        return content

    def _descriptor(self) -> int:
        links = 0 if self.follow else os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | links)
        except ValueError as error:
            raise self.refusal(str(error)) from error
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return descriptor
        os.close(descriptor)
        raise self.refusal(
            f"it is {next((words for is_kind, words in _KINDS if is_kind(mode)), 'a device')}, not a file"
        )


def _words(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return error.strerror or str(error)
