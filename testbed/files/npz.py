"""Arrays of an ``.npz`` file that may come from anywhere: bounded in size, checked before memory is allocated for them.

An ``.npz`` is a zip of ``.npy`` files; each begins with a header that says type and shape.  NumPy takes memory for
whatever the header says, and `zipfile` reads a directory of any length; here the directory is bounded, an array has to
be exactly as long as its header says, and only plain numbers are taken.
"""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
from collections.abc import Iterable

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from testbed.files.archive import DAMAGED

MAX_UNPACKED_BYTES = 256 * 10**6
_MAX_DIRECTORY_BYTES = 1 << 20
_END_BYTES = 22
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x07"
_PACKED_BY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as NumPy writes them
_NUMBERS = "biuf"


def is_npz(content: bytes | bytearray) -> bool:
    """Return whether `content` begins as an archive of arrays does."""
    return bytes(content[:4]) in (b"PK\x03\x04", _END)


def keys(content: bytes | bytearray) -> set[str]:
    """Return the names of the arrays.

    Raises:
        ValueError: the archive is damaged, or its directory is too long.
    """
    with _opened(content) as archive:
        return {info.filename.removesuffix(".npy") for info in archive.infolist() if info.filename.endswith(".npy")}


def arrays(content: bytes | bytearray, wanted: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """Return those of the `wanted` arrays that the archive has, each read-only.

    Raises:
        ValueError: says what is wrong with the archive or with which array.
    """
    with _opened(content) as archive:
        members = {key: info for key in wanted for info in archive.infolist() if info.filename == f"{key}.npy"}
        size = sum(info.file_size for info in members.values())
        if size > MAX_UNPACKED_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, more than {MAX_UNPACKED_BYTES:,}")
        return {key: _array(key, _member(archive, info)) for key, info in members.items()}


def _opened(content: bytes | bytearray) -> zipfile.ZipFile:
    at = content.rfind(_END, -(_END_BYTES + 0xFFFF))
    directory = int.from_bytes(content[at + 12 : at + 16], "little")
    if at < 0 or content[at - 20 : at - 16] == _END_64 or directory > _MAX_DIRECTORY_BYTES:
        raise ValueError("it is not an archive of arrays, or not a complete one")
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except (*DAMAGED, ValueError, OSError) as error:
        raise ValueError(f"it is damaged: {error}") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type not in _PACKED_BY or info.flag_bits & 1:
        raise ValueError(f"{info.filename} uses a compression that NumPy does not use")
    try:
        return archive.read(info)
    except (*DAMAGED, ValueError, OSError) as error:
        raise ValueError(f"{info.filename} is damaged: {error}") from error


def _array(key: str, member: bytes) -> NDArray[np.generic]:
    file = io.BytesIO(member)
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's parser, which NumPy reads a header with, warns of odd literals
            shape, by_column, kind = read(file)
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError, SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{key} is damaged: its header cannot be read") from error
    if kind.kind not in _NUMBERS:
        raise ValueError(f"{key} contains no plain numbers ({kind})")
    if math.prod(shape) * kind.itemsize != len(member) - file.tell() or min(shape, default=0) < 0:
        raise ValueError(f"{key} is damaged: it is not as long as its header says")
    values = np.frombuffer(member, kind, offset=file.tell())
    return values.reshape(shape, order="F" if by_column else "C")
