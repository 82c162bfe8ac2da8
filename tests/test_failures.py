"""What an exception means: of the system, of a policy, or an internal error; each in a line with its cause."""

from __future__ import annotations

import errno
import functools
import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import testbed
from testbed import cli, failures
from testbed.emulation.processes.channel import Failure
from testbed.errors import EXIT_TOOL_FAILED, Bug, InputError, MachineError, PolicyError, TestbedError, ToolError
from testbed.scenario.loading import load
from testbed.trials import run
from tests.command import write_tiny

POLICY = Path(testbed.__file__).parent / "policies" / "buffer_of_a_user.py"
SOURCE = "def size(*_):\n    rates = {}\n    return max(rates['n9'])\n"


def defined_in(path: Path, source: str = SOURCE) -> Any:
    """Return the function `size` as if `source` stood in `path`."""
    names: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), names)
    return names["size"]


def raised_by(call: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        call()
    return caught.value


def shown(error: BaseException) -> TestbedError:
    return failures.shown(error, "running x", "report it")


def test_an_exception_in_a_policy_names_its_file_and_line() -> None:
    error = shown(raised_by(defined_in(POLICY)))
    assert isinstance(error, PolicyError)
    assert error.exit_code == EXIT_TOOL_FAILED
    assert "KeyError: 'n9' (testbed/policies/buffer_of_a_user.py, line 3, in size)" in str(error)


def test_a_policy_that_calls_others_wrongly_is_named_for_it() -> None:
    call = defined_in(POLICY, "import numpy\ndef size():\n    return numpy.array([1]).reshape(2, 2)\n")
    assert "buffer_of_a_user.py, line 3" in str(shown(raised_by(call)))


def test_a_policy_with_a_wrong_syntax_is_named_for_it() -> None:
    error = shown(raised_by(lambda: defined_in(POLICY, "x = 1\ndef size(:\n")))
    assert isinstance(error, PolicyError)
    assert "buffer_of_a_user.py, line 2" in str(error)


CLASSES = """
class Rule:
    def __init__(self, count): pass
    def size(self, sample): return len(sample)
def make():
    def inner(x): return x
    return inner
short = lambda x: x
"""


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of a user's file, which the testbed knows as a plug-in."""
    path.write_text(CLASSES)
    module = types.ModuleType(f"testbed_plugin_{path.stem}")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(CLASSES, str(path), "exec"), module.__dict__)
    failures.blame(path)
    return module


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of a user's file that the testbed knows as a plug-in, and no other."""
    monkeypatch.setattr(failures, "_blamed", set())
    return loaded(tmp_path / "own.py", monkeypatch)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda own: own.Rule(1, 2), "takes 2 positional arguments but 3 were given (own.py, line 3)"),
        (lambda own: own.Rule(1).size(1, 2), "takes 2 positional arguments but 3 were given (own.py, line 4)"),
        (lambda own: own.Rule(1).size(), "missing 1 required positional argument: 'sample' (own.py, line 4)"),
        (lambda own: own.Rule(1).size(sample=1, limit=2), "unexpected keyword argument 'limit' (own.py, line 4)"),
        (lambda own: own.make()(1, 2), "takes 1 positional argument but 2 were given (own.py, line 6)"),
        (lambda own: own.short(), "missing 1 required positional argument: 'x' (own.py, line 8)"),
        (lambda own: own.Rule(1).wish_bytes(), "'Rule' object has no attribute 'wish_bytes' (own.py)"),
        (lambda own: own.Rule.horizon_ns, "type object 'Rule' has no attribute 'horizon_ns' (own.py)"),
    ],
)
def test_a_policy_that_fits_no_call_of_ours_is_named_for_it(plugin: Any, call: Any, said: str) -> None:
    error = shown(raised_by(lambda: call(plugin)))
    assert isinstance(error, PolicyError)
    assert said in str(error).replace(f"{Path(plugin.__file__).parent}/", "")


@dataclass(frozen=True)
class Row:
    """A row of a table, which holds what it calls."""

    make: Any

    def call(self) -> Any:
        return self.make()


CALLS = {
    "a lambda": lambda module: module.short(),
    "a class": lambda module: module.Rule(),
    "a method": lambda module: module.Rule(1).size(),
    "a function within": lambda module: module.make()(),
    "a lambda in a row": lambda module: Row(module.short).call(),
    "a class in a row of a table": lambda module: {"own": Row(module.Rule)}["own"].call(),
    "a function within, bound": lambda module: functools.partial(module.make())(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_of_two_plugins_with_the_same_names_the_one_that_was_called_is_blamed(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    others = [loaded(tmp_path / f"{name}.py", monkeypatch) for name in ("a", "x", "z")]
    for module in (plugin, *others):
        error = shown(raised_by(lambda module=module: call(module)))
        assert isinstance(error, PolicyError)
        assert f"({module.__file__}, line" in str(error)


def test_a_policy_of_the_tree_that_fits_no_call_is_named_for_it_too() -> None:
    from testbed.policies.slots import reweight

    error = shown(raised_by(reweight))  # type: ignore[call-arg]
    assert isinstance(error, PolicyError)
    assert "(testbed/policies/slots.py, line" in str(error)


def test_a_call_that_fits_nothing_of_ours_is_our_own_bug() -> None:
    assert isinstance(shown(raised_by(load)), Bug)  # type: ignore[call-arg]
    assert isinstance(shown(raised_by(lambda: Path().nothing)), Bug)  # type: ignore[attr-defined]


def test_an_exception_elsewhere_is_our_own_bug_and_says_where() -> None:
    error = shown(raised_by(defined_in(POLICY.parent.parent / "records" / "samples.py")))
    assert isinstance(error, Bug)
    assert str(error) == "running x: our own bug: KeyError: 'n9' (testbed/records/samples.py, line 3); report it"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x"),
            ToolError,
            "no space left on device: /x; free disk space",
        ),
        (OSError(errno.EMFILE, "Too many open files"), MachineError, "too many open files; raise the limit"),
        (PermissionError(errno.EPERM, "Operation not permitted"), MachineError, "operation not permitted; run as root"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), MachineError, "pids.max"),
        (MemoryError(), MachineError, "not enough memory"),
        (OSError(errno.EBADF, "Bad file descriptor"), Bug, "our own bug"),
        (ValueError("x\n" * 1000), Bug, "ValueError: x x x"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_the_system_refuses_is_not_our_bug(error: BaseException, kind: type, said: str) -> None:
    made = shown(error)
    assert type(made) is kind
    assert said in str(made)
    assert len(str(made)) < 700


def test_a_netlink_error_is_one_of_the_system() -> None:
    exceptions = pytest.importorskip("pyroute2.netlink.exceptions")
    assert "operation not permitted" in str(shown(exceptions.NetlinkError(errno.EPERM, "x"))).lower()


def test_an_error_that_says_all_is_left_as_it_is() -> None:
    error = InputError("reading x", "no such file")
    assert shown(error) is error


def test_a_mistake_in_a_policy_ends_a_simulation_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("testbed.policies.brain.NodeBrain.handle", defined_in(POLICY))
    monkeypatch.setattr(sys, "argv", ["testbed", "simulate", str(write_tiny(tmp_path)), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == EXIT_TOOL_FAILED
    assert "buffer_of_a_user.py, line 3, in size" in capsys.readouterr().err


def test_what_fails_in_a_process_of_a_trial_is_told_by_its_cause() -> None:
    refused = Failure.of("agent n1", OSError(errno.EMFILE, "Too many open files")).error
    assert str(refused).startswith("running agent n1: too many open files; raise the limit of open files")
    bug = Failure.of("agent n1", ValueError("x")).error
    assert isinstance(bug, Bug)
    assert "logs/trial.log" in str(bug)


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_mistake_in_a_policy_ends_a_trial_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.policies.brain.NodeBrain.handle", defined_in(POLICY))
    options = run.RunOptions(out=tmp_path / "run", live=False, quiet=True)
    with pytest.raises(PolicyError, match="buffer_of_a_user.py, line 3, in size"):
        run.run(load(write_tiny(tmp_path)), options)
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "failed"
