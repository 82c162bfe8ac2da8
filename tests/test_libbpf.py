"""The loader: one ABI with the C header, native and generic attachment, refusals that say what to do."""

from __future__ import annotations

import ctypes
import errno
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyroute2 import IPRoute

from testbed import installing
from testbed.emulation.dataplane import libbpf, xdp_abi
from testbed.emulation.dataplane.libbpf import BpfObject, VerifierError
from testbed.emulation.dataplane.xdp import NodeProgram, PassProgram, SinkProgram
from testbed.errors import EXIT_MACHINE_LACKS, MachineError, ToolError
from testbed.traffic.numbers import PacketNumbers
from tests.own_network import in_own_network

BPF = Path(__file__).parents[1] / "bpf"
HEADER = BPF / "testbed_abi.h"
STRUCTS = {
    "node": [
        *("packet_range", "packet_time", "node_config", "node_control", "node_class", "node_state", "node_fates"),
        *("node_bin", "node_memory", "stage", "stage_slot"),
    ],
    "link": ["link_config", "link_memory"],
    "sink": ["sink_config", "sink_control", "sink_flow", "sink_state", "sink_memory"],
}
needs_kernel = pytest.mark.requires("root", "bpf", "clang")


@pytest.fixture(scope="module")
def built() -> Path:
    subprocess.run(["make", "-s", "-C", str(BPF)], check=True)
    return BPF / "build"


@pytest.fixture
def node() -> Iterator[NodeProgram]:
    with NodeProgram(10**8, 0, 10**6) as program:
        yield program


# -------------------------------------------------------------------------------------------------------------- ABI


class Btf:
    """The types of an object file, as bpftool lists them."""

    def __init__(self, path: Path) -> None:
        listed = subprocess.run(
            ["bpftool", "-j", "btf", "dump", "file", str(path)], check=True, capture_output=True, text=True
        )
        self.types = {entry["id"]: entry for entry in json.loads(listed.stdout)["types"]}

    def struct(self, name: str) -> dict:
        (found,) = [t for t in self.types.values() if t["kind"] == "STRUCT" and t["name"] == name]
        return found

    def size(self, number: int) -> int:
        kind = self.types[number]
        if kind["kind"] == "ARRAY":
            return kind["nr_elems"] * self.size(kind["type_id"])
        return kind["size"] if "size" in kind else self.size(kind["type_id"])

    def layout(self, name: str) -> list[tuple[str, int, int]]:
        """Return name, offset and size in bytes of each member."""
        return [(m["name"], m["bits_offset"] // 8, self.size(m["type_id"])) for m in self.struct(name)["members"]]


def numpy_layout(layout: np.dtype) -> list[tuple[str, int, int]]:
    return [(name, layout.fields[name][1], layout.fields[name][0].itemsize) for name in layout.names]


@pytest.mark.requires("clang")
@pytest.mark.parametrize(("program", "struct"), [(p, s) for p, names in STRUCTS.items() for s in names])
def test_layouts_are_those_of_the_compiled_programs(built: Path, program: str, struct: str) -> None:
    btf = Btf(built / f"{program}.bpf.o")
    ours = getattr(xdp_abi, struct.upper())
    assert numpy_layout(ours) == btf.layout(struct)
    assert ours.itemsize == btf.struct(struct)["size"]


def test_every_struct_of_the_header_is_compared() -> None:
    in_header = re.findall(r"^struct (\w+) \{", HEADER.read_text(), re.MULTILINE)
    in_btf = [name for names in STRUCTS.values() for name in names]
    # No variable of the programs has the type of the probe, so it is not in their BTF; test_bpf_sink has its packets.
    assert sorted(in_header) == sorted([*in_btf, "probe"])


def test_constants_are_those_of_the_header() -> None:
    found = re.findall(r"^#define (\w+) +(\(.*?\)|\w+)", HEADER.read_text(), re.MULTILINE)
    constants = {name: value for name, value in found if name != "TESTBED_ABI_H"}
    assert len(constants) >= 15
    for name, text in constants.items():
        value = eval(re.sub(r"(?<=[0-9a-fA-F])U?LL\b", "", text), {})
        assert getattr(xdp_abi, name) == value, name


@pytest.mark.requires("clang")
def test_the_layout_test_can_fail(built: Path) -> None:
    moved = np.dtype([("locked", "<u4"), ("run", "<u4")])
    assert numpy_layout(moved) != Btf(built / "sink.bpf.o").layout("sink_config")


@pytest.mark.requires("clang")
def test_building_again_does_nothing(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.glob("*.o")}
    subprocess.run(["make", "-s", "-C", str(BPF)], check=True)
    assert before == {path: path.stat().st_mtime_ns for path in built.glob("*.o")}


@pytest.mark.requires("clang")
def test_programs_compile_for_processors_that_reorder_stores(tmp_path: Path) -> None:
    include = next(Path("/usr/include").glob("*-linux-gnu"))
    for name in ("node", "sink"):
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-idirafter", str(include)]
        subprocess.run(["clang", *flags, "-c", str(BPF / f"{name}.bpf.c"), "-o", str(tmp_path / name)], check=True)


# ------------------------------------------------------------------------------------------------------------ loading


@needs_kernel
def test_the_verifiers_log_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "bad.bpf.c"
    source.write_text(
        '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC("xdp") int bad(struct xdp_md *context)\n'
        '{ return *(int *)(long)context->data; }\nchar _license[] SEC("license") = "Dual BSD/GPL";\n'
    )
    include = next(Path("/usr/include").glob("*-linux-gnu"))
    target = tmp_path / "bad.bpf.o"
    subprocess.run(
        ["clang", "-O2", "-g", "-target", "bpf", "-idirafter", str(include), "-c", str(source), "-o", str(target)],
        check=True,
    )
    bad = BpfObject(target)
    with pytest.raises(VerifierError) as caught:
        bad.load(tmp_path)
    bad.close()
    log = (tmp_path / "bad.verifier.log").read_text()
    assert "invalid access to packet" in log
    assert caught.value.verifier_log == log
    assert str(caught.value).startswith("loading the BPF program bad: ")
    assert len(str(caught.value).splitlines()) == 1
    assert "bad.verifier.log" in caught.value.remedy


@needs_kernel
def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.bpf.o").write_bytes(b"no object")
    with pytest.raises(ToolError, match=r"reading the BPF object .*no\.bpf\.o"):
        BpfObject(tmp_path / "no.bpf.o")
    with pytest.raises(ToolError, match=r"gone\.bpf\.o"):
        BpfObject(tmp_path / "gone.bpf.o")


@needs_kernel
def test_names_that_are_not_there_are_refused(built: Path) -> None:
    opened = BpfObject(built / "sink.bpf.o")
    for call in (
        lambda: opened.map_fd("nothing"),
        lambda: opened.program_fd("nothing"),
        lambda: opened.set_data(".data", b""),
        lambda: opened.set_data(".rodata", b"too short"),
    ):
        with pytest.raises(ToolError):
            call()
    opened.close()
    opened.close()


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(MachineError, match=re.escape(installing.program("libbpf"))) as caught:
        libbpf._open_library(("libbpf.so.99",))
    assert installing.package_of("libbpf") == "libbpf1"
    assert caught.value.exit_code == EXIT_MACHINE_LACKS


def test_a_library_that_lacks_a_function_is_refused() -> None:
    with pytest.raises(MachineError, match="bpf_object__open_file"):
        libbpf._prototypes(ctypes.CDLL(None))


@needs_kernel
def test_a_packet_too_large_to_be_run_is_an_error(node: NodeProgram) -> None:
    with pytest.raises(ToolError, match="packet of 100000 bytes"):
        node.run(bytes(100_000))


@needs_kernel
def test_repeating_counts_each_time(node: NodeProgram) -> None:
    ran = node.run(bytes(12) + b"\x08\x06" + bytes(28), repeat=1000)
    assert node.snapshot().passed_other_pkts == 1000
    assert ran.ns_per_run > 0


@needs_kernel
def test_closing_gives_every_descriptor_back() -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with SinkProgram(1, PacketNumbers(np.full(16, 100))) as sink:
            sink.snapshot()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


# ---------------------------------------------------------------------------------------------------------- attaching


def veth(near: str, far: str, **more: int) -> int:
    """Make a pair and return the index of the near end."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=near, kind="veth", peer={"ifname": far}, **more)
        return int(netlink.link_lookup(ifname=near)[0])


@needs_kernel
def test_native_mode_on_veth_outlives_the_objects() -> None:
    def body() -> None:
        index = veth("at-near", "at-far")
        with NodeProgram(10**8, 0, 10**6) as node:
            assert (node.attach(index), node.mode, node.native_refusal) == ("native", "native", "")
        with IPRoute() as netlink:
            attached = netlink.get_links(index)[0].get_attr("IFLA_XDP")
        assert attached.get_attr("IFLA_XDP_ATTACHED") == "xdp"  # as pyroute2 calls native mode

    in_own_network(body)


@needs_kernel
def test_where_only_generic_mode_is_possible_it_says_so_and_locks() -> None:
    def body() -> None:
        with NodeProgram(10**8, 0, 10**6, number=3) as node:
            node.set_limit(1234)
            node.set_classes({46: 2})
            assert (node.attach(1), node.mode) == ("generic", "generic")  # the loopback interface
            assert node.native_refusal
            assert node._config["locked"] == 1
            assert node.limit_bytes == 1234
            assert node._control_memory[xdp_abi.NODE_CONTROL.fields["class_of_dscp"][1] + 46] == 2

    in_own_network(body)


@needs_kernel
def test_a_second_program_never_replaces_the_first() -> None:
    def body() -> None:
        index = veth("tw-near", "tw-far")
        with PassProgram() as first, NodeProgram(10**8, 0, 10**6) as second:
            first.attach(index)
            with pytest.raises(ToolError, match="attaching the XDP program node"):
                second.attach(index)
            assert second.mode is None

    in_own_network(body)


@needs_kernel
def test_several_receive_queues_are_refused() -> None:
    def body() -> None:
        index = veth("mq-near", "mq-far", num_rx_queues=2, num_tx_queues=2)
        assert libbpf.receive_queues(index) == 2
        with PassProgram() as program, pytest.raises(MachineError, match="2 receive queues"):
            program.attach(index)
        assert libbpf.receive_queues(1) == 1

    in_own_network(body)


@needs_kernel
def test_an_interface_that_is_not_there_is_a_tools_failure() -> None:
    def body() -> None:
        with PassProgram() as program, pytest.raises(ToolError):
            program.attach(4711)

    in_own_network(body)


@needs_kernel
def test_detaching() -> None:
    def body() -> None:
        index = veth("de-near", "de-far")
        with PassProgram() as program:
            program.attach(index)
            libbpf.attach_xdp(index, -1, libbpf.XDP_NATIVE_MODE)
            program.attach(index)
        with pytest.raises(OSError, match=r".") as caught:
            libbpf.attach_xdp(index, 10**6, libbpf.XDP_NATIVE_MODE)
        assert caught.value.errno == errno.EBADF

    in_own_network(body)


@needs_kernel
def test_generic_mode_counts_what_arrives() -> None:
    def body() -> None:
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")
        with NodeProgram(10**8, 0, 10**6) as node, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            node.attach(1)
            port.bind(("127.0.0.1", 0))
            port.settimeout(5)
            port.sendto(b"x", port.getsockname())
            assert port.recv(10) == b"x"
            assert node.snapshot().passed_other_pkts == 1

    in_own_network(body)
