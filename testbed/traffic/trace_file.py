"""What a trace file holds, as bytes: a regular file of bounded size, unpacked where it is gzip.

Whether a file is packed is decided by its first bytes, never by its name.  A gzip is read to its end: each member
carries a check sum and its length, and a member that is cut off or does not agree with them is damage, not the end of
the file.  Other packers are named, with the command that unpacks.

Source: RFC 1952 (gzip: members one after another, section 2.2).
"""

from __future__ import annotations

import zlib
from pathlib import Path

from testbed.errors import InputError
from testbed.files.reading import Source

MAX_FILE_BYTES = 256 * 10**6
_GZIP = b"\x1f\x8b"
_PACKERS = {
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4"),
}
_PIECE_BYTES = 1 << 16  # what follows a member is copied once a member: keep it short
_MAX_MEMBERS = 100_000


def refusal(name: str, happened: str, remedy: str) -> InputError:
    """Return the error of a trace that cannot be used."""
    return InputError(f"reading the trace {name}", happened, remedy)


def contents(path: Path) -> bytes | bytearray:
    """Return the bytes of a trace file, unpacked.

    Raises:
        InputError: the file is missing, not a regular one, too large, or a damaged or unknown archive.
    """
    return unpacked(packed(path), str(path))


def packed(path: Path) -> bytes:
    """Return the bytes of a trace file as it is.

    Raises:
        InputError: the file is missing, not a regular one or too large.
    """
    source = Source(path, "paths are relative to the scenario file", f"reading the trace {path}")
    return source.read(MAX_FILE_BYTES)


def unpacked(content: bytes, name: str) -> bytes | bytearray:
    """Return `content`, unpacked where it is gzip.

    Raises:
        InputError: damaged, packed by another program, or too large once unpacked.
    """
    for magic, (packer, remedy) in _PACKERS.items():
        if content.startswith(magic):
            raise refusal(name, f"it is compressed with {packer}", f"decompress it with `{remedy}`")
    if not content.startswith(_GZIP):
        return content
    try:
        return _gunzipped(content, name)
    except (zlib.error, EOFError) as error:
        happened = f"its gzip is damaged ({str(error).rpartition(': ')[2]})"
        raise refusal(name, happened, "check it with `gzip -t`, fetch it again") from error


def _gunzipped(content: bytes, name: str) -> bytearray:
    plain, view, at = bytearray(), memoryview(content), 0
    for _ in range(_MAX_MEMBERS):
        at = _one_member(view, at, plain, name)
        if not content[at : at + 1].strip(b"\0"):
            at = len(content) - len(content[at:].lstrip(b"\0"))  # zeros may fill the last block of a tape
        if at == len(content):
            return plain
        if content[at : at + 2] != _GZIP:
            raise EOFError("other data follow it")
    raise refusal(name, f"its gzip has more than {_MAX_MEMBERS:,} members", "compress it again")


def _one_member(view: memoryview, at: int, plain: bytearray, name: str) -> int:
    """Unpack the member that begins at `at` to the end of `plain`; return where it ends."""
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    while not member.eof:
        piece = member.unconsumed_tail or view[at : at + _PIECE_BYTES]
        if not piece:
            raise EOFError("it is cut off")
        if piece is not member.unconsumed_tail:
            at += len(piece)
        plain += member.decompress(piece, _PIECE_BYTES * 16)
        if len(plain) > MAX_FILE_BYTES:
            raise refusal(name, f"it unpacks to more than {MAX_FILE_BYTES:,} bytes", "shorten it")
    return at - len(member.unused_data)
