"""Damage to packages: members changed under a list of hashes that fits them again, hostile entries, lying directories.

Most damage to a package ends at its list of hashes.  So that the readers behind it are met, too, the list is made anew
after most changes, as somebody would who means harm.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
import zipfile
from pathlib import PurePosixPath
from random import Random

from tests.fuzz import mutate_bytes, mutate_json, mutate_parquet, mutate_text

HASHES = "manifest-sha256.txt"
_MUTATORS = {
    ".json": mutate_json.mutate,
    ".jsonl": mutate_json.mutate_lines,
    ".yaml": mutate_text.mutate,
    ".txt": mutate_text.mutate,
    ".parquet": mutate_parquet.mutate,
}
_NAMES = (
    *("../evil", "/evil", "data/../../evil", "data/./evil", "a\\evil", "C:evil", "data/e\nvil", "", ".", "..", "a//b"),
    *(
        "data",
        "data/run/",
        "package.json/x",
        "README.MD",
        "data/\u00e9",
        "data/e\u0301",
        "\ud800x",
        "x" * 300,
        "d/" * 190 + "x",
    ),
    *("data/own.py", "data/" + "y" * 400, "data/nul\x00x", "con", "data/.hidden"),
)
_MODES = (0o644, 0o4755, 0o644 | stat.S_IFREG, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO | 0o644)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_RECORDS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07")
_BOMB_BYTES = 30 * 10**6
_MANY = 60_000
_NOT_FOR_SHORT = 1_000_000


def mutate(content: bytes, rng: Random) -> bytes:
    """Return a package damaged once or a few times."""
    choice = rng.random()
    if choice < 0.1:
        return mutate_bytes.mutate(content, rng)
    if choice < 0.25:
        return _record(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(members, rng)
    if rng.random() < 0.8:
        members[HASHES] = _hashes(members)
    return _packed(members, rng)


def _record(content: bytes, rng: Random) -> bytes:
    """Return the archive with a number in one of its records replaced."""
    signature = rng.choice(_RECORDS)
    places = [at for at in range(len(content)) if content.startswith(signature, at)] or [0]
    at = rng.choice(places) + 4 + rng.randrange(44)
    number = rng.choice((0, 1, 8, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    new = struct.pack("<I", number)[: rng.choice((1, 2, 4))]
    return content[:at] + new + content[at + len(new) :]


def _change(members: dict[str, bytes], rng: Random) -> None:
    name = rng.choice([*members, "package.json", "package.json"])
    match rng.randrange(8):
        case 0:
            members.pop(name, None)
        case 1:
            members[rng.choice(_NAMES)] = members.get(name, b"")
        case 2 if name in members:
            members[rng.choice(_NAMES)] = members.pop(name)
        case 3:
            members[name] = members.get(rng.choice(list(members)) if members else "", b"")
        case _:
            old = members.get(name, b"")
            members[name] = _mutated(old, PurePosixPath(name).suffix, rng)


def _mutated(content: bytes, suffix: str, rng: Random) -> bytes:
    try:
        return _MUTATORS.get(suffix, mutate_bytes.mutate)(content, rng)
    except OSError:  # of Parquet, damaged before
        return mutate_bytes.mutate(content, rng)


def _hashes(members: dict[str, bytes]) -> bytes:
    named = sorted(name for name in members if name != HASHES)
    lines = (f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in named)
    return "".join(lines).encode(errors="surrogatepass")


def _packed(members: dict[str, bytes], rng: Random) -> bytes:
    """Return an archive of the members; now and then one of them is a link, a bomb, packed oddly, or there twice."""
    out, odd_one = io.BytesIO(), rng.random() < 0.3
    chosen, kind = rng.choice(list(members) or [""]), rng.randrange(5)
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            about = zipfile.ZipInfo(_encodable(name))
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            if odd_one and name == chosen:
                archive.writestr(about, _oddly(archive, about, content, kind, rng))
            else:
                archive.writestr(about, content)
    return out.getvalue()


def _oddly(archive: zipfile.ZipFile, about: zipfile.ZipInfo, content: bytes, kind: int, rng: Random) -> bytes:
    match kind:
        case 0:
            about.external_attr = rng.choice(_MODES) << 16
        case 1:
            about.compress_type = rng.choice(_METHODS)
        case 2:
            archive.writestr(rng.choice((about.filename, about.filename.upper())), content)
        case 3:
            return bytes(rng.choice((_BOMB_BYTES, _NOT_FOR_SHORT)))
        case _ if rng.random() < 0.1:
            for number in range(_MANY):
                archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    return content


def _encodable(name: str) -> str:
    return name.encode(errors="replace").decode().split("\x00")[0]
