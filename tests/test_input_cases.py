"""Traces as a user meets them: `validate`, `simulate` and `evaluate` say what they read, or what helps."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from testbed import cli
from testbed.errors import EXIT_BAD_INPUT, EXIT_OK
from tests.capture_files import START_US, enhanced, interface, packets, pcap, section

SCENARIO = """
version: 1
name: tr
duration: {duration}
topology: {{family: single, node_rate: 10Mbit}}
buffer: {{policy: static-min}}
traffic:
  - {{name: tr, from: c1, trace: {trace}}}
"""
WITH = "time_s,bytes\n0,1000000\n1,1000000\n2,1000000\n3,0\n4,1000000\n5,1000000\n"
CSVS = {"with": WITH, "without": WITH.replace("3,0\n", ""), "jitter": WITH.replace("4,", "4.002,")}
TIMES = [START_US + k * 10_000 for k in range(200)]
BACK = pcap(packets([t - (10_001 if k == 100 else 0) for k, t in enumerate(TIMES)], 1000))


@pytest.fixture
def testbed(monkeypatch, capsys, tmp_path):
    """Return a function that calls the command line in `tmp_path` and returns exit code, output and messages."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["testbed", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def scenario(trace: str, content: bytes, duration: str = "6s") -> str:
    """Write a scenario that replays a trace, and return its name."""
    Path(trace).write_bytes(content)
    Path("s.yaml").write_text(SCENARIO.format(trace=trace, duration=duration))
    return "s.yaml"


def sent(run: str) -> int:
    """Return the packets a run sent."""
    return int(json.loads(Path(run, "summary.json").read_text())["traffic"]["sent_packets"])


@pytest.mark.parametrize("name", ["with", "without"])
def test_bins_with_and_without_their_empty_row_are_one_traffic_and_said(testbed, name):
    file = scenario("t.csv", CSVS[name].encode())
    code, out, err = testbed("validate", file)
    assert (code, out) == (EXIT_OK, "s.yaml: fine (tr, 1 nodes)\n")
    assert "s.yaml:8: traffic.0.trace: read as bins of 1s" in err
    code, _, err = testbed("simulate", file, "--out", "run")
    assert (code, sent("run")) == (EXIT_OK, 4999)
    assert "traffic.tr: t.csv: read as bins of 1s" in err
    assert json.loads(Path("run/manifest.json").read_text())["notes"] == [err.splitlines()[0]]


@pytest.mark.parametrize("verb", ["validate", "simulate"])
def test_a_near_miss_is_refused_by_its_row_until_the_source_says_what_it_is(testbed, verb):
    file = scenario("t.csv", CSVS["jitter"].encode())
    code, _, err = testbed(verb, file)
    assert code == EXIT_BAD_INPUT
    assert "row 5: 4.002 s is 2ms off the grid of bins of 1s that most rows suggest" in err
    assert "`rows: bins` and `bin: 1s`, or `rows: bursts`" in err
    out = ["--out", "run"] if verb == "simulate" else []
    for declared in ("rows=bins", "bin=1s", "rows=bursts"):
        extra = [*out[:1], f"run-{declared}"] if out else []
        code, _, err = testbed(verb, file, "--set", f"traffic.tr.{declared}", *extra)
        assert (code, "read as" in err) == (EXIT_OK, False)
    assert not out or (sent("run-rows=bins"), sent("run-bin=1s"), sent("run-rows=bursts")) == (4999, 4999, 5000)


def test_bins_that_are_declared_last_as_long_as_the_run(testbed):
    file = scenario("t.csv", CSVS["jitter"].encode(), "7s")
    assert testbed("validate", file, "--set", "traffic.tr.rows=bursts")[0] == EXIT_OK
    code, _, err = testbed("validate", file, "--set", "traffic.tr.rows=bins")
    assert (code, "it ends after 6 s, the run after 7" in err) == (EXIT_BAD_INPUT, True)


def test_bursts_have_no_bin(testbed):
    file = scenario("t.csv", CSVS["with"].encode())
    code, _, err = testbed("validate", file, "--set", "traffic.tr.rows=bursts", "--set", "traffic.tr.bin=1s")
    assert (code, "rows: bursts have no bin; leave out one of the two" in err) == (EXIT_BAD_INPUT, True)


def test_every_section_of_a_capture_has_a_clock_of_its_own(testbed):
    micro = section("<", interface("<", 6), *(enhanced(k * 1000) for k in range(500)))
    nano = section("<", interface("<", 9), *(enhanced(k * 10**6) for k in range(500, 1000)))
    file = scenario("two.pcapng", micro + nano, "1s")
    assert testbed("simulate", file, "--out", "run")[0] == EXIT_OK
    assert sent("run") == 1000


def test_a_packet_out_of_order_is_mended_and_said(testbed):
    file = scenario("back.pcap", BACK, "2s")
    assert testbed("simulate", file, "--out", "run")[0] == EXIT_OK
    assert sent("run") == 200
    code, _, err = testbed("validate", file)
    assert code == EXIT_OK
    assert "1 packet out of order, by at most 0.001 ms; sorted by time" in err


@pytest.mark.parametrize("name", ["x.pcap", "x.pcap.gz", "y.pcap"])
def test_evaluate_reads_a_capture_packed_or_not_and_says_what_it_mended(testbed, monkeypatch, name):
    from testbed.forecaster.evaluation import evaluate

    monkeypatch.setattr(evaluate, "_judged", lambda name, *_: {"name": name})
    Path(name).write_bytes(BACK if name == "x.pcap" else gzip.compress(BACK))
    code, out, err = testbed("evaluate", "--trace", name, "--json")
    assert (code, err) == (EXIT_OK, f"{name}: 1 packet out of order, by at most 0.001 ms; sorted by time\n")
    assert json.loads(out)["traces"] == [err.strip()]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pcap(packets([0, *TIMES], 1000)), "packet 1 has no time; remove packets without a time: `editcap IN OUT 1`"),
        (pcap(packets([*TIMES, TIMES[0]], 1000)), "sort it with `reordercap IN OUT`"),
        (BACK[:-5], "packet 200 cannot be read (the file is cut off within it); `editcap -r IN OUT 1-199`"),
        (gzip.compress(BACK)[:-4], "its gzip is damaged (it is cut off); check it with `gzip -t`"),
    ],
)
def test_what_is_refused_is_refused_with_a_remedy_for_captures_and_nothing_of_a_library(testbed, content, words):
    for verb in (("validate", scenario("x.pcap", content, "1s")), ("evaluate", "--trace", "x.pcap")):
        code, out, err = testbed(*verb)
        assert (code, out) == (EXIT_BAD_INPUT, "")
        assert words in err
        assert len(err.splitlines()) == 1


def test_evaluate_is_told_what_rows_are(testbed):
    text = "time_s,bytes\n" + "".join(f"{k / 100 + (0.004 if k == 7 else 0):.3f},900\n" for k in range(200))
    Path("t.csv").write_text(text)
    assert "row 8: 0.074 s is 4ms off" in testbed("evaluate", "--trace", "t.csv")[2]
    assert "row 8: 0.074 s is 4ms off" in testbed("evaluate", "--trace", "t.csv", "--rows", "bins")[2]
    code, _, err = testbed("evaluate", "--trace", "t.csv", "--rows", "bursts", "--bin", "10ms")
    assert (code, err) == (EXIT_BAD_INPUT, "testbed: evaluating with --bin 0.01s: bursts have no bin\n")
    assert testbed("evaluate", "--trace", "t.csv", "--bin", "10")[0] == EXIT_BAD_INPUT
