"""Values that have broken readers before: what a mutation puts in the place of a sound one."""

from __future__ import annotations

from random import Random

# JSON texts, some of which `json.dumps` would not write.
TEXTS = (
    *("null", "true", "false", "0", "-0", "1", "-1", "0.5", "-0.5", "1e308", "-1e308", "1e-308", "5e-324"),
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "1.", "+1", "0x10"),
    *(str(2**31), str(2**32), str(2**53), str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), str(2**64)),
    *("1" * 400, "1" * 5000, "-" + "9" * 5000),
    *('""', '" "', '"x"', '"0"', '"n1"', '"n9"', '"c1"', '"\\u0000"', '"\\ud800"', '"\\udfff x"', '"\\ud83d\\ude00"'),
    *('"é"', '"../../etc/passwd"', '"/etc/passwd"', '"a/b"', '"."', '".."', '"</script>"', '"{{ 7 * 7 }}"', '"%s%n"'),
    *('"VALID"', '"INVALID"', '"completed"', '"running"', '"NaN"', '"1e999"'),
    *('"' + "x" * 5000 + '"', "[]", "{}", "[null]", "[[]]", '{"": null}', '["n1", "n1"]', "[1, 2, 3]", "[0.5]"),
    *('{"edges_ns": [], "counts": []}', '{"edges_ns": [0, 1], "counts": [-5], "max_ns": null}'),
    *("[" * 50 + "]" * 50, "[" * 20_000 + "]" * 20_000, "[" * 20_000, '{"a":' * 5_000 + "1" + "}" * 5_000),
)
BYTES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00")
WORDS = (
    *("", "-", ":", "~", "null", "true", "yes", "0", "-1", "1e9", "1e999", "NaN", ".inf", "0x10", "1" * 400),
    *("10ms", "-10ms", "0ms", "1e99s", "100Mbit", "0Mbit", "99999999999Gbit", "0.5MB", "1PB", "1 MB", "MB", "x" * 3000),
    *("c1", "c99", "n1", "s1-n1", "[]", "{}", "[a, b]", "{a: b}", "&a", "*a", "!!python/object:os.system", "'", '"'),
    *("\t", "\ufeff", "\u2028", "\x85", "é", "[" * 200, "{a: " * 100, "- " * 100, "? ", "| ", "> ", "<<", "---", "..."),
    *("#", "9" * 5000),
)


def text(rng: Random) -> str:
    """Return a JSON text."""
    return rng.choice(TEXTS)


def number_bytes(rng: Random) -> bytes:
    """Return a few bytes that some reader takes for a length, an offset or a count."""
    value = rng.choice((0, 1, 2, 3, 7, 8, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, rng.getrandbits(32)))
    width = rng.choice((1, 2, 4, 8))
    return (value % 2 ** (8 * width)).to_bytes(width, rng.choice(("little", "big")))
