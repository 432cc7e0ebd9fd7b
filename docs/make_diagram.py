"""Draw the imports between the rooms of the package, docs/rooms.svg: ``python docs/make_diagram.py``.

The graph is grimp's, which import-linter uses too (extra ``[test]``). The rows are the layers of the contract in
pyproject.toml. An arrow leads from a room to one that it imports; it is pale where a chain of others implies it.
"""

from __future__ import annotations

import re
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "rooms.svg"
WIDTH, ROW, BOX = 860, 84, (132, 34)


def layers() -> list[list[str]]:
    """Return the rows of rooms, the uppermost first, as the contract has them."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"^layers = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return [re.split(r"\s*[:|]\s*", row) for row in re.findall(r'"([^"]+)"', found[1])]


def imports() -> dict[tuple[str, str], int]:
    """Return how many modules of a room each module of another room imports, in all."""
    graph = grimp.build_graph("fastinit")
    rooms = [room for row in layers() for room in row]

    def modules(room: str) -> set[str]:
        return {f"fastinit.{room}"} | graph.find_descendants(f"fastinit.{room}")

    found = {}
    for one in rooms:
        for other in rooms:
            inside = modules(other)
            count = sum(len(inside & graph.find_modules_directly_imported_by(name)) for name in modules(one))
            if one != other and count:
                found[one, other] = count
    return found


def upwards(arrows: dict[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Return the arrows that lead to a higher row, or both ways within one: there should be none."""
    row = {room: k for k, rooms in enumerate(layers()) for room in rooms}
    return [(one, other) for one, other in arrows if row[other] < row[one] or (other, one) in arrows]


def implied(arrows: dict[tuple[str, str], int]) -> set[tuple[str, str]]:
    """Return the arrows between rooms that a longer chain of arrows connects, too."""
    order = [room for row in layers() for room in row]
    reach: dict[str, set[str]] = {}
    for room in reversed(order):
        next_rooms = [other for one, other in arrows if one == room]
        reach[room] = set(next_rooms).union(*(reach.get(other, set()) for other in next_rooms))
    return {
        (one, other)
        for one, other in arrows
        if any(other in reach.get(middle, set()) for first, middle in arrows if first == one and middle != other)
    }


def drawing(arrows: dict[tuple[str, str], int]) -> str:
    """Return the picture: boxes in rows, and curved arrows."""
    rows = layers()
    place = {
        room: (WIDTH * (k + 1) / (len(row) + 1) + (70 if n % 2 and len(row) == 1 else 0), 30 + ROW * n)
        for n, row in enumerate(rows)
        for k, room in enumerate(row)
    }
    rows_of = {room: n for n, row in enumerate(rows) for room in row}
    height = 60 + ROW * (len(rows) - 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="14" role="img">',
        "<title>Imports between the rooms of fastinit: every arrow leads down</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" fill="#456"/></marker></defs>',
    ]
    pale = implied(arrows)
    for one, other in sorted(arrows, key=lambda arrow: (arrow not in pale, arrow)):
        (x, y), (u, v) = place[one], place[other]
        if y == v:
            side = 1 if u > x else -1
            path = f"M{x + side * BOX[0] / 2:.0f} {y:.0f}L{u - side * BOX[0] / 2:.0f} {v:.0f}"
        else:
            depth = round((v - y) / ROW)
            side = 1 if (x + u > WIDTH + 100 if depth == 2 else (depth + len(one)) % 2) else -1
            bend = 0 if depth == 1 else side * (depth * 34 + 70)
            between = [place[room][0] for room in rows[rows_of[one] + 1]] if depth == 2 else []
            if any(abs((x + u) / 2 + 0.9 * bend - centre) < 0.6 * BOX[0] for centre in between):
                bend = -bend
            start, end = x + bend * 0.2, u + bend * 0.2
            start, end = (min(max(point, centre - 54), centre + 54) for point, centre in ((start, x), (end, u)))
            path = (
                f"M{start:.0f} {y + BOX[1] / 2:.0f}C{start + bend:.0f} {y + ROW * 0.6:.0f} "
                f"{end + bend:.0f} {v - ROW * 0.6:.0f} {end:.0f} {v - BOX[1] / 2:.0f}"
            )
        opacity = 0.2 if (one, other) in pale else 1
        lines.append(f'<path d="{path}" fill="none" stroke="#456" opacity="{opacity}" marker-end="url(#tip)"/>')
    for room, (x, y) in place.items():
        lines += [
            f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="6" '
            'fill="#eef3f8" stroke="#456"/>',
            f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{room}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    found = imports()
    assert not upwards(found), f"imports lead upwards: {upwards(found)}"
    TARGET.write_text(drawing(found))
    print(f"{TARGET.name}: {len(found)} arrows, all of them downwards or sideways")
