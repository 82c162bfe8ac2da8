"""The test suite's own rules: a skip names what is missing, `--require` turns it into a failure, nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parallel import ALL, EMULATED, emulating, unit

pytest_plugins = "pytester"

CONFTEST = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")
LACKING = "\nPROBES = {'root': lambda: 'not root', 'bpf': lambda: ''}\n"
NEEDS = """
import pytest

from tests.parallel import ALL, EMULATED, emulating, unit

@pytest.mark.requires({things})
def test_it():
    pass
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """Return a function that runs one test with our conftest on a machine that has bpf and lacks root."""
    monkeypatch.delenv("TESTBED_REQUIRE", raising=False)

    def run(test: str, *arguments: str) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST + LACKING)
        pytester.makepyfile(test)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-ra", *arguments)

    return run


def test_a_met_need_lets_the_test_run(suite):
    suite(NEEDS.format(things="'bpf'")).assert_outcomes(passed=1)


def test_an_unmet_need_skips_by_name(suite):
    result = suite(NEEDS.format(things="'root', 'bpf'"))
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*missing: root: not root*"])


def test_a_required_need_fails_instead(suite):
    result = suite(NEEDS.format(things="'root'"), "--require", "root,bpf")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*required here, but missing: root: not root*"])


def test_the_environment_requires_too(suite, monkeypatch):
    monkeypatch.setenv("TESTBED_REQUIRE", "root")
    suite(NEEDS.format(things="'root'")).assert_outcomes(errors=1)


def test_a_need_not_required_still_skips(suite):
    suite(NEEDS.format(things="'root'"), "--require", "bpf").assert_outcomes(skipped=1)


def test_unknown_names_are_refused(suite):
    suite(NEEDS.format(things="'rot'")).assert_outcomes(errors=1)
    assert suite(NEEDS.format(things="'root'"), "--require", "rot").ret == pytest.ExitCode.USAGE_ERROR


def test_a_process_left_behind_fails_the_session(suite):
    left = """
import subprocess

def test_it():
    with open("pid", "w") as file:
        file.write(str(subprocess.Popen(["sleep", "60"], start_new_session=True).pid))
"""
    result = suite(left + "    import conftest\n    conftest.GRACE_S = 0.2\n", "-W", "ignore")
    pid = int(Path("pid").read_text(encoding="utf-8"))
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left behind by the tests: process*sleep 60*"])


SOURCE = """
import pytest

from tests.parallel import ALL, EMULATED, emulating, unit
pytestmark = pytest.mark.requires("root")
def helper(name="mininet"): ...
@pytest.mark.parametrize("n", [1])
@pytest.mark.requires("root", "mininet")
def test_run(n): ...
@pytest.mark.requires("root", "ovs")
def test_switch(): ...
"""


def test_tests_that_emulate_are_known_by_what_they_ask_for():
    assert emulating(SOURCE) == {"test_run"}
    assert emulating('EMULATION = pytest.param("x", marks=pytest.mark.requires("root", "mininet"))') == {ALL}


def test_tests_that_emulate_are_one_unit_and_others_go_by_their_file():
    assert unit("tests/test_exits.py::test_an_emulated_run_does_without_streams") == EMULATED
    assert unit("tests/test_exits.py::test_names[a::b]") == "tests/test_exits.py"
    assert {unit(f"tests/test_{name}.py::test_x") for name in ("fault_runs", "engine_contract", "tcp")} == {EMULATED}
