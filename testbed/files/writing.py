"""The one way out: a file is there whole or not at all, and a full disk is reported as such.

A file is written beside its place and renamed over it, so a reader never sees half of one, and a kill leaves the former
one.  A power cut is another matter: a rename may reach the disk before what was written, and the file is empty
afterwards (XFS) or torn.  What must outlast that is *durable*: synced before the rename, and the directory after it.
What can be made again (a page, a table, a checkpoint that the next one replaces) need not be, which saves two waits for
the disk.

The file beside may be there already, left by a kill or put there as a trap, a link to something else: it is removed
first and recreated, never written through.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from testbed.errors import ToolError

_SURROGATE = re.compile("[\ud800-\udfff]")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Content = bytes | str | Callable[[BinaryIO], Any]


def replace(target: Path, content: Content, *, durable: bool = True, elsewhere: str = "") -> Path:
    """Put a file in its place and return the path.

    Args:
        target: the place; its folder is there.
        content: bytes, text (UTF-8; letters that are none become escapes), or what writes into an open file.
        durable: whether it must outlast a power cut.
        elsewhere: what else than making room helps on a full disk, such as ``choose another --out``.

    Raises:
        ToolError: when it cannot be written; a former file stays as it was.
    """
    with attempting(target, elsewhere):
        beside = target.with_name(f".{target.name}.new")
        try:
            with _new(beside) as file:
                _fill(file, content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        if durable:
            _sync(target.parent)
    return target


def replace_json(
    target: Path, value: Any, *, durable: bool = True, indent: int | None = 2, elsewhere: str = ""
) -> Path:
    """Put a value in its place as JSON, and return the path; NaN is refused.  Raises as `replace`.

    Bytes of a command line that are no text are half of a pair of surrogates, which no reader takes: they are written
    as the words for them.
    """
    separators = None if indent else (",", ":")
    text = json.dumps(value, indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)
    text = _SURROGATE.sub(lambda found: f"\\\\u{ord(found.group()):04x}", text)
    return replace(target, text + "\n", durable=durable, elsewhere=elsewhere)


def append_lines(target: Path, lines: bytes, *, elsewhere: str = "") -> None:
    """Append whole lines, or as many of them as the disk takes before this raises.

    Raises:
        ToolError: when it does not take them all.
    """
    with attempting(target, elsewhere), target.open("ab", buffering=0) as file:
        start, written = file.tell(), 0
        try:
            while written < len(lines):
                written += file.write(lines[written:])
        except OSError:
            file.truncate(start + lines.rfind(b"\n", 0, written) + 1)
            raise


def overwrite(target: Path, old: bytes, new: bytes) -> None:
    """Put `new` in the place of the first `old` within a file, which needs no room on the disk where both are as long.

    Raises:
        ToolError: when it cannot be written.
    """
    if len(old) != len(new):
        raise ValueError("what takes no room has the length of what was there")
    with attempting(target), target.open("r+b") as file:
        at = file.read().find(old)
        if at >= 0:
            file.seek(at)
            file.write(new)


def sync(paths: Iterable[Path]) -> None:
    """Let files of one folder, those that are there, and their names outlast a power cut.

    Raises:
        ToolError: when the disk does not take them.
    """
    for path in paths:
        with attempting(path):
            if path.exists():
                _sync(path)
                _sync(path.parent)


def folder(path: Path, *, elsewhere: str = "") -> Path:
    """Make a folder and those above it, unless they are there, and return it.

    Raises:
        ToolError: when it cannot be made.
    """
    with attempting(path, elsewhere):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def attempting(target: Path, elsewhere: str = "") -> Iterator[None]:
    """Turn an error of the system into one that says what to do about it.

    Raises:
        ToolError: when the block met one.
    """
    try:
        yield
    except OSError as error:
        raise refusal(target, error, elsewhere) from error


def refusal(target: Path, error: OSError, elsewhere: str = "") -> ToolError:
    """Return the error that says why `target` was not written, and what helps."""
    room = "free disk space" + (f" or {elsewhere}" if elsewhere else "")
    remedy = room if is_full(error) else "check the disk (dmesg, SMART) and the directory"
    return ToolError(f"write {target}", error.strerror or str(error), remedy)


def is_full(error: OSError) -> bool:
    """Return whether the disk, or what this user may have of it, is full."""
    return error.errno in _FULL


def _new(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def _fill(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
