"""An engine as an SVG graph: a box for each layer, coloured by precision, a line for each tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from html import escape

from toolkit.engines.layers.graph import EngineGraph, EngineLayer
from toolkit.engines.layers.lint import shares_of
from toolkit.engines.layers.table import describe

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, LEGEND = 250, 54, 40, 34, 20, 36
# Okabe and Ito's colours, told apart by people who see few of them; light enough for black text.
COLOURS = {"int8": "#8fd3b6", "float16": "#9fc7e8", "float32": "#f5c26b", "bfloat16": "#c9a6d6", "": "#e4e4e4"}
MOVE = "#c4c4c4"


def draw(graph: EngineGraph, times_ms: Mapping[str, float] | None = None) -> str:
    """The graph from top to bottom; boxes are as far down as their longest way from an input.

    Args:
        graph: the engine.
        times_ms: median time by layer name; shown as a bar in each box.
    """
    places, rank_of = _places(graph)
    columns = 1 + max((column for _, column in places.values()), default=0)
    ranks = 1 + max(rank_of.values(), default=0)
    width = 2 * MARGIN + columns * (WIDTH + GAP_X) + GAP_X
    height = 2 * MARGIN + LEGEND + ranks * (HEIGHT + GAP_Y)
    shares = shares_of(graph, times_ms)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _legend(),
    ]
    parts += [_line(places[one], places[other], escape(f"{tensor.name}: {describe((tensor,))}"))
              for one, other, tensor in graph.edges]  # fmt: skip
    parts += [
        _box(graph.layers[index], place, shares.get(graph.layers[index].name)) for index, place in places.items()
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _places(graph: EngineGraph) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """(y rank, column) of each layer that has tensors; events and shape calls have none."""
    shown = [
        index for index, layer in enumerate(graph.layers) if layer.inputs or layer.outputs or not graph.detailed
    ]
    rank: dict[int, int] = dict.fromkeys(shown, 0)
    for one, other, _ in graph.edges:  # in the order of the readers, so writers are final
        rank[other] = max(rank[other], rank[one] + 1)
    taken: dict[int, int] = defaultdict(int)
    places = {}
    for index in shown:
        places[index] = (rank[index], taken[rank[index]])
        taken[rank[index]] += 1
    return places, rank


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    return MARGIN + GAP_X + place[1] * (WIDTH + GAP_X), MARGIN + LEGEND + place[0] * (HEIGHT + GAP_Y)


def _line(start: tuple[int, int], end: tuple[int, int], title: str) -> str:
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    if end[0] - start[0] == 1:
        x1, y1, x2 = x1 + WIDTH // 2, y1 + HEIGHT, x2 + WIDTH // 2
        middle = (y1 + y2) // 2
        path = f"M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}"
    else:  # past other boxes: out at a side and in again
        y1, y2 = y1 + HEIGHT // 2, y2 + HEIGHT // 2
        if start[1] > end[1]:
            x2, side = x2 + WIDTH, x1 + WIDTH + GAP_X // 2
            x1 = x1 + WIDTH
        else:
            side = min(x1, x2) - GAP_X // 2
        corners = f"C{side} {y1} {side} {y1} {side} {y1 + 14} L{side} {y2 - 14} C{side} {y2} {side} {y2}"
        path = f"M{x1} {y1} {corners} {x2} {y2}"
    return f'<path d="{path}" fill="none" stroke="#777" stroke-width="1.2"><title>{title}</title></path>'


def _box(layer: EngineLayer, place: tuple[int, int], share: float | None) -> str:
    x, y = _corner(place)
    colour = MOVE if layer.is_reformat or layer.is_quantizer else COLOURS.get(layer.precision, COLOURS[""])
    stroke = "#222" if layer.heavy else "#999"
    detail = f"{layer.kind} {layer.precision}".strip() + (f", {share:.1%}" if share is not None else "")
    bar = f'<rect x="{x}" y="{y + HEIGHT - 4}" width="{WIDTH * (share or 0):.1f}" height="4" fill="#d55e00"/>'
    lines = [
        f'<text x="{x + 7}" y="{y + 15}" font-weight="bold">{escape(_short(layer.title, 32))}</text>',
        f'<text x="{x + 7}" y="{y + 30}">{escape(_short(detail, 42))}</text>',
        f'<text x="{x + 7}" y="{y + 44}" fill="#333">{escape(_short(describe(layer.outputs), 42))}</text>',
    ]
    tip = escape(f"{layer.name}\n{layer.tactic}")
    return (
        f'<g><title>{tip}</title><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{colour}" '
        f'stroke="{stroke}"/>{bar if share else ""}{"".join(lines)}</g>'
    )


def _legend() -> str:
    names = [("INT8", COLOURS["int8"]), ("FP16", COLOURS["float16"]), ("FP32", COLOURS["float32"])]
    names += [("moves data or quantizes", MOVE), ("unknown", COLOURS[""])]
    parts, x = [], MARGIN
    for text, colour in names:
        parts.append(f'<rect x="{x}" y="{MARGIN - 6}" width="14" height="14" fill="{colour}" stroke="#999"/>')
        parts.append(f'<text x="{x + 19}" y="{MARGIN + 5}">{text}</text>')
        x += 40 + 7 * len(text)
    return "".join(parts)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most // 2 - 1] + "…" + text[-(most // 2) :]
