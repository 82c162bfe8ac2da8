"""Packages: the same run makes the same package, another machine makes its figures again, a changed one is refused."""

from __future__ import annotations

import io
import json
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.crate.comparing import DIFFERS, REPRODUCED
from testbed.crate.contents import DESCRIPTION, HASHES, package
from testbed.crate.opening import opened
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_OK, InputError
from testbed.files import archive
from testbed.trials.reproducing import reproduce

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = """\
version: 1
name: small
duration: 1s
topology: {family: single, node_rate: 40Mbit}
buffer: {policy: static-min}
traffic:
  - {name: base, from: c1, shape: poisson, rate: 45Mbit}
"""


def simulated(folder: Path, text: str = SCENARIO, *more: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(text)
    argv = ["simulate", str(folder / "small.yaml"), "--out", str(folder / "run"), "--quiet", *more]
    subprocess.run([sys.executable, "-m", "testbed", *argv], check=True, cwd=ROOT, timeout=120)
    return folder / "run"


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("crate"))


@pytest.fixture(scope="module")
def packed(run_path: Path) -> Path:
    return package(run_path, run_path.parent / "x.zip")


def rewritten(packed: Path, out: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """Write the package anew with its files changed, the list of hashes left as it is."""
    with zipfile.ZipFile(packed) as source:
        files = {name: source.read(name) for name in source.namelist()}
    change(files)
    with out.open("wb") as file:
        archive.write(file, files)
    return out


def with_entry(packed: Path, out: Path, name: str, content: bytes = b"x", mode: int = 0o644) -> Path:
    shutil.copyfile(packed, out)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as target:
        about = zipfile.ZipInfo(name)
        about.external_attr, about.compress_type = mode << 16, zipfile.ZIP_DEFLATED
        target.writestr(about, content)
    return out


def test_the_same_run_makes_the_same_package(run_path: Path, packed: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run_path, tmp_path / "run")
    for file in copied.iterdir():
        file.touch()
    assert package(copied, tmp_path / "y.zip").read_bytes() == packed.read_bytes()


def test_it_is_made_again_and_every_figure_is_equal(packed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = reproduce(packed, tmp_path / "out", note=said.append)
    assert [(one.outcome, one.why) for one in result.runs] == [(REPRODUCED, "all metrics are equal")]
    assert result.exit_code == EXIT_OK
    assert "all files are unchanged" in said[0]
    assert json.loads((tmp_path / "out" / "reproduction.json").read_text())[0]["outcome"] == REPRODUCED


def test_a_figure_that_is_not_made_again_is_named(run_path: Path, tmp_path: Path) -> None:
    polished = shutil.copytree(run_path, tmp_path / "run")
    summary = json.loads((polished / "summary.json").read_text())
    assert summary["buffer"]["loss_ratio"] > 0
    summary["buffer"]["loss_ratio"] = 0.0
    (polished / "summary.json").write_text(json.dumps(summary))
    result = reproduce(package(polished, tmp_path / "x.zip"), tmp_path / "out")
    assert [one.outcome for one in result.runs] == [DIFFERS]
    assert "buffer.loss_ratio is" in result.runs[0].why
    assert "it was 0" in result.runs[0].why
    assert result.exit_code == EXIT_EXPECTATION_FAILED


def test_one_byte_changed_is_refused(packed: Path, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match="was changed|not a complete ZIP"):
        opened(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["data/summary.json", "README.md", DESCRIPTION, "ro-crate-metadata.json"])
def test_a_file_changed_with_care_is_refused(packed: Path, tmp_path: Path, name: str) -> None:
    changed = rewritten(packed, tmp_path / "x.zip", lambda files: files.update({name: files[name] + b" "}))
    with pytest.raises(InputError, match=f"'{name}' was changed"):
        opened(changed, tmp_path / "out")


def test_a_file_more_or_less_is_refused(packed: Path, tmp_path: Path) -> None:
    more = rewritten(packed, tmp_path / "more.zip", lambda files: files.update({"data/more.py": b"1"}))
    with pytest.raises(InputError, match="'data/more.py' is not in its list"):
        opened(more, tmp_path / "a")
    less = rewritten(packed, tmp_path / "less.zip", lambda files: files.pop("data/events.jsonl"))
    with pytest.raises(InputError, match="'data/events.jsonl' is missing"):
        opened(less, tmp_path / "b")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_package_is_refused(packed: Path, tmp_path: Path, share: float) -> None:
    content = packed.read_bytes()
    (tmp_path / "x.zip").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="not a complete ZIP"):
        opened(tmp_path / "x.zip", tmp_path / "out")


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    foreign = io.BytesIO()
    archive.write(foreign, {"a.txt": b"a"})
    (tmp_path / "x.zip").write_bytes(foreign.getvalue())
    with pytest.raises(InputError, match=f"it has no {HASHES}, so it is not a package"):
        opened(tmp_path / "x.zip", tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        opened(tmp_path / "nothing.zip", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "data/../../evil", "data/./evil", "a\\..\\evil", "C:evil", "data/e\nvil"]
)
def test_no_file_lands_outside(packed: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "out"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="lies outside|not a valid file name"):
        opened(with_entry(packed, tmp_path / "x.zip", name), folder)
    assert list(folder.rglob("*")) == []
    assert [path.name for path in tmp_path.iterdir() if "evil" in path.name] == []


def test_links_twins_and_bombs_are_refused(packed: Path, tmp_path: Path) -> None:
    link = with_entry(packed, tmp_path / "link.zip", "data/link", b"/etc/passwd", stat.S_IFLNK | 0o777)
    with pytest.raises(InputError, match="not a regular file"):
        opened(link, tmp_path / "a")
    with pytest.warns(UserWarning, match="Duplicate"):
        twin = with_entry(packed, tmp_path / "twin.zip", "README.md")
    with pytest.raises(InputError, match="two files with the same name"):
        opened(twin, tmp_path / "b")
    bomb = with_entry(packed, tmp_path / "bomb.zip", "data/bomb", bytes(50_000_000))
    with pytest.raises(InputError, match="unpacks to 50,000,000 bytes of"):
        opened(bomb, tmp_path / "c")
    assert not (tmp_path / "c" / "data").exists()


def test_plug_ins_are_shown_and_run_only_when_trusted(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "scenarios" / "plugins" / "ewma_peak.py", tmp_path / "own.py")
    text = SCENARIO.replace("static-min", "ewma-peak").replace("topology:", "plugins: [../own.py]\ntopology:")
    made = package(simulated(tmp_path / "s", text), tmp_path / "x.zip")
    said: list[str] = []
    with pytest.raises(InputError, match="pass --trust"):
        reproduce(made, tmp_path / "a", note=said.append)
    assert any("ROWS" in line for line in said)
    assert not (tmp_path / "a" / "runs").exists()
    result = reproduce(made, tmp_path / "b", trust=True)
    assert [one.outcome for one in result.runs] == [REPRODUCED]


@pytest.mark.parametrize("named", ["/etc/evil.py", "../../evil.py"])
def test_a_scenario_that_names_files_outside_is_refused(run_path: Path, tmp_path: Path, named: str) -> None:
    path = shutil.copytree(run_path, tmp_path / "run")
    scenario = path / "scenario.yaml"
    data = yaml.safe_load(scenario.read_text())
    scenario.write_text(yaml.safe_dump({**data, "plugins": [named]}))
    with pytest.raises(InputError, match="which is outside of it"):
        reproduce(package(path, tmp_path / "x.zip"), tmp_path / "out", trust=True)


def test_what_is_no_directory_of_ours_is_not_packed(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run, sweep or claims directory"):
        package(tmp_path, tmp_path / "x.zip")
    linked = shutil.copytree(run_path, tmp_path / "run")
    (linked / "logs" / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="it contains a symbolic link"):
        package(linked, tmp_path / "x.zip")


def test_the_description_is_a_crate(packed: Path) -> None:
    with zipfile.ZipFile(packed) as source:
        graph = {one["@id"]: one for one in json.loads(source.read("ro-crate-metadata.json"))["@graph"]}
        names = set(source.namelist())
    parts = {part["@id"] for part in graph["./"]["hasPart"]}
    assert parts == names - {"ro-crate-metadata.json", HASHES}
    assert graph["#run-0"]["object"] == [{"@id": "data/scenario.yaml"}]
    assert {one["@id"] for one in graph["#run-0"]["result"]} == {
        name for name in names if name.startswith("data/") and name != "data/scenario.yaml"
    }


@pytest.mark.requires("rocrate")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries of the validator
def test_a_validator_takes_it_without_a_network(packed: Path, tmp_path: Path) -> None:
    """The rules that the profile requires; the vocabulary of RO-Crate comes from the package `rocrate`, not the net."""
    import rocrate
    from rocrate_validator import models, services

    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    cache = tmp_path / "cache"
    with requests_cache_of(cache, context.read_bytes()) as session:
        assert session.get("https://w3id.org/ro/crate/1.1/context").ok
    opened(packed, tmp_path / "crate")
    settings = services.ValidationSettings(
        rocrate_uri=str(tmp_path / "crate"), profile_identifier="process-run-crate", offline=True,
        requirement_severity=models.Severity.REQUIRED, cache_path=str(cache),
    )  # fmt: skip
    result = services.validate(settings)
    assert [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()] == []


def requests_cache_of(path: Path, content: bytes) -> Any:
    """Return a session that answers every request with `content` and keeps it where the validator looks."""
    import requests_cache
    from requests import Response
    from requests.adapters import BaseAdapter
    from urllib3.response import HTTPResponse

    class Fixed(BaseAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            found = Response()
            found.status_code, found.url, found.request = 200, request.url, request
            found.headers["Content-Type"] = "application/ld+json"
            body = io.BytesIO(content)
            found.raw = HTTPResponse(body=body, status=200, preload_content=False, request_url=request.url)
            return found

        def close(self) -> None:
            pass

    session = requests_cache.CachedSession(str(path), expire_after=-1)
    session.mount("https://", Fixed())
    return session


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_package_packed_in_another_way_is_refused(packed: Path, tmp_path: Path, method: int) -> None:
    """LZMA asks for as much memory as the archive says."""
    shutil.copyfile(packed, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "a", method) as target:
        target.writestr("data/more", b"x" * 100)
    with pytest.raises(InputError, match="uses another compression"):
        opened(tmp_path / "x.zip", tmp_path / "out")


def test_a_directory_that_is_too_large_and_a_file_without_a_name_are_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lies outside"):
        opened(rewritten(packed, tmp_path / "x.zip", lambda files: files.update({"": b"x"})), tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as target:
        for number in range(200):
            about = zipfile.ZipInfo(f"{number}")
            about.comment = bytes(60_000)
            target.writestr(about, b"")
    with pytest.raises(InputError, match="its directory is larger"):
        opened(tmp_path / "y.zip", tmp_path / "b")
