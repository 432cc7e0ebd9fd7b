"""Run the benchmarks and render them: the tables of docs/benchmarks.md, and two pictures.

``python -m bench.report`` measures for some minutes, keeps the figures as JSON under ``bench/results``, draws pictures
beside it and writes the tables between the two markers of docs/benchmarks.md. ``--from FILE`` renders what was measured
before; ``--tiny`` takes sizes and turns that show nothing but that all of it works.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import DISTRIBUTIONS, NORMAL, TRUNCATED, UNIFORM, ZEROS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- speed table -->", "<!-- /speed table -->"
OURS, OURS_FRESH, CEILING = "fastinit.fill", "fastinit.array", "streaming stores"
FRESH = ", fresh pages"
DASH = "–"


@dataclass(frozen=True)
class Row:
    """What was measured of one case."""

    contender: str
    turns: dict[str, float]  # seconds
    library: str = ""
    distribution: str = ""
    dtype: str = ""
    nbytes: int = 0
    threads: int = 0
    in_place: bool = True
    extra_bytes: int = 0

    @property
    def seconds(self) -> float:
        """The median of the turns."""
        return statistics.median(self.turns.values())

    @property
    def speeds(self) -> tuple[float, float, float]:
        """GB/s: the median, the slowest and the fastest turn."""
        amount, seconds = self.nbytes / 1e9, self.turns.values()
        return amount / self.seconds, amount / max(seconds), amount / min(seconds)

    def over(self, other: Row) -> tuple[float, float, float]:
        """How many times as many bytes a second: the median, least and most over the turns that both took."""
        scale = self.nbytes / other.nbytes
        found = [scale * other.turns[turn] / self.turns[turn] for turn in self.turns if turn in other.turns]
        return statistics.median(found), min(found), max(found)


class Results:
    """A run's rows, and what else its JSON tells."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self.kept = kept
        self.rows = [Row(**row) for row in kept["benchmarks"]]
        self.top = max(row.nbytes for row in self.rows if row.dtype)
        self.threads = max(row.threads for row in self.rows)

    def best(self, **wanted: Any) -> Row | None:
        """The fastest of the rows that have these properties."""
        rows = [row for row in self.rows if all(getattr(row, key) == value for key, value in wanted.items())]
        return max(rows, key=lambda row: row.speeds[0], default=None)

    def main(self, distribution: str, **wanted: Any) -> Row | None:
        """The same for a distribution at the largest size, in float32."""
        return self.best(distribution=distribution, dtype="float32", nbytes=self.top, **wanted)

    def nearest(self, distribution: str, **wanted: Any) -> Row | None:
        """The same for contenders that have no float32 too."""
        return self.main(distribution, **wanted) or self.best(distribution=distribution, **wanted)

    @property
    def date(self) -> str:
        """The day of the run."""
        return str(self.kept["datetime"][:10])

    @property
    def name(self) -> str:
        """What its files are called."""
        cpu = re.sub(r"\((R|TM)\)|@.*|CPU|Processor", " ", self.kept["machine"]["cpu"])
        return re.sub(r"[^a-z0-9]+", "-", f"{cpu} {self.date}".lower()).strip("-")


def measure(folder: Path, tiny: bool, turns: int) -> Path:
    """Run the benchmarks; the JSON's path."""
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "run.json"
        command = [sys.executable, "-m", "pytest", "bench/test_speed.py", "-W", "default", "-p", "no:cacheprovider"]
        command += ["--benchmark-quiet", "--benchmark-disable-gc", f"--benchmark-json={raw}", f"--turns={turns}"]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        subprocess.run(
            [*command, *["--tiny"][: int(tiny)]], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=True
        )
        kept = json.loads(raw.read_text())
    rows = ",\n".join(json.dumps(row) for row in kept.pop("benchmarks"))
    text = json.dumps(kept, indent=1).removesuffix("\n}") + f',\n "benchmarks": [\n{rows}\n ]\n}}\n'
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{Results(json.loads(text)).name}.json"
    target.write_text(text)
    return target


def size_text(size: int) -> str:
    """1048576 is 1 MiB."""
    power = (size.bit_length() - 1) // 10
    return f"{size >> 10 * power} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put(page: Path, begin: str, end: str, text: str) -> None:
    """Write a text between two markers of a page, or exit where they are not."""
    before, found, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        sys.exit(f"{page} has no {begin} and {end}: nothing was written there")
    page.write_text(f"{before}{begin}\n{text.rstrip()}\n{end}{after}")


def triple(values: tuple[float, float, float]) -> str:
    """A median and its spread."""
    digits = 2 if values[0] < 10 else 1
    return "{:.{d}f} ({:.{d}f}{dash}{:.{d}f})".format(*values, d=digits, dash=DASH)


def main_table(results: Results) -> str:
    """A row a contender, a column a distribution."""

    def cell(name: str, distribution: str) -> str:
        row = results.nearest(distribution, contender=name)
        if row is None:
            return ""
        ceiling = results.main(ZEROS, contender=CEILING if row.in_place else CEILING + FRESH)
        ours = results.main(distribution, contender=OURS if row.in_place else OURS_FRESH)
        text = triple(row.speeds)
        if ceiling:
            text += f" {row.over(ceiling)[0]:.2f}"
        if ours and row.library != ours.library and row.speeds[0] > ours.speeds[0]:
            text = f"**{text}**"
        return text + (f" [{row.dtype}, {size_text(row.nbytes)}]" if row.dtype != "float32" else "")

    names = {row.contender: row.contender + " (new array)"[: 0 if row.in_place else None] for row in results.rows}
    stores = [[name, cell(name, ZEROS)] for name in names if results.main(ZEROS, contender=name)]
    rows = [
        [shown, *(cell(name, distribution) for distribution in DISTRIBUTIONS)]
        for name, shown in names.items()
        if any(results.nearest(distribution, contender=name) for distribution in DISTRIBUTIONS)
    ]
    return table(["ceilings", "zeros"], stores) + "\n\n" + table(["", *DISTRIBUTIONS], rows)


def axes_table(results: Results) -> str:
    """One thread, and the other dtypes: a row a library, its best variant."""
    size = sorted({row.nbytes for row in results.rows if row.dtype})[-2]
    columns = [("float32", 1), *((dtype, results.threads) for dtype in ("float64", "float16", "bfloat16"))]

    def cell(library: str, dtype: str, threads: int) -> str:
        wanted = {"library": library, "dtype": dtype, "threads": threads, "nbytes": size}
        found = [results.best(distribution=distribution, **wanted) for distribution in (UNIFORM, NORMAL)]
        return " / ".join(f"{row.speeds[0]:.2f}" for row in found if row)

    libraries = dict.fromkeys(row.library for row in results.rows if row.distribution in DISTRIBUTIONS)
    rows = [[library, *(cell(library, *column) for column in columns)] for library in libraries]
    head = [f"{dtype}, {threads} thread{'s'[: threads > 1]}" for dtype, threads in columns]
    return table([f"uniform / normal, {size_text(size)}", *head], [row for row in rows if any(row[1:])])


def ratio_rows(results: Results) -> list[tuple[str, str, str, bool | None]]:
    """What is promised, the bound, what was found, whether it holds; None where nothing was measured."""
    uniform, normal, truncated = (
        results.main(distribution, contender=OURS) for distribution in (UNIFORM, NORMAL, TRUNCATED)
    )
    ceiling = results.main(ZEROS, contender=CEILING)
    half = results.best(contender=OURS, distribution=NORMAL, dtype="bfloat16", nbytes=results.top)
    philox = "oneMKL Philox4x32-10, ICDF"
    pairs: list[tuple[str, float, Row | None, Row | None, float]] = [
        ("uniform / streaming stores", 0.60, uniform, ceiling, 1),
        ("normal / streaming stores", 0.33, normal, ceiling, 1),
        ("truncated normal / streaming stores", 0.20, truncated, ceiling, 1),
        ("uniform / NumPy's best, one thread", 7, uniform, results.main(UNIFORM, library="NumPy"), 1),
        ("normal / NumPy's best, one thread", 18, normal, results.main(NORMAL, library="NumPy"), 1),
        ("uniform / randompack's best", 1.3, uniform, results.main(UNIFORM, library="randompack"), 1),
        ("normal / randompack's best", 2.5, normal, results.main(NORMAL, library="randompack"), 1),
        ("normal / oneMKL's best", 1.1, normal, results.main(NORMAL, library="oneMKL"), 1),
        ("uniform / oneMKL Philox4x32-10", 1.8, uniform, results.main(UNIFORM, contender=philox), 1),
        ("truncated normal / torch", 120, truncated, results.main(TRUNCATED, contender="torch.nn.init"), 1),
        ("bfloat16 normal / float32 normal, elements", 1.0, half, normal, 2),
        (
            "fresh uniform array / fresh memset",
            0.85,
            results.main(UNIFORM, contender=OURS_FRESH),
            results.main(ZEROS, contender="memset" + FRESH),
            1,
        ),
    ]
    found: list[tuple[str, str, str, bool | None]] = []
    for title, bound, one, other, scale in pairs:
        if one is None or other is None:
            found.append((title, f"≥ {bound:g}", "not measured", None))
            continue
        median, least, most = (scale * value for value in one.over(other))
        rival = f", {other.contender}" if "best" in title else ""
        found.append((title, f"≥ {bound:g}", triple((median, least, most)) + rival, median >= bound))

    def limit(title: str, value: float | None, bound: float, unit: str) -> None:
        shown = "not measured" if value is None else f"{value:.3g} {unit}"
        found.append((title, f"≤ {bound:.3g} {unit}", shown, None if value is None else value <= bound))

    peak, first = results.best(contender="peak memory"), results.best(contender="first call")
    small = {"distribution": UNIFORM, "dtype": "float32", "nbytes": 4096}
    ours = results.best(contender=OURS, threads=results.threads, **small)
    theirs = results.best(library="NumPy", **small)
    size = size_text(peak.nbytes) if peak else "8 GiB"
    limit(f"extra peak memory of a fill of {size}", peak.extra_bytes / 2**20 if peak else None, 64, "MiB")
    allowed = 2 * theirs.seconds * 1e6 + 10 if theirs else 10
    limit("1,024 float32 uniforms; limit: 2 x NumPy's + 10 µs", ours.seconds * 1e6 if ours else None, allowed, "µs")
    limit("interpreter start to first array", first.seconds if first else None, 1, "s")
    return found


def markdown(results: Results, pictures: Sequence[str]) -> str:
    """Return all of the report."""
    kept = results.kept
    versions = ", ".join(f"{package} {version}" for package, version in kept["versions"].items())
    marks = {True: "yes", False: "**no**", None: ""}
    parts = [
        f"{kept['machine']['cpu']}, {results.threads} threads, Python {kept['machine']['python']}, {results.date}; "
        f"{versions}. Absent: {', '.join(kept['absent']) or 'none'}.",
        *(f"![GB/s of the contenders]({picture})" for picture in pictures),
        f"{size_text(results.top)} of float32, warm unless the contender makes a new array: GB/s as the median (slowest"
        f"{DASH}fastest) of the turns, then the fraction of streaming stores, on fresh pages for new arrays. Bold is "
        "faster than fastinit. Contenders took turns, and the mean, deviation and bounds of each were checked before.",
        main_table(results),
        axes_table(results),
        table(
            ["", "at least, at most", "found", "holds"],
            [[*row[:3], marks[row[3]]] for row in ratio_rows(results)],
        ),
    ]
    if kept["wrong"]:
        wrong = [f"- {name}: {why}." for name, why in kept["wrong"].items()]
        parts.append("\n".join(["Not timed, since the values were wrong:", "", *wrong]))
    return "\n\n".join(parts) + "\n"


COLOURS = "#d62728", "C0", "C1", "C2", "C4", "C5", "C6", "C8", "C9"


def draw(results: Results, target: Path) -> list[Path]:
    """Draw normals of the five fastest libraries against the ceiling, and all libraries over size; return the files."""
    from matplotlib.figure import Figure

    shown = dict.fromkeys(row.library for row in results.rows if row.distribution in DISTRIBUTIONS)
    shown.pop(OURS_FRESH, None)
    colours = dict(zip(shown, COLOURS, strict=False))
    processor = f"{results.kept['machine']['cpu']}, float32, {results.threads} threads"

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    best = [row for row in (results.nearest(NORMAL, library=library) for library in shown) if row]
    best = sorted(best, key=lambda row: row.speeds[0])[-5:]
    for place, row in enumerate(best):
        median, slow, fast = row.speeds
        spread = [[median - slow], [fast - median]]
        axes.barh(place, median, xerr=spread, color=colours[row.library], ecolor="#555555", log=True)
        axes.annotate(f" {median:.2g}", (fast, place), va="center")
    if ceiling := results.main(ZEROS, contender=CEILING):
        axes.axvline(ceiling.speeds[0], color="black", linestyle="--")
        axes.annotate(
            "streaming stores of a constant ", (ceiling.speeds[0], -0.42), ha="right", va="center", fontsize=8
        )
    axes.set_yticks(range(len(best)), [row.library for row in best])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("GB/s, median and spread of the turns")
    axes.set_title(f"normal, {size_text(results.top)}: {processor}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110, metadata={"Software": None})

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    figure.suptitle(f"{processor}: the fastest variant of each library", fontsize=10)
    sizes = sorted({row.nbytes for row in results.rows if row.dtype == "float32"})
    stores = {CEILING: "black", "plain stores": "grey"}
    grid = figure.subplots(1, 2)
    for axes, distribution in zip(grid, (UNIFORM, NORMAL), strict=True):
        for library, colour in (colours | stores).items():
            drawn = ZEROS if library in stores else distribution
            wanted = {"library": library, "distribution": drawn, "dtype": "float32"}
            found = [row for row in (results.best(nbytes=size, **wanted) for size in sizes) if row]
            style = {"linestyle": "--"} if library in stores else {"marker": "."}
            xs, ys = [row.nbytes for row in found], [row.speeds[0] for row in found]
            if found:
                axes.plot(xs, ys, color=colour, label=library, **style)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(sizes, [size_text(size) for size in sizes], rotation=60)
        axes.set_ylabel("GB/s")
        axes.set_title(f"{distribution} over the array's size")
        axes.grid(alpha=0.3)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5)
    over_size = target.with_stem(f"{target.stem}-sizes")
    figure.savefig(over_size, dpi=110, metadata={"Software": None})
    return [target, over_size]


def main() -> None:
    """Measure unless told not to, and render."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="render this JSON; measure nothing")
    parser.add_argument("--tiny", action="store_true", help="sizes of KiB: shows only that it works")
    parser.add_argument("--turns", type=int, help="of each contender; by default 5, tiny 2")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="where JSON and pictures go")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks.md", help="the file with the two markers")
    options = parser.parse_args()
    source = options.source or measure(options.results, options.tiny, options.turns or (2 if options.tiny else 5))
    results = Results(json.loads(source.read_text()))
    pictures = draw(results, source.with_suffix(".png"))
    text = markdown(results, [os.path.relpath(picture, options.page.parent) for picture in pictures])
    print(text)
    put(options.page, BEGIN, END, text)


if __name__ == "__main__":
    main()
