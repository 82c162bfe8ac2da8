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

from testbed.crate.comparing import DIFFERS, NOT_RUN, REPRODUCED
from testbed.crate.contents import DESCRIPTION, HASHES, package
from testbed.crate.opening import opened
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INVALID, EXIT_OK, InputError
from testbed.files import archive
from testbed.trials import sweep
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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("readme.MD", "two files with the same name"),
        ("data/SUMMARY.json", "two files with the same name"),
        ("data//summary.json", "not a valid file name"),
        ("data/summary.json/x", "File exists"),  # a file that is a folder, too
        ("data/" + "x" * 300, "File name too long"),
        ("data/" + "x/" * 250 + "x", "not a valid file name"),
        ("data/\u202eevil", "not a valid file name"),
    ],
)
def test_no_two_files_share_a_place(packed: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        opened(with_entry(packed, tmp_path / "x.zip", name), tmp_path / "out")
    assert said in str(raised.value) or "is not in its list of hashes" in str(raised.value)


def test_the_two_ways_to_write_an_accent_are_one_name(packed: Path, tmp_path: Path) -> None:
    once = with_entry(packed, tmp_path / "1.zip", "data/\u00e9")
    with pytest.raises(InputError, match="two files with the same name"):
        opened(with_entry(once, tmp_path / "2.zip", "data/e\u0301"), tmp_path / "out")


def test_a_name_that_ends_at_a_null_byte_is_refused(packed: Path, tmp_path: Path) -> None:
    content = with_entry(packed, tmp_path / "x.zip", "data/evil?.txt").read_bytes()
    (tmp_path / "x.zip").write_bytes(content.replace(b"data/evil?.txt", b"data/evil\0.txt"))
    with pytest.raises(InputError, match="'data/evil' is not in its list|not a complete ZIP"):
        opened(tmp_path / "x.zip", tmp_path / "out")


def test_many_entries_are_refused(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(InputError, match="files, more than 3"):
        opened(packed, tmp_path / "out")


def test_many_small_files_are_no_way_around_the_bound(tmp_path: Path) -> None:
    with (tmp_path / "x.zip").open("wb") as file:
        archive.write(file, {f"data/{number}": bytes(900_000) for number in range(20)})
    with pytest.raises(InputError, match=r"its .* bytes unpack to 18,000,000"):
        opened(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


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


EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nROWS = ()\n"


@pytest.mark.parametrize("key", ["plugins: [evil.txt]", "plugins: [evil]", "topology: {file: evil.txt, class: X}"])
def test_code_is_not_executed_whatever_its_name(run_path: Path, tmp_path: Path, key: str) -> None:
    path = shutil.copytree(run_path, tmp_path / "run")
    data = {**yaml.safe_load((path / "scenario.yaml").read_text()), **yaml.safe_load(key)}
    (path / "scenario.yaml").write_text(yaml.safe_dump(data))
    for name in ("evil", "evil.txt"):
        (path / name).write_text(EVIL)
    with pytest.raises(InputError, match="it contains 1 plug-ins, whose code would be executed"):
        reproduce(package(path, tmp_path / "x.zip"), tmp_path / "out")
    assert list(tmp_path.rglob("ran")) == []
    assert not (tmp_path / "out").exists(), "what was refused is in nobody's way"


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


def test_what_could_not_be_opened_is_not_packed(run_path: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(run_path, tmp_path / "run")
    (odd / "logs" / "a:b").touch()
    with pytest.raises(InputError, match=r"packing 'data/logs/a:b': its name is one which is not a valid"):
        package(odd, tmp_path / "x.zip")
    (odd / "logs" / "a:b").unlink()
    (odd / "logs" / "Agent").touch()
    (odd / "logs" / "agent").touch()
    with pytest.raises(InputError, match="the same name but for upper and lower case"):
        package(odd, tmp_path / "x.zip")
    with pytest.raises(InputError, match="would be part of itself"):
        package(run_path, run_path / "x.zip")
    assert not (run_path / "x.zip").exists()


def test_a_package_has_the_name_of_its_directory(
    run_path: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_path)
    assert package(Path(), tmp_path / "x.zip").read_bytes() == packed.read_bytes()


def test_a_run_that_is_named_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    def twice(files: dict[str, bytes]) -> None:
        described = json.loads(files[DESCRIPTION])
        files[DESCRIPTION] = json.dumps({**described, "runs": described["runs"] * 2}).encode()
        lines = [f"{archive.sha256_of(files[name])}  {name}\n" for name in sorted(files) if name != HASHES]
        files[HASHES] = "".join(lines).encode()

    with pytest.raises(InputError, match="names a run twice"):
        opened(rewritten(packed, tmp_path / "x.zip", twice), tmp_path / "out")


def test_a_run_that_is_invalid_has_nothing_to_reproduce(run_path: Path, tmp_path: Path) -> None:
    path = shutil.copytree(run_path, tmp_path / "run")
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps({**summary, "verdict": "INVALID"}))
    result = reproduce(package(path, tmp_path / "x.zip"), tmp_path / "out")
    assert [(one.outcome, one.decides) for one in result.runs] == [(NOT_RUN, False)]
    assert "the run in the package is INVALID" in result.runs[0].why
    assert result.exit_code == EXIT_INVALID
    assert not (tmp_path / "out" / "runs").exists()


def test_runs_of_a_sweep_are_made_side_by_side_and_listed_in_order(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO)
    (tmp_path / "some.yaml").write_text(
        "version: 1\nname: some\nscenario: small.yaml\nset: {buffer.policy: [static-min, static-max]}\nseeds: 2\n"
    )
    made = sweep.sweep(tmp_path / "some.yaml", tmp_path / "out", "simulation", quiet=True)
    result = reproduce(package(made.path, tmp_path / "x.zip"), tmp_path / "again", jobs=2)
    assert (result.exit_code, {one.outcome for one in result.runs}) == (EXIT_OK, {REPRODUCED})
    assert [one.run for one in result.runs] == sorted(
        f"data/{path.parent.name}" for path in made.path.glob("*/summary.json")
    )


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
