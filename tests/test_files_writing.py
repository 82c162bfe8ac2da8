"""What is written is there whole or not at all, and a disk that takes no more is said as one, whoever writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.errors import ToolError
from testbed.files import json_text, writing
from testbed.files.reading import Source

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
SCENARIO = """
version: 1
name: full
duration: 300ms
topology: {family: cluster, nodes: 2, clients: 1, node_rate: 20Mbit}
buffer: {policy: reactive, min: 0.02MB}
traffic: [{name: load, from: c1, shape: constant, rate: 60Mbit, flows: 50}]
"""
SWEEP = "version: 1\nname: small\nscenario: s.yaml\nset: {buffer.policy: [static-min, reactive]}\nseeds: [1]\n"


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")
    assert writing.replace(target, "after é") == target
    assert target.read_text() == "after é"
    with pytest.raises(KeyError):
        writing.replace(target, lambda file: {}["breaks"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "after é"


def test_what_lies_beside_is_never_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / ".page.new").symlink_to(precious)
    (tmp_path / "page").symlink_to(precious)
    writing.replace(tmp_path / "page", "new")
    assert precious.read_text() == "kept"
    assert not (tmp_path / "page").is_symlink()


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_durable_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def renamed(old: Path, new: Path) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    writing.replace(tmp_path / "file", b"x", durable=durable)
    assert done == (["sync .file.new", "rename", f"sync {tmp_path.name}"] if durable else ["rename"])


def test_json_that_is_written_is_json_that_is_read(tmp_path: Path) -> None:
    value = {"command": ["run", "\udcff.yaml", 'µ \\ "'], "n": [1, 2.5, None]}
    target = writing.replace_json(tmp_path / "x.json", value)
    assert json_text.read(Source(target, "")) == {**value, "command": ["run", "\\udcff.yaml", 'µ \\ "']}
    with pytest.raises(ValueError, match="JSON"):
        writing.replace_json(target, float("nan"))


def test_a_status_is_changed_where_it_stands(tmp_path: Path) -> None:
    target = tmp_path / "manifest.json"
    target.write_text(json.dumps({"schema": 1, "status": "running", "more": "running"}))
    writing.overwrite(target, b'"running"', b'"failed" ')
    assert json.loads(target.read_text()) == {"schema": 1, "status": "failed", "more": "running"}
    with pytest.raises(ValueError, match="no room"):
        writing.overwrite(target, b"a", b"bb")


def test_no_right_and_no_room_have_different_remedies(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="check the disk"):
        writing.replace(tmp_path / "absent" / "file", "x")
    full = writing.refusal(tmp_path, OSError(28, "No space left on device"), "choose another --out")
    assert str(full).endswith("No space left on device; free disk space or choose another --out")


# --------------------------------------------------------------------------------------------------- a full disk

FULL = r"""
import json, shutil, sys
from pathlib import Path
from testbed import cli
from testbed.errors import TestbedError

def called(*arguments):
    sys.argv = ["testbed", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code

disk, verb = Path(sys.argv[1]), sys.argv[2]
code = called(*sys.argv[3:])
status = ""
for manifest in sorted(disk.glob("**/manifest.json")):
    status += json.loads(manifest.read_text())["status"] + " "
left = [str(path) for path in disk.glob("**/.*.new")]
print(json.dumps({"code": code, "status": status, "left": left}))
"""


def on_a_small_disk(kilobytes: int, folder: Path, before: str, *arguments: str) -> tuple[dict[str, object], str]:
    """Call the command line where `folder`/disk holds so much, after the shell command `before`; return what came."""
    (folder / "disk").mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o size={kilobytes}k none disk && {{ {before}; }} && exec "$0" -c "$1" disk "$@"'
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, FULL, *arguments],
        capture_output=True, text=True, check=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return json.loads(ended.stdout.splitlines()[-1]), ended.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


@pytest.mark.requires("root")
@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 40, 120, 500])
def test_a_disk_that_fills_during_a_run_is_said_and_the_run_failed(folder: Path, kilobytes: int) -> None:
    came, said = on_a_small_disk(kilobytes, folder, "true", "simulate", "s.yaml", "--quiet", "--out", "disk/r")
    assert came["code"] == 4, said
    assert "No space left on device" in said
    assert "free disk space or choose another --out" in said
    assert came["status"] == "failed "
    assert came["left"] == []


RUN = CORPUS / "runs" / "lstm"
OTHERS = {
    "report": (300, f"cp -r {RUN} disk/r", ("report", "disk/r")),
    "compare": (64, "true", ("compare", str(RUN), str(RUN), "--page", "disk/page.html")),
    "sweep": (8, "true", ("sweep", "sweep.yaml", "--engine", "simulation", "--quiet", "--out", "disk/o")),
    "sweep, later": (1500, "true", ("sweep", "sweep.yaml", "--engine", "simulation", "--quiet", "--out", "disk/o")),
}


@pytest.mark.requires("root")
@pytest.mark.parametrize("name", OTHERS)
def test_a_disk_that_fills_under_any_other_verb_is_said_too(folder: Path, name: str) -> None:
    kilobytes, before, arguments = OTHERS[name]
    came, said = on_a_small_disk(kilobytes, folder, before, *arguments)
    assert came["code"] == 4, said
    assert "No space left on device" in said
    assert "free disk space" in said
    assert "running" not in str(came["status"])
    assert came["left"] == []


MODEL = r"""
import sys
from pathlib import Path
import numpy as np
from testbed.errors import ToolError
from testbed.forecaster.evaluation import card, text
from testbed.forecaster.runtime import artefact
from testbed.forecaster.training import onnx_export

disk, model = Path(sys.argv[1]), artefact.load_model()
weights = {name: getattr(model, name) for name in artefact._ARRAYS}
document = {"model_sha256": model.sha256}
text.as_markdown = lambda document: "x" * 9000
(disk / "MODEL.md").write_text(model.sha256 + "## Limits")
writers = {
    "weights": lambda: artefact.save_model(disk / "m.npz", weights, {}),
    "card": lambda: card.write_card(artefact.DEFAULT_MODEL, disk / "CARD.md"),
    "section": lambda: text.write_section(disk / "MODEL.md", document),
    "onnx": lambda: onnx_export.write_onnx(model, disk / "m.onnx"),
}
for name, write in writers.items():
    try:
        write()
    except ToolError as error:
        print(name, error)
print(sorted(path.name for path in disk.iterdir()))
"""


@pytest.mark.requires("root", "onnx")
def test_a_model_its_card_and_its_onnx_are_written_whole_or_not_at_all(folder: Path) -> None:
    (folder / "disk").mkdir()
    inside = 'mount -t tmpfs -o size=8k none disk && exec "$0" -c "$1" disk'
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, sys.executable, MODEL],
        capture_output=True, text=True, check=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    *said, left = ended.stdout.splitlines()
    assert [line.partition(" ")[0] for line in said] == ["weights", "card", "section", "onnx"]
    assert all("No space left on device; free disk space" in line for line in said)
    assert left == "['MODEL.md']"
