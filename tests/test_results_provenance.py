"""Provenance: what a manifest says of a run's origin, and what it keeps to itself."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path

import pytest

import testbed
from testbed.results import provenance


@pytest.fixture(scope="module")
def manifest() -> dict:
    return provenance.collect(
        ["testbed", "run", "x.yaml"],
        hashes={"plan": "sha256:1"},
        seeds={"traffic/base": 7},
        facts={},
        ovs_datapath="netdev",
    )


def test_it_names_versions_machine_and_settings(manifest: dict) -> None:
    assert manifest["project"]["version"] == testbed.__version__
    assert manifest["machine"]["kernel"] == f"Linux {platform.release()}"
    assert manifest["machine"]["cores"] >= 1
    assert manifest["tools"]["python"] == platform.python_version()
    assert manifest["tools"]["numpy"][0].isdigit()
    assert manifest["openvswitch"]["datapath"] == "netdev"
    assert "net.core.netdev_max_backlog" in manifest["sysctls"]
    assert manifest["seeds"] == {"traffic/base": 7}
    assert manifest["command"] == ["testbed", "run", "x.yaml"]
    assert manifest["started_utc"].endswith("+00:00")


def test_it_names_neither_host_nor_home(manifest: dict) -> None:
    text = json.dumps(manifest)
    assert str(Path.home()) + "/" not in text
    assert str(Path(testbed.__file__).parent.parent) not in text
    assert platform.node() not in text or len(platform.node()) < 3
    assert f"/{getpass.getuser()}" not in text


def test_a_program_that_is_missing_fails_or_hangs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ANSWER_TIMEOUT_S", 0.2)
    questions = {
        "missing": ("no-such-program",),
        "failing": ("false",),
        "hanging": ("sleep", "60"),
        "good": ("echo", "v1.2.3"),
    }
    began = time.monotonic()
    assert provenance.Asked(questions).answers() == {"good": "v1.2.3"}
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("ovs-vswitchd (Open vSwitch) 3.1.0", "3.1.0"),
        ("Debian clang version 14.0.6", "14.0.6"),
        ("bpftool v7.1.0\nusing libbpf v1.1", "7.1.0"),
        ("no number", "no number"),
    ],
)
def test_versions_are_read_from_what_programs_say(answer: str, version: str) -> None:
    assert provenance._version(answer) == version


def test_hashes_are_of_contents(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    expected = "sha256:" + hashlib.sha256(b"content").hexdigest()
    assert provenance.sha256_of(tmp_path / "file") == provenance.sha256_of(b"content") == expected


def test_questions_that_nobody_waits_for_are_ended() -> None:
    with provenance.Asked({"slow": ("sleep", "60"), "absent": ("no-such-program",)}) as asked:
        (slow,) = asked._asked.values()
    assert slow.returncode == -signal.SIGKILL


def test_the_version_of_a_package_is_that_of_its_description() -> None:
    for name in ("numpy", "pydantic"):
        assert provenance._package_version(name) == metadata.version(name)
    assert provenance._package_version("no-such-package") is None


def test_questions_to_git_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `git status` that is ended while it writes the index leaves a lock that stops the user's next command."""
    source = tmp_path / "testbed" / "__init__.py"
    source.parent.mkdir()
    source.write_text("")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    os.utime(source, ns=(0, 0))  # the index no longer knows that it is unchanged
    index = tmp_path / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setattr(provenance.testbed, "__file__", str(source))
    assert provenance.Asked(provenance._git_questions()).answers()["git modified"] == ""
    assert index.read_bytes() == before
