"""What an exception means for the user, for the top-level handler of a process: each becomes a `TestbedError`.

what the operating system refuses   no space, no right, too many files: MachineError or ToolError
raised in a policy                  PolicyError, with its file and line
raised by calling a policy          PolicyError, too: it takes other arguments, or lacks what it is asked for
anything else                       Bug: an internal error ("our own bug"), exit code 70
"""

from __future__ import annotations

import errno
import gc
import linecache
import os
import re
import sys
import traceback
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from testbed.errors import Bug, MachineError, PolicyError, TestbedError, ToolError

_PACKAGE = Path(__file__).resolve().parent
_POLICIES = _PACKAGE / "policies"
_LETTERS = 500
_STEPS, _MOST_PARTS = 5, 20_000  # from a frame to a function that it calls: row, its namespace, the function
_blamed: set[str] = set()


def blame(path: Path) -> None:
    """Take what is raised in a file for a fault of that file: it is a plug-in."""
    _blamed.add(os.path.realpath(path))


def shown(error: BaseException, attempted: str, remedy: str) -> TestbedError:
    """Return the error to show for whatever was raised.

    Args:
        error: what was raised.
        attempted: what was being done.
        remedy: what helps to find an internal error.
    """
    if isinstance(error, TestbedError):
        return error
    return (
        _of_the_system(error, attempted) or _of_a_call(error) or _of_a_policy(error) or _bug(error, attempted, remedy)
    )


def words_within(error: BaseException, path: Path) -> str:
    """Return what was raised and in which line of a user's file, such as ``line 3: ValueError: …``."""
    lines = [place.lineno for place in _places(error) if place.filename == str(path) and place.lineno is not None]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}".splitlines()[0]


# What the system may refuse any program, by error number, and how to fix it.  A limit or a right that is missing is a
# lack of the machine; a disk that is full or broken is a tool that failed.
_LIMITS = {
    errno.EMFILE: "raise the limit of open files: `ulimit -n 65536`",
    errno.ENFILE: "the whole system has too many open files: raise the sysctl fs.file-max",
    errno.ENOMEM: "free some memory, or use fewer nodes or packets",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`, pids.max of the control group), or free some memory",
    errno.EPERM: "run as root, and outside of a confined container; `python -m testbed doctor` lists what is missing",
    errno.EACCES: "check the permissions, or run as root",
    errno.ENOSYS: "boot the distribution's stock kernel",
}
_FAILURES = {
    errno.ENOSPC: "free disk space, or write to another location",
    errno.EDQUOT: "free disk space (the quota is used up), or write to another location",
    errno.EFBIG: "raise the limit of file sizes: `ulimit -f unlimited`",
    errno.EROFS: "choose a writable location",
    errno.EIO: "check the disk (dmesg, SMART)",
    errno.ENODEV: "check the device",
    errno.ENXIO: "check the device",
    errno.ESTALE: "mount the network file system again",
    errno.ETIMEDOUT: "try again",
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.EISDIR: "",
    errno.ELOOP: "",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EBUSY: "",
    errno.ENOBUFS: "",
    errno.ECONNREFUSED: "",
    errno.ECONNRESET: "",
}


def cause_of(error: OSError) -> tuple[str, str]:
    """Return what the system reported, with the file it is about, and how to fix it (empty where that is not known)."""
    number = error.errno or 0
    words = error.strerror or str(error) or type(error).__name__
    words = words[:1].lower() + words[1:]
    about = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
    return words + about, _LIMITS.get(number) or _FAILURES.get(number, "")


def _of_the_system(error: BaseException, attempted: str) -> TestbedError | None:
    if isinstance(error, MemoryError):
        return MachineError(attempted, "not enough memory", _LIMITS[errno.ENOMEM])
    if type(error).__name__ == "NetlinkError":  # of pyroute2, which carries an error number and is no OSError
        code = getattr(error, "code", 0)
        error = OSError(code, f"netlink: {os.strerror(code)}")
    if not isinstance(error, OSError):
        return None
    if error.errno in _LIMITS:
        return MachineError(attempted, *cause_of(error))
    return ToolError(attempted, *cause_of(error)) if error.errno in _FAILURES else None


_MISFIT = re.compile(r"([\w.<>]+)\(\) (?:takes|missing|got) ")  # what Python says of arguments that do not fit


def _of_a_call(error: BaseException) -> PolicyError | None:
    """Return the error of a policy that fits no call of ours, which is raised in our file and not in its own."""
    places, found = _places(error), None
    if isinstance(error, TypeError) and (misfit := _MISFIT.match(str(error))):
        found = _called(misfit.group(1), error) or _definition(misfit.group(1))
    elif isinstance(error, AttributeError) and error.obj is not None:
        owner = error.obj if isinstance(error.obj, type) else type(error.obj)
        found = str(getattr(sys.modules.get(owner.__module__), "__file__", "")), 0
    if found is None or not places or not _is_of_a_policy(found[0]) or _same(places[-1].filename, found[0]):
        return None
    where = _short(found[0]) + (f", line {found[1]}" if found[1] else "")
    remedy = "change it to match its interface (see the docstring next to its row)"
    return PolicyError("calling a policy", f"{_words(error)} ({where})", remedy)


def _called(name: str, error: BaseException) -> tuple[str, int] | None:
    """Return file and line of the policy's function of that name which the failing frame has closest at hand.

    Several plug-ins may have classes of one name, and all lambdas have one.
    """
    frame = [place for place, _ in traceback.walk_tb(error.__traceback__)][-1]
    names = frame.f_globals
    near: list[Any] = [*frame.f_locals.values(), *(names[name] for name in frame.f_code.co_names if name in names)]
    seen: set[int] = set()
    for _ in range(_STEPS):
        for thing in near:
            if isinstance(thing, FunctionType) and _is_of_a_policy(thing.__code__.co_filename):
                code = _code_of(name, thing)
                if code is not None:
                    return code.co_filename, code.co_firstlineno
        seen.update(map(id, near))
        near = [part for thing in near for part in _parts(thing) if id(part) not in seen][:_MOST_PARTS]
    return None


def _code_of(name: str, function: FunctionType) -> CodeType | None:
    """Return the code of what has this name: the function, or one that it makes."""
    if function.__qualname__ == name:
        return function.__code__
    if name.startswith(f"{function.__qualname__}.<locals>."):
        parts = (part for part in function.__code__.co_consts if isinstance(part, CodeType))
        return next((part for part in parts if part.co_name == name.rpartition(".")[2]), None)
    return None


def _parts(thing: Any) -> list[Any]:
    """Return what a thing holds; of a function, what it closes over; of modules, nothing but of those of policies."""
    if isinstance(thing, FunctionType):
        return list(thing.__closure__ or ())
    if isinstance(thing, ModuleType):
        return list(vars(thing).values()) if _is_of_a_policy(str(getattr(thing, "__file__", ""))) else []
    return gc.get_referents(thing)


def _definition(name: str) -> tuple[str, int] | None:
    """Return file and line of a policy's function, by the name that Python gives it in errors."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not _is_of_a_policy(file):
            continue
        function: Any = module
        for part in name.split("."):
            function = getattr(function, part, None)
        code = getattr(function, "__code__", None)
        if code is not None and _same(code.co_filename, file):
            return file, int(code.co_firstlineno)
    return _nested(name.rpartition(".")[2])


def _nested(name: str) -> tuple[str, int] | None:
    """Return the same of a function within a function of a plug-in, or of a lambda; the first of that name."""
    for file in sorted(_blamed):
        waiting: list[Any] = [compile("".join(linecache.getlines(file)), file, "exec")]
        for code in waiting:
            if code.co_name == name:
                return file, int(code.co_firstlineno)
            waiting += [part for part in code.co_consts if hasattr(part, "co_consts")]
    return None


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _of_a_policy(error: BaseException) -> PolicyError | None:
    """Return the error of a policy: one that was raised in its file, or in what that called."""
    places = [place for place in _places(error) if _is_of_a_policy(place.filename)]
    if not places:
        return None
    where = f"{_short(places[-1].filename)}, line {places[-1].lineno}, in {places[-1].name}"
    if os.path.realpath(places[-1].filename) in _blamed:
        return PolicyError("calling a plug-in", f"{_words(error)} ({where})", "fix the plug-in")
    return PolicyError(
        "calling a policy", f"{_words(error)} ({where})", "fix the policy; if it is a built-in one, please report this"
    )


def _bug(error: BaseException, attempted: str, remedy: str) -> Bug:
    places = [place for place in _places(error) if _within(place.filename, _PACKAGE)] or _places(error)
    where = f" ({_short(places[-1].filename)}, line {places[-1].lineno})" if places else ""
    return Bug(attempted, f"our own bug: {_words(error)}{where}", remedy)


def _places(error: BaseException) -> list[traceback.FrameSummary]:
    """Return where the error went through, the innermost last; a file with a wrong syntax is such a place, too."""
    found = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, SyntaxError) and error.filename:
        found.append(traceback.FrameSummary(error.filename, error.lineno, "its source"))
    return found


def _is_of_a_policy(filename: str) -> bool:
    return _within(filename, _POLICIES) or os.path.realpath(filename) in _blamed


def _within(filename: str, folder: Path) -> bool:
    return folder in Path(os.path.realpath(filename)).parents


def _short(filename: str) -> str:
    inside = _within(filename, _PACKAGE)
    return os.path.relpath(os.path.realpath(filename), _PACKAGE.parent) if inside else filename


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_LETTERS]
