"""Draws `docs/images/halls.svg` and writes the table of halls in `docs/architecture.md`, both from the imports.

    python docs/draw_halls.py            # write both
    python docs/draw_halls.py --check    # exit code 1 if they no longer describe the tree

What is drawn is kept as JSON in the picture itself. `--check` compares halls and arrows exactly and the numbers of
lines roughly, so that not every commit has to draw again. Imports under `TYPE_CHECKING` are not drawn.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "halls.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- halls -->", "<!-- /halls -->"
ROOMS = {  # each with its colour, on which white text is readable
    "palimpsest": "#5b4b8a",
    "deploy": "#6b6f76",
    "service": "#9a4a52",
    "evaluation": "#8a6116",
    "tuning": "#4d5f1f",
    "localization": "#2f6f6a",
    "detectors": "#3f6b35",
    "marking": "#7d3f63",
    "reference": "#7a5230",
    "steering": "#2c5d92",
    "policies": "#75447d",
    "palimpsest_base": "#55606e",
}
ROLE = {  # what each room answers
    "palimpsest": "front door and command line",
    "deploy": "dashboards and alerts",
    "service": "when",
    "evaluation": "how well",
    "tuning": "how it is trained",
    "localization": "where",
    "detectors": "what",
    "marking": "whence",
    "reference": "models to measure on",
    "steering": "how",
    "policies": "whether",
    "palimpsest_base": "small helpers that every room may use",
}
WIDE, HIGH, GAP, PAD, HEAD, FLOOR = 122, 44, 24, 14, 46, 54  # a hall's box, the space around it, a room's head

Arrows = set[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Facts:
    """The halls (`room` itself or `room/hall`) with their files, lines and first sentence, and who imports whom."""

    halls: Mapping[str, tuple[int, int, str]]
    arrows: frozenset[tuple[str, str]]

    def to_json(self) -> str:
        return json.dumps({"halls": self.halls, "arrows": sorted(self.arrows)}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        stored = json.loads(text)
        return cls({k: tuple(v) for k, v in stored["halls"].items()}, frozenset(map(tuple, stored["arrows"])))


def read_tree() -> Facts:
    """The facts of the tree as it is."""
    halls: dict[str, tuple[int, int, str]] = {}
    arrows: Arrows = set()
    for room in ROOMS:
        for path in sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts):
            relative = path.relative_to(ROOT)
            hall = "/".join(relative.parts[: min(2, len(relative.parts) - 1)])
            if hall == "detectors/data":  # word lists; its one file makes them
                hall = "detectors"
            source = path.read_text("utf-8")
            tree = ast.parse(source)
            files, lines, says = halls.get(hall, (0, 0, ""))
            if relative == Path(hall, "__init__.py"):
                says = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
            halls[hall] = (files + 1, lines + source.count("\n"), says)
            arrows |= {(hall, to) for name in imported(tree) if (to := hall_of(name)) and to != hall}
    return Facts(halls, frozenset(arrows))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports when it runs, functions included, `TYPE_CHECKING` left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        else:
            yield from imported(node)


def hall_of(name: str) -> str | None:
    """The hall of a module's dotted name; None for what is not ours."""
    room, *rest = name.split(".")
    if room not in ROOMS:
        return None
    return f"{room}/{rest[0]}" if rest and (ROOT / room / rest[0] / "__init__.py").is_file() else room


def reduced(arrows: Arrows) -> Arrows:
    """The arrows that do not follow from others: those left out have a longer way, too."""
    reach = reachable(arrows)
    between = {(a, b): {c for c in reach[a] & _sources(reach, b) if c not in (a, b)} for a, b in arrows}
    return {(a, b) for (a, b), others in between.items() if all(a in reach[c] or c in reach[b] for c in others)}


def _sources(reach: Mapping[str, set[str]], goal: str) -> set[str]:
    return {name for name, goals in reach.items() if goal in goals}


def reachable(arrows: Arrows) -> dict[str, set[str]]:
    """For each name, all names that its arrows lead to."""
    names = {n for arrow in arrows for n in arrow}
    reach = {n: {b for a, b in arrows if a == n} for n in names}
    for middle in names:
        for name in names:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    return reach


def heights(names: Sequence[str], arrows: Arrows) -> dict[str, int]:
    """For each name, the length of its longest way down; names that import each other stand at one height."""
    reach = reachable(arrows)
    found: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in found:
            circle = {n for n in reach.get(name, set()) if name in reach.get(n, set())} | {name}
            below = {b for n in circle for b in reach.get(n, set())} - circle
            found[name] = max((height(b) + 1 for b in below), default=0)
        return found[name]

    return {name: height(name) for name in names}


def rows_of(names: Sequence[str], arrows: Arrows) -> list[list[str]]:
    """The names in rows, what imports above what is imported."""
    high = heights(names, arrows)
    return [[n for n in names if high[n] == h] for h in range(max(high.values(), default=-1), -1, -1)]


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    w: float
    h: float


def draw(facts: Facts) -> str:
    """The picture, as SVG."""
    rooms = [r for r in ROOMS if r in facts.halls or any(h.startswith(f"{r}/") for h in facts.halls)]
    between: Arrows = {(a.split("/")[0], b.split("/")[0]) for a, b in facts.arrows}
    between = {(a, b) for a, b in between if a != b}
    inside = {room: _inside(facts, room) for room in rooms}
    floors = rows_of(rooms, between)
    boxes, width, height = _place(floors, inside)
    parts = [_room(room, boxes[room], facts) for room in rooms]
    for room in rooms:
        parts += _halls(room, boxes[room], inside[room], facts)
    parts += _room_arrows(reduced(between), boxes)
    stored = facts.to_json().replace("&", "&amp;").replace("<", "&lt;")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    return "\n".join(
        [
            f'{head} height="{height:.0f}" font-family="system-ui, sans-serif" role="img">',
            "<title>Rooms and halls, and which imports which</title>",
            f"<metadata>{stored}</metadata>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" '
            'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#7d8896"/></marker></defs>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _inside(facts: Facts, room: str) -> tuple[list[list[str]], Arrows]:
    """A room's halls in rows, and the arrows between them."""
    halls = [h for h in facts.halls if h.startswith(f"{room}/")]
    arrows = {(a, b) for a, b in facts.arrows if a in halls and b in halls}
    return rows_of(halls, arrows), reduced(arrows)


def _place(
    floors: Sequence[Sequence[str]], inside: Mapping[str, tuple[list[list[str]], Arrows]]
) -> tuple[dict[str, Box], float, float]:
    """Where each room stands; all floors are as wide as the widest."""

    def size(room: str) -> tuple[float, float]:
        rows = inside[room][0]
        across = max((len(r) for r in rows), default=1)
        wide = across * WIDE + (across - 1) * GAP + 2 * PAD
        return max(wide, 200), HEAD + len(rows) * (HIGH + GAP) - (GAP if rows else 0) + (PAD if rows else 0)

    width = max(sum(size(r)[0] for r in floor) + GAP * (len(floor) - 1) for floor in floors) + 2
    boxes: dict[str, Box] = {}
    y = 1.0
    for floor in floors:
        spare = (width - 2 - sum(size(r)[0] for r in floor) - GAP * (len(floor) - 1)) / len(floor)
        x, tall = 1.0, max(size(r)[1] for r in floor)
        for room in floor:
            boxes[room] = Box(x, y, size(room)[0] + spare, tall)
            x += boxes[room].w + GAP
        y += tall + FLOOR
    return boxes, width, y - FLOOR + 1


def _room(room: str, box: Box, facts: Facts) -> str:
    files = sum(f for h, (f, _, _) in facts.halls.items() if h.split("/")[0] == room)
    lines = sum(n for h, (_, n, _) in facts.halls.items() if h.split("/")[0] == room)
    colour = ROOMS[room]
    counts = f"{files} files, {lines:,} lines"
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.w:.1f}" height="{box.h:.1f}" rx="8" fill="{colour}" '
        f'fill-opacity=".13" stroke="{colour}" stroke-width="1.5"/>'
        f'<path d="M{box.x:.1f} {box.y + 36:.1f}v-28q0-8 8-8h{box.w - 16:.1f}q8 0 8 8v28z" fill="{colour}"/>'
        + _text(box.x + PAD, box.y + 16, f"{room}: {ROLE[room]}", size=13, bold=True, anchor="start")
        + _text(box.x + PAD, box.y + 30, counts, size=10.5, anchor="start")
    )


def _halls(room: str, box: Box, inside: tuple[list[list[str]], Arrows], facts: Facts) -> list[str]:
    rows, arrows = inside
    at: dict[str, Box] = {}
    for k, row in enumerate(rows):
        wide = len(row) * WIDE + (len(row) - 1) * GAP
        for i, hall in enumerate(row):
            at[hall] = Box(box.x + (box.w - wide) / 2 + i * (WIDE + GAP), box.y + HEAD + k * (HIGH + GAP), WIDE, HIGH)
    drawn = [_arrow(at[a], at[b], both=(b, a) in arrows) for a, b in sorted(arrows) if (b, a) not in arrows or a < b]
    for hall, spot in at.items():
        files, lines, _ = facts.halls[hall]
        drawn.append(
            f'<rect x="{spot.x:.1f}" y="{spot.y:.1f}" width="{WIDE}" height="{HIGH}" rx="5" fill="{ROOMS[room]}"/>'
            + _text(spot.x + WIDE / 2, spot.y + 19, hall.split("/")[1], size=13, bold=True)
            + _text(spot.x + WIDE / 2, spot.y + 35, f"{files} files, {lines:,} lines", size=10.5)
        )
    return drawn


def _arrow(a: Box, b: Box, *, both: bool) -> str:
    tips = ' marker-start="url(#tip)"' if both else ""
    if a.y == b.y:  # side by side
        left, right = (a, b) if a.x < b.x else (b, a)
        start, end = (left.x + left.w, a.y + a.h / 2), (right.x, a.y + a.h / 2)
        if left is b and not both:
            start, end = end, start
    else:
        start, end = (a.x + a.w / 2, a.y + a.h), (b.x + b.w / 2, b.y)
    return _line(start, end, tips)


def _room_arrows(arrows: Arrows, boxes: Mapping[str, Box]) -> list[str]:
    """From the lower edge of a room to the upper edge of another; each edge's ends are spread over it."""
    ends: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for a, b in sorted(arrows):  # a set's order differs from process to process
        ends.setdefault((a, "out"), []).append((a, b))
        ends.setdefault((b, "in"), []).append((a, b))

    def spot(room: str, side: str, arrow: tuple[str, str]) -> float:
        other = 1 if side == "out" else 0
        order = sorted(ends[room, side], key=lambda e: boxes[e[other]].x)
        box = boxes[room]
        return box.x + box.w * (order.index(arrow) + 1) / (len(order) + 1)

    drawn = []
    for a, b in sorted(arrows):
        start = (spot(a, "out", (a, b)), boxes[a].y + boxes[a].h)
        drawn.append(_line(start, (spot(b, "in", (a, b)), boxes[b].y), ""))
    return drawn


def _line(start: tuple[float, float], end: tuple[float, float], tips: str) -> str:
    (x, y), (u, v) = start, end
    bend = (v - y) / 2
    path = f"M{x:.1f} {y:.1f}C{x:.1f} {y + bend:.1f} {u:.1f} {v - bend:.1f} {u:.1f} {v:.1f}"
    return f'<path d="{path}" fill="none" stroke="#7d8896" stroke-width="2" marker-end="url(#tip)"{tips}/>'


def _text(x: float, y: float, text: str, *, size: float, bold: bool = False, anchor: str = "middle") -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#fff"{weight}>{text}</text>'


def table(facts: Facts) -> str:
    """The halls with their sizes, in Markdown."""
    lines = ["| room or hall | what it holds | files | lines |", "|---|---|---:|---:|"]
    for room in ROOMS:
        for hall in sorted(h for h in facts.halls if h.split("/")[0] == room):
            files, count, says = facts.halls[hall]
            name = f"**`{hall}/`**" if hall == room else f"`{hall}/`"
            lines.append(f"| {name} | {says} | {files} | {count:,} |")
    return "\n".join(lines)


def with_table(page: str, facts: Facts) -> str:
    """The page with the table between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table(facts)}\n{END}{rest.split(END)[1]}"


def stored() -> Facts:
    """The facts that the picture was drawn from."""
    found = re.search(r"<metadata>(.*)</metadata>", PICTURE.read_text("utf-8"))
    assert found is not None, "the picture holds no facts; draw it again"
    return Facts.from_json(found[1].replace("&lt;", "<").replace("&amp;", "&"))


def differences(old: Facts, new: Facts) -> list[str]:
    """What a drawing of `old` says wrongly of `new`; lines may differ by a fifth."""
    found = [f"hall `{h}` is not drawn" for h in new.halls.keys() - old.halls.keys()]
    found += [f"hall `{h}` is drawn but gone" for h in old.halls.keys() - new.halls.keys()]
    drawn, there = (reduced(set(f.arrows)) for f in (old, new))
    found += [f"arrow `{a}` -> `{b}` is not drawn" for a, b in there - drawn]
    found += [f"arrow `{a}` -> `{b}` is drawn but gone" for a, b in drawn - there]
    for hall in new.halls.keys() & old.halls.keys():
        was, now = old.halls[hall][1], new.halls[hall][1]
        if abs(was - now) > 0.2 * max(was, now):
            found.append(f"`{hall}` has {now} lines, the drawing says {was}")
    return sorted(found)


def check() -> list[str]:
    """What is wrong with the picture and the table."""
    kept = stored()
    found = differences(kept, read_tree())
    if draw(kept) != PICTURE.read_text("utf-8"):
        found.append("the picture was not drawn by this script")
    page = PAGE.read_text("utf-8")
    if with_table(page, kept) != page:
        found.append("the table of halls is not the picture's")
    return found


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        wrong = check()
        print("\n".join([*wrong, "run `python docs/draw_halls.py`"]) if wrong else "the drawing fits the tree")
        sys.exit(1 if wrong else 0)
    now = read_tree()
    PICTURE.write_text(draw(now), "utf-8")
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), now), "utf-8")
