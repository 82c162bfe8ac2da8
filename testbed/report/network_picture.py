"""A network as an SVG: clients, switches by distance from the balancer, nodes by tier, backends; the mesh below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import escape

from testbed.scenario.network import Link, Network
from testbed.scenario.routing import routes_of
from testbed.units import duration_text, rate_text

_WIDE, _HIGH, _TOP = 190, 56, 60  # between columns, between rows, above the first
_BOX = (72, 30)
_FILL = {"client": "#dbeafe", "node": "#dcfce7", "backend": "#fef3c7", "switch": "#e5e7eb"}

Places = Mapping[str, tuple[float, float]]


def svg(network: Network, title: str) -> str:
    """Return the picture as text; it needs no other file."""
    columns = _columns(network)
    rows = max(map(len, columns))
    places = {
        name: (_WIDE * (x + 0.5), _TOP + _HIGH * (y + 0.5 + (rows - len(names)) / 2))
        for x, names in enumerate(columns)
        for y, name in enumerate(names)
    }
    for switch in (one for one in network.switches if one.name not in places):
        places[switch.name] = (_WIDE * len(columns) / 2, _TOP + _HIGH * (rows + 0.8))
    width, height = _WIDE * len(columns), _TOP + _HIGH * (rows + 1.5)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    parts = [
        f'{head} font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<text x="12" y="24" font-size="16">{escape(title)}</text>',
        *(line for link in network.links for line in _link(link, network, places)),
        *(line for name in places for line in _box(name, network, places)),
        "</svg>",
    ]
    return "\n".join(parts)


def _columns(network: Network) -> list[list[str]]:
    tiers = sorted({node.tier for node in network.nodes})
    columns = [
        [client.name for client in network.clients],
        *_switches(network),
        *([node.name for node in network.nodes if node.tier == tier] for tier in tiers),
        [backend.name for backend in network.of_role("backend")],
    ]
    return [column for column in columns if column]


def _switches(network: Network) -> list[list[str]]:
    """Return the switches that carry planned packets, by their distance from the balancer's."""
    hops = routes_of(network).hops
    distances = {name: hops.get((name, network.switch), 0) for name in network.data_switches}
    return [[name for name, far in distances.items() if far == one] for one in sorted(set(distances.values()))]


def _link(link: Link, network: Network, places: Places) -> Iterator[str]:
    (x1, y1), (x2, y2) = places[link.a], places[link.b]
    mesh = {switch.name for switch in network.switches if switch.kind == "mesh"}
    style = ' stroke-dasharray="3 4" opacity="0.5"' if mesh & {link.a, link.b} else ""
    yield f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#6b7280"{style}/>'
    words = [rate_text(link.rate_bps)] if link.rate_bps else []
    words += [duration_text(link.delay_ns)] if link.delay_ns else []
    if words:
        yield f'<text x="{(x1 + x2) / 2:g}" y="{(y1 + y2) / 2 - 4:g}" text-anchor="middle">{", ".join(words)}</text>'


def _box(name: str, network: Network, places: Places) -> Iterator[str]:
    (x, y), (wide, high) = places[name], _BOX
    fill = _FILL[next((host.role for host in network.hosts if host.name == name), "switch")]
    corner = f'x="{x - wide / 2:g}" y="{y - high / 2:g}" width="{wide}" height="{high}"'
    yield f'<rect {corner} rx="6" fill="{fill}" stroke="#374151"/>'
    yield f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle">{escape(name)}</text>'
