"""The package, its set-up and its checks: what a stranger's first minutes rest on."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testbed import commands, errors, installing
from testbed.system import places

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")


def run(*argv: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it said."""
    return subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel built from a copy of the tree as git would hold it."""
    tree, out = tmp_path_factory.mktemp("tree") / "x", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out, tree)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.requires("clang")
def test_the_wheel_carries_programs_scenarios_models_and_templates(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"testbed/data/bpf/build/{name}.bpf.o" for name in ("node", "sink", "link", "pass")} <= names
    assert {f"testbed/data/scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.yaml")} <= names
    assert {
        f"testbed/forecaster/models/{path.name}" for path in (ROOT / "testbed/forecaster/models").iterdir()
    } <= names
    assert {f"testbed/report/{path.name}" for path in (ROOT / "testbed/report").glob("*.j2")} <= names
    assert {"testbed/controllers/__init__.py", "testbed/topologies/__init__.py", "testbed/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "data/")) or "__pycache__" in name]


@pytest.mark.requires("clang")
def test_what_is_installed_finds_its_files_from_anywhere(wheel, tmp_path):
    done = run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", tmp_path / "lib", wheel)
    assert done.returncode == 0, done.stderr
    code = (
        "from testbed.system import places; print(places.bpf_object('node'), *places.scenarios().glob('*'), sep='\\n')"
    )
    seen = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")})
    assert seen.returncode == 0, seen.stderr
    lines = seen.stdout.splitlines()
    assert lines[0] == str(tmp_path / "lib/testbed/data/bpf/build/node.bpf.o")
    assert all(line.startswith(str(tmp_path / "lib")) for line in lines)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return a copy of the tree named like the package, with an environment of its own as `make setup` makes it."""
    tree = tmp_path_factory.mktemp("beside") / "testbed"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT, symlinks=True)
    venv.create(tree / ".venv", symlinks=True)
    python = tree / ".venv/bin/python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    # What it needs of others is taken from here, and nothing is downloaded.
    Path(site, "others.pth").write_text("\n".join(p for p in sys.path if "-packages" in p), encoding="utf-8")
    options = re.search(r"^INSTALL := \$\(PIP\) (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    argv = (sys.executable, "-m", "pip", "--python", python, *options.group(1).split(), "--no-deps", "-e", tree)
    done = run(*argv, cwd=tree)
    assert done.returncode == 0, done.stderr
    return tree


def called_in(clone: Path, folder: Path, *words: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line of `clone` in `folder`, with `path` as the path of modules."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return run(clone / ".venv/bin" / words[0], *words[1:], cwd=folder, env={**env, "PYTHONPATH": path} if path else env)


WAYS = [("python", "-m", "testbed"), ("testbed",)]
TAKEN = ("topologies", "controllers", "units", "run", "yaml", "rich", "random", "queue", "statistics")


def test_it_runs_beside_a_folder_of_its_name(clone, tmp_path):
    (tmp_path / "testbed").mkdir()
    for folder in (clone.parent, tmp_path):
        for way in WAYS:
            done = called_in(clone, folder, *way, "--version")
            assert (done.returncode, done.stdout) == (0, "0.1.0\n"), done.stderr


@pytest.mark.parametrize("way", WAYS, ids=["module", "command"])
def test_files_of_the_user_do_not_get_in_the_way(clone, tmp_path, way):
    for name in TAKEN:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not meant')\n", encoding="utf-8")
    done = called_in(clone, tmp_path, *way, "validate", ROOT / "scenarios/smoke.yaml")
    assert (done.returncode, "not meant" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("kind", ["{}.py", "{}/__init__.py", "{}/x"])
def test_folders_of_the_user_in_the_path_do_not_get_in_the_way(clone, tmp_path, kind):
    for name in ("topologies", "controllers", "spec", "units"):
        path = tmp_path / kind.format(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise RuntimeError('not meant')\n", encoding="utf-8")
    done = called_in(clone, tmp_path, "testbed", "validate", ROOT / "scenarios/smoke.yaml", path=str(tmp_path))
    assert (done.returncode, "not meant" in done.stderr) == (0, False), done.stderr


@pytest.mark.requires("clang")
def test_a_wheel_keeps_to_its_own_names(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"testbed"}


def test_the_installed_package_states_command_licence_and_extras():
    package = metadata.distribution("predictive-buffer-testbed")
    assert {entry.name: entry.value for entry in package.entry_points} == {"testbed": "testbed.cli:main"}
    assert set(package.metadata.get_all("Provides-Extra")) == {
        "docs",
        "onnx",
        "plot",
        "distributed",
        "train",
        "evaluate",
        "test",
        "bench",
        "check",
        "dev",
        "ryu",
        "scaler",
    }
    assert package.metadata["Requires-Python"] == ">=3.10"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").split()[:3] == ["Apache", "License", "Version"]


# -------------------------------------------------------------------------------------------------------------- pins


def pinned() -> dict[str, list[str]]:
    """Return the versions constraints.txt allows, by package."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pins.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier))
    return pins


def needed(extras: set[str]) -> set[str]:
    """Return the packages an installation with `extras` brings, as far as they are here; torch's own CUDA aside."""
    seen: set[str] = set()
    queue = [("predictive-buffer-testbed", frozenset(extras))]
    while queue:
        name, wanted = queue.pop()
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue
        for requirement in requirements:
            applies = (
                any(requirement.marker.evaluate({"extra": e}) for e in {"", *wanted}) if requirement.marker else True
            )
            child = canonicalize_name(requirement.name)
            if applies and child not in seen:
                seen.add(child)
                queue.append((child, frozenset(requirement.extras)))
    return seen


def test_every_package_a_run_or_a_test_needs_is_pinned_exactly():
    pins = pinned()
    brought = {name for name in needed({"dev", "ryu"}) if not name.startswith(("nvidia-", "triton", "cuda-"))}
    assert len(brought) > 30
    assert sorted(brought - set(pins)) == []
    assert [name for name, versions in pins.items() if not all(v.startswith("==") for v in versions)] == []


def test_a_package_with_two_pins_has_one_for_each_python():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name, versions in pinned().items():
        lines = [line for line in text.splitlines() if canonicalize_name(line.partition("==")[0]) == name]
        markers = sorted(line.partition("; ")[2] for line in lines)
        if len(versions) == 2:
            assert markers == ['python_version < "3.11"', 'python_version >= "3.11"'], name
        else:
            assert markers in ([""], ['python_version < "3.11"'], ['python_version >= "3.11"']), name


# ------------------------------------------------------------------------------------------------- make and .ci/run


def test_make_alone_tells_every_target_in_a_line():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    declared = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())
    told = [line.split()[1] for line in run("make").stdout.splitlines() if line.startswith("make ")]
    assert set(told) == {target for target in declared if not target.startswith("packages")}
    assert len(told) == len(set(told))


def test_the_readme_has_the_two_commands_and_ci_runs_the_second():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^sudo make run$", readme, re.MULTILINE)
    assert re.search(r"^sudo make test$", readme, re.MULTILINE)
    assert "exec make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_what_installs_a_thing_is_said_in_one_place_alone():
    sources = [path for folder in ("testbed", "controllers", "topologies") for path in (ROOT / folder).rglob("*.py")]
    saying = {path.name for path in sources if re.search("pip install|make setup|make ryu|apt-get", path.read_text())}
    # balancer.py: a description of a key names make ryu; contents.py: the README of a package, for another machine.
    assert saying == {"installing.py", "balancer.py", "contents.py"}


def test_in_the_tree_make_installs_what_the_makefile_can(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    told = {installing.optional(extra) for extra in ("train", "evaluate", "bench", "ryu", "scaler")}
    told |= {installing.packages("yaml"), installing.program("mnexec")}
    assert told == {"sudo make setup", "sudo make setup-test", "sudo make ryu", "sudo make scaler"}
    assert "`sudo make setup-test` installs torch" in (ROOT / "README.md").read_text(encoding="utf-8")
    for command in told:
        assert re.search(rf"^{command.split()[-1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    assert installing.optional("train") == f"sudo make -C {ROOT} setup-test"
    assert Path(installing.bpf().split()[-1], "Makefile").is_file()


def test_from_a_wheel_pip_and_apt_install_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    pip = f"{sys.executable} -m pip install "
    assert installing.packages("yaml", "rich") == pip + "pyyaml rich"
    # The installed package states what setup.py says of the extra.
    stated = re.search(r"^TRAIN = (\[.*\])", (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert installing.optional("train") == pip + " ".join(f"'{text}'" for text in ast.literal_eval(stated[1]))
    assert installing.program("ovs-vswitchd") == "sudo apt-get install openvswitch-switch"
    assert installing.program("tc") == "sudo apt-get install iproute2"


def table_of(readme: str, heading: str) -> list[str]:
    """Return the first cells of the README's table under the given head row."""
    rows = readme.split(heading, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [row.split("|")[1].strip(" `") for row in rows]


def test_the_readme_names_every_verb_and_exit_code_and_no_other():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = {command.name or command.callback.__name__ for command in commands.app.registered_commands}
    assert {cell.split()[0] for cell in table_of(readme, "| verb | does |")} == verbs
    codes = {str(value) for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert set(table_of(readme, "| code | meaning |")) == codes


def fake_tools(folder: Path, **bodies: str) -> dict[str, str]:
    """Return an environment in which the named commands are the given shell lines."""
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_ci_passes_on_status_output_and_needs(tmp_path):
    report = 'echo "make $* needs $TESTBED_REQUIRE"; read line && echo "has input"; echo "= 1 failed in 2s ="; exit 2'
    env = fake_tools(tmp_path / "bin", make=report)
    env.pop("TESTBED_REQUIRE", None)
    done = run(ROOT / ".ci/run", cwd=tmp_path, env={**env, "CI": "true"})
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["make test needs root,bpf,ovs,torch,onnx,ryu,step", "= 1 failed in 2s ="]


@pytest.fixture
def set_up(tmp_path):
    """Return a function that runs the package set-up where apt would leave a trace if it were called."""

    def call(installed: str, *packages: str) -> tuple[subprocess.CompletedProcess[str], bool]:
        env = fake_tools(
            tmp_path / "bin",
            dpkg_query=f'for last; do :; done; case " {installed} " in *" $last "*) printf installed;; esac',
            apt_get=f"touch {tmp_path}/called",
            id="echo 1000",
            bpftool="exit 1",
        )
        return run(ROOT / ".ci/system-packages", *packages, env=env), (tmp_path / "called").exists()

    return call


def test_set_up_leaves_apt_alone_when_nothing_is_missing(set_up):
    done, called = set_up("mininet clang bpftool", "mininet", "clang", "bpftool")
    assert (done.returncode, done.stdout, done.stderr, called) == (0, "", "", False)


def test_set_up_without_root_names_what_is_missing_and_the_command(set_up):
    done, called = set_up("clang", "mininet", "clang", "bpftool")
    assert (done.returncode, called) == (3, False)
    assert done.stderr == "set-up: missing packages: mininet bpftool; install them with `sudo make setup`\n"


# ----------------------------------------------------------------------------------------------------------- licence


def test_bpf_sources_are_dual_licensed():
    sources = [*(ROOT / "bpf").glob("*.c"), *(ROOT / "bpf").glob("*.h")]
    assert sources
    for path in sources:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)" in first, path
