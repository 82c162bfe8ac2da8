"""Damage to ``.npz`` archives: other types, shapes and values, hidden objects, lying headers, bombs."""

from __future__ import annotations

import io
import zipfile
from random import Random
from typing import Any

import numpy as np

from tests.fuzz import mutate_bytes

_TYPES = (
    "object",
    "int8",
    "uint64",
    "float16",
    "float64",
    "complex64",
    "bool",
    "U3",
    "S3",
    "datetime64[s]",
    "V5",
    "i4,f8",
)
_BOMB_BYTES = 3 * 10**9


def mutate(content: bytes, rng: Random) -> bytes:
    """Return an archive damaged once."""
    choice = rng.random()
    if choice < 0.3:
        return mutate_bytes.mutate(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(list(members))
    if choice < 0.75:
        members[name] = _saved(_changed(np.load(io.BytesIO(members[name])), rng))
    elif choice < 0.9:
        members[name] = _header_changed(members[name], rng)
    else:
        _member_changed(members, name, rng)
    return _packed(members, rng)


def _changed(array: np.ndarray[Any, Any], rng: Random) -> Any:
    with np.errstate(all="ignore"):
        match rng.randrange(8):
            case 0 | 1:
                return _as_type(array, rng.choice(_TYPES))
            case 2:
                return array[..., : rng.randrange(3)] if array.ndim else array.reshape(1, 1)
            case 3:
                return array.reshape(-1) if rng.random() < 0.5 else array[None]
            case 4 | 5:
                return _with_value(array, rng)
            case 6:
                return np.concatenate([array.ravel()] * rng.choice((2, 3))) if array.ndim else array
            case _:
                return array[:0] if array.ndim else np.float64(np.nan)


def _as_type(array: np.ndarray[Any, Any], kind: str) -> Any:
    try:
        return array.astype(kind)
    except (ValueError, TypeError):
        return np.zeros(array.shape, kind)


def _with_value(array: np.ndarray[Any, Any], rng: Random) -> Any:
    changed = array.astype(np.float64)
    value = rng.choice((np.nan, np.inf, -np.inf, -1.0, 0.0, 1e308, 2.0**63, 1e-308))
    changed.reshape(-1)[rng.randrange(max(changed.size, 1)) : None if rng.random() < 0.2 else changed.size] = value
    return changed.astype(array.dtype) if np.can_cast(np.float64, array.dtype, "same_kind") else changed


def _saved(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def _header_changed(member: bytes, rng: Random) -> bytes:
    """Return an array whose header says something else than what follows."""
    olds = (b"'fortran_order': False", b"'shape': (", b"'descr': '<f4'", b"'descr': '<f8'", b"'descr': '<i8'", b"}")
    news = (
        b"'shape': (10**9,",
        b"'shape': (-1, ",
        b"'descr': '|O'",
        b"'descr': '<f99'",
        b"'shape': (99999999999, ",
        b"((",
    )
    old = rng.choice([old for old in olds if old in member] or [b"NUMPY"])
    return member.replace(old, rng.choice(news), 1) if rng.random() < 0.7 else mutate_bytes.mutate(member[:128], rng)


def _member_changed(members: dict[str, bytes], name: str, rng: Random) -> None:
    match rng.randrange(5):
        case 0:
            del members[name]
        case 1:
            members[
                rng.choice(("x.npy", "../x.npy", "/x.npy", name + "/", name.removesuffix(".npy"), "\u00e9.npy"))
            ] = members.pop(name)
        case 2:
            members[name] = rng.choice((b"", b"\x93NUMPY", b"\x80\x04N.", b"PK\x05\x06" + b"\0" * 18))
        case 3:
            members |= {f"{k}.npy": b"" for k in range(3000)}
        case _:
            members[name] = members[name][:128] + b"\0" * 20_000_000


def _packed(members: dict[str, bytes], rng: Random) -> bytes:
    out = io.BytesIO()
    kind = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    packed = out.getvalue()
    return packed if rng.random() < 0.9 else _declared_larger(packed, rng)


def _declared_larger(packed: bytes, rng: Random) -> bytes:
    """Return the archive with another unpacked size in an entry of its directory."""
    at = packed.find(b"PK\x01\x02")
    size = rng.choice((0, 1, _BOMB_BYTES, 2**32 - 1)).to_bytes(4, "little")
    return packed[: at + 24] + size + packed[at + 28 :]
