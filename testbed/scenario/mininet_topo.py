"""A Mininet `Topo` class as a topology family: what users of Mininet already have, in a file beside their scenario.

    topology: {file: ./mytopo.py, class: MyTopo}     a class of the file, or a key of its dictionary `topos`

Such a file is a plug-in (`plugins`) without `ROWS`: each class that it derives from `mininet.topo.Topo`, and each entry
of `topos`, is a row.  The arguments of `build` are the options of that family.  The class is asked for its graph once
per set of options: hosts, switches and links as they are added, each with the line that adds it, so that a refusal
names that line.  `mininet_graph` makes a `Network` of them.

Source: B. Lantz, B. Heller, N. McKeown, A Network in a Laptop (HotNets 2010); mininet/topo.py.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, create_model

from testbed import failures, units
from testbed.errors import InputError
from testbed.scenario import mininet_graph
from testbed.scenario.mininet_graph import Call, Graph, Unmappable
from testbed.scenario.tables import FamilyTraits, options_of

if TYPE_CHECKING:
    from testbed.scenario.network import Network
    from testbed.scenario.topology import TopologySpec

_MODULE = "mininet.topo"
_PLAIN = (bool, int, float, str)
_building = threading.Lock()  # what records a class's calls stands in the class of Mininet that all share


class TopoError(InputError):
    """A `Topo` class raises, or has a graph that is no network of the testbed."""


def rows_of(module: ModuleType, path: Path) -> tuple[FamilyTraits, ...]:
    """Return a row for each `Topo` class that a file defines, then for each entry of its `topos`."""
    base = getattr(sys.modules.get(_MODULE), "Topo", None)
    if base is None:  # whoever derives from it has imported it
        return ()
    found: dict[str, Callable[..., Any]] = {
        name: made
        for name, made in vars(module).items()
        if inspect.isclass(made) and issubclass(made, base) and made.__module__ == module.__name__
    }
    topos = getattr(module, "topos", None)
    found |= {str(name): made for name, made in topos.items() if callable(made)} if isinstance(topos, dict) else {}
    return tuple(_row(name, made, path) for name, made in found.items())


def _row(name: str, made: Callable[..., Any], path: Path) -> FamilyTraits:
    doc = (inspect.getdoc(made) or "").strip() if inspect.isclass(made) else ""
    drawn = _Drawn(name, made, path)
    row = FamilyTraits(
        name=name,
        doc=doc.splitlines()[0] if doc else f"graph of a Mininet Topo in {path.name}",
        describe=drawn.describe,
        keys=("node_rates",),
        options=_options(name, made),
        sizes=drawn.sizes,
        refusal=drawn.refusal,
    )
    drawn.row = row
    return row


def _options(name: str, made: Callable[..., Any]) -> type[BaseModel]:
    """Return the model of the arguments with which a graph is made: those of `build`, or of an older `__init__`."""
    parameters = list(inspect.signature(_maker(made)).parameters.values())
    if inspect.isclass(made):
        parameters = parameters[1:]
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    fields: dict[str, Any] = {
        one.name: (_type_of(one.default), ... if one.default is inspect.Parameter.empty else one.default)
        for one in parameters
        if one.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    config = ConfigDict(extra="allow" if open_ended else "forbid", strict=True, protected_namespaces=())
    return create_model(f"{name}Options", __config__=config, **fields)


def _maker(made: Any) -> Callable[..., Any]:
    """Return the function that takes the arguments; the `__init__` of Mininet passes all of them to `build`."""
    if not inspect.isclass(made):
        return cast("Callable[..., Any]", made)
    starts: Any = next(one for one in made.__mro__ if "__init__" in vars(one))
    return cast("Callable[..., Any]", getattr(made, "build" if starts.__module__ == _MODULE else "__init__"))


def _type_of(default: Any) -> Any:
    return type(default) if isinstance(default, _PLAIN) else Any


@dataclass
class _Drawn:
    """The graph of one class, by options; kept, since a network is described many times."""

    name: str
    made: Callable[..., Any]
    path: Path

    def __post_init__(self) -> None:
        self.row: FamilyTraits | None = None
        self._graphs: dict[str, Graph] = {}

    def describe(self, spec: TopologySpec) -> Network:
        return mininet_graph.network_of(self._graph(spec.options), spec)

    def sizes(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the graph says of the keys of `topology`; nothing where the options are refused anyway."""
        try:
            graph = self._graph(options)
        except ValueError:
            return {}
        sizes: dict[str, Any] = {"nodes": len(graph.nodes), "clients": len(graph.clients)}
        rates = [units.rate_text(rate_bps) for rate_bps in graph.rates_bps]
        return sizes | ({"node_rates": rates} if rates else {})

    def refusal(self, spec: TopologySpec) -> str:
        try:
            graph = self._graph(spec.options)
        except ValueError:
            return ""  # said of the options
        for key, given, drawn in (
            ("nodes", spec.nodes, len(graph.nodes)),
            ("clients", spec.clients, len(graph.clients)),
        ):
            if given != drawn:
                return f"{key} is {given}, but the graph of {self.name} has {drawn}; remove {key}"
        if graph.rates_bps and graph.rates_bps != spec.node_rates:
            return f"{self.name} sets bw on the links to backends: the service rate of the nodes; remove node_rates"
        if graph.rates_bps and "node_rate_bps" in spec.model_fields_set:
            return f"{self.name} sets bw on the links to backends: the service rate of the nodes; remove node_rate"
        return ""

    def _graph(self, options: Mapping[str, Any] | None) -> Graph:
        key = repr(sorted((options or {}).items()))
        if key not in self._graphs:
            assert self.row is not None
            given = options_of(self.row, options)
            self._graphs[key] = self._built({} if given is None else dict(given))
        return self._graphs[key]

    def _built(self, arguments: Mapping[str, Any]) -> Graph:
        """Return the graph.

        Raises:
            TopoError: names the line of the file that raised, or that adds what the testbed cannot build.
        """
        attempted = f"build {self.name} of {self.path}"
        with _building, _recorded(self.path) as calls:
            try:
                self.made(**arguments)
            except (Exception, SystemExit) as error:
                raise TopoError(attempted, failures.words_within(error, self.path), "fix it") from error
        try:
            return mininet_graph.graph_of(calls)
        except Unmappable as error:
            where = f"line {error.line}: " if error.line else ""
            raise TopoError(attempted, f"{where}{error.happened}", error.remedy) from None


@contextmanager
def _recorded(path: Path) -> Iterator[list[Call]]:
    """Collect, for the length of the block, what is added to any `Topo`, with the line of the file that adds it."""
    base: Any = sys.modules[_MODULE].Topo
    add_node, add_link = base.addNode, base.addLink
    calls: list[Call] = []

    def node(self: Any, name: str, **opts: Any) -> Any:
        kind = "switch" if opts.get("isSwitch") else "host"
        calls.append(Call(kind, (name,), dict(opts), _line_of(path)))
        return add_node(self, name, **opts)

    def link(self: Any, node1: str, node2: str, port1: Any = None, port2: Any = None, key: Any = None, **o: Any) -> Any:
        opts = dict(o or self.lopts)
        ports = {name: port for name, port in (("port1", port1), ("port2", port2)) if port is not None}
        calls.append(Call("link", (node1, node2), opts | ports, _line_of(path)))
        return add_link(self, node1, node2, port1, port2, key, **o)

    base.addNode, base.addLink = node, link
    try:
        yield calls
    finally:
        base.addNode, base.addLink = add_node, add_link


def _line_of(path: Path) -> int:
    """Return the line of the file that is being executed, 0 where none is."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != str(path):
        frame = frame.f_back
    return frame.f_lineno if frame is not None else 0
