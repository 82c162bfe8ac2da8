"""An input: the files of a folder, one of them damaged; the same for ever for a target, a seed and a number."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random

from tests.fuzz import mutate_bytes, mutate_json, mutate_npz, mutate_parquet, mutate_text, mutate_zip

CORPUS = Path(__file__).parent / "corpus"


class NoFile(Enum):
    """What may lie where a file should be."""

    MISSING = "nothing"
    FOLDER = "a folder"
    FIFO = "a named pipe nobody writes to"
    LOOP = "a link to itself"
    DANGLING = "a link to nothing"
    ENDLESS = "a link to /dev/zero"
    FAR = "a link out of the folder"


Files = dict[str, "bytes | NoFile"]
_MUTATORS: Mapping[str, Callable[[bytes, Random], bytes]] = {
    ".json": mutate_json.mutate,
    ".jsonl": mutate_json.mutate_lines,
    ".yaml": mutate_text.mutate,
    ".csv": mutate_text.mutate,
    ".npz": mutate_npz.mutate,
    ".parquet": mutate_parquet.mutate,
    ".zip": mutate_zip.mutate,
}
_NO_FILE_SHARE = 0.02


@dataclass(frozen=True)
class Target:
    """A reader and what it is fed.

    Attributes:
        name: on the command line.
        corpus: the folder of `CORPUS` it starts from: each file in it is an input, or each folder in it.
        read: the reader, given the folder of an input and the name of the file that was damaged.
        refusal: the error by which the reader may refuse.
        damaged: names of the files to damage, the likelier the oftener named; empty: any.
        mutate: damages a file of no known kind.
        bare: no file is read, but what is in it: nothing else lies where it should be.
    """

    name: str
    corpus: str
    read: Callable[[Path, str], object]
    refusal: type[Exception]
    damaged: Sequence[str] = ()
    mutate: Callable[[bytes, Random], bytes] = mutate_bytes.mutate
    bare: bool = False


def seeds_of(target: Target) -> list[dict[str, bytes]]:
    """Return the sound inputs of a target."""
    found = []
    for entry in sorted((CORPUS / target.corpus).iterdir()):
        files = sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]
        base = entry if entry.is_dir() else entry.parent
        found.append({path.relative_to(base).as_posix(): path.read_bytes() for path in files})
    return found


def make(target: Target, seeds: Sequence[Mapping[str, bytes]], seed: int, number: int) -> tuple[Files, str]:
    """Return the input of that number and the name of its damaged file; number 0 to n-1 are the sound ones."""
    if number < len(seeds):
        return dict(seeds[number]), next(iter(seeds[number]))
    rng = Random(f"{seed}/{target.name}/{number}")
    sound = rng.choice(list(seeds))
    files: Files = dict(sound)
    name = rng.choice([name for name in target.damaged if name in sound] or list(sound))
    if rng.random() < _NO_FILE_SHARE and not target.bare:
        files[name] = rng.choice(list(NoFile))
        return files, name
    files[name] = _MUTATORS.get(Path(name).suffix, target.mutate)(sound[name], rng)
    return files, name


def write(files: Files, folder: Path) -> None:
    """Make `folder` anew with the files in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else _put(path, content)


def _put(path: Path, kind: NoFile) -> None:
    match kind:
        case NoFile.FOLDER:
            path.mkdir()
        case NoFile.FIFO:
            os.mkfifo(path)
        case NoFile.LOOP:
            path.symlink_to(path.name)
        case NoFile.DANGLING:
            path.symlink_to("nowhere")
        case NoFile.ENDLESS:
            path.symlink_to("/dev/zero")
        case NoFile.FAR:
            path.symlink_to("/proc/self/environ")
        case NoFile.MISSING:
            pass
