"""ZIP archives: written so that the same files make the same bytes, and read so that a hostile one does no harm.

A ZIP from elsewhere may name files outside of the folder it is unpacked into, name one twice, hold links, or unpack to
far more than it takes.  Everything is checked against the directory of the archive before the first byte is unpacked,
and what is unpacked is counted again, since the directory may lie.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO

from testbed.errors import InputError
from testbed.files.reading import Source

MAX_FILES = 50_000
MAX_BYTES = 8 * 10**9  # of all files, unpacked
MAX_RATIO = 400  # of a file beyond `SMALL_BYTES`, and of all together; our most regular files reach about 50
SMALL_BYTES = 10**6
MAX_NAME_CHARS = 400
_TIME = (1980, 1, 1, 0, 0, 0)  # the first a ZIP can say
_CHUNK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others ask for as much memory as the archive says
_MAX_DIRECTORY_BYTES = 10 * 10**6
# What `zipfile` raises for an archive that is none, damaged or cut off.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError, struct.error)


def write(out: BinaryIO, files: Mapping[str, Path | bytes]) -> None:
    """Write an archive into an open file: names sorted, times and permissions fixed.

    Raises:
        InputError: a name is one that `unpack` does not take.
    """
    for name in files:
        if why := _why_no_name(name):
            raise InputError(f"packing {name[:80]!r}", f"its name is one {why}", "rename the file")
    if _has_twins(files):
        raise InputError("packing", "two files have the same name but for upper and lower case", "rename one of them")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            about = zipfile.ZipInfo(name, _TIME)
            about.compress_type, about.external_attr, about.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            content = files[name]
            with archive.open(about, "w", force_zip64=True) as target:
                if isinstance(content, bytes):
                    target.write(content)
                    continue
                with content.open("rb") as source:
                    while chunk := source.read(_CHUNK):
                        target.write(chunk)


def sha256_of(content: Path | bytes) -> str:
    """Return the SHA-256 of a file, however long, or of bytes, in hexadecimal digits.

    Raises:
        InputError: when the file cannot be read.
    """
    state = hashlib.sha256(content if isinstance(content, bytes) else b"")
    if isinstance(content, Path):
        with Source(content, "give a complete directory", follow=False).open() as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    return state.hexdigest()


class _Bounded(io.BufferedReader):
    """A file of which no more is read at once than the directory of an archive may take: `zipfile` reads it whole."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(io.FileIO(file.fileno(), closefd=False))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as the base class does.

        Raises:
            zipfile.BadZipFile: when more is asked for.
        """
        most = _MAX_DIRECTORY_BYTES + 1
        content = super().read(most if size is None or size < 0 else min(size, most))
        if len(content) > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory is larger than {_MAX_DIRECTORY_BYTES:,} bytes")
        return content


def unpack(source: Source, folder: Path) -> list[str]:
    """Unpack an archive into an empty folder and return the names in it.

    Raises:
        InputError: when it is no ZIP, is damaged or cut off, or holds what it may not.
    """
    try:
        with source.open() as file, zipfile.ZipFile(_Bounded(file)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
            _check(source, entries, os.fstat(file.fileno()).st_size)
            left = MAX_BYTES
            for entry in entries:
                left -= _unpack_one(source, archive, entry, folder, left)
    except DAMAGED as error:
        raise source.refusal(f"it is not a complete ZIP archive: {error}") from error
    return [entry.filename for entry in entries]


def _check(source: Source, entries: list[zipfile.ZipInfo], n_bytes: int) -> None:
    if len(entries) > MAX_FILES:
        raise source.refusal(f"it contains {len(entries):,} files, more than {MAX_FILES:,}")
    if _has_twins([entry.filename for entry in entries]):
        raise source.refusal("it contains two files with the same name")
    for entry in entries:
        if why := _why_no_name(entry.filename) or _why_not(entry):
            raise source.refusal(f"it contains {entry.filename[:80]!r}, {why}")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_BYTES:
        raise source.refusal(f"it unpacks to more than {MAX_BYTES:,} bytes")
    if unpacked > SMALL_BYTES and unpacked > MAX_RATIO * n_bytes:  # many small files, or several at one place
        raise source.refusal(f"its {n_bytes:,} bytes unpack to {unpacked:,}")


def _has_twins(names: Collection[str]) -> bool:
    """Tell whether two names are one for a file system that ignores case, or the two ways to write an accent."""
    return len({unicodedata.normalize("NFC", name).casefold() for name in names}) < len(names)


def _why_no_name(name: str) -> str:
    """Return why an archive may not hold a file of that name, empty where it may."""
    parts = name.split("/")
    if not name or name.startswith("/") or {"..", "."} & {*parts}:
        return "which lies outside of it"
    if len(name) > MAX_NAME_CHARS or "" in parts or any(not c.isprintable() or c in "\\:" for c in name):
        return "which is not a valid file name in a package"
    return ""


def _why_not(entry: zipfile.ZipInfo) -> str:
    """Return why an entry is not taken, empty where it is."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.compress_type not in _METHODS:
        return "which uses another compression than ours"
    if kind not in (0, stat.S_IFREG):
        return "which is not a regular file"
    if entry.flag_bits & 1:
        return "which is encrypted"
    if entry.file_size > SMALL_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return f"which unpacks to {entry.file_size:,} bytes of {entry.compress_size:,}"
    return ""


def _unpack_one(source: Source, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int) -> int:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    n_bytes = 0
    with archive.open(entry) as packed, target.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            n_bytes += len(chunk)
            if n_bytes > min(left, entry.file_size):
                raise source.refusal(f"{entry.filename[:80]!r} unpacks to more bytes than it declares")
            file.write(chunk)
    return n_bytes
