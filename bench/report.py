"""What was measured, as JSON, as tables and as a picture with the floor drawn in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS
from bench.measure import median, median_warm, warm_seconds


@dataclass(frozen=True)
class Spread:
    """A median with the least and the most seen."""

    middle: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread | None":
        return Spread(median(values), min(values), max(values)) if values else None

    def __format__(self, digits: str) -> str:
        if self.least == self.most:
            return f"{self.middle:{digits}}"
        return f"{self.middle:{digits}} ({self.least:{digits}}-{self.most:{digits}})"


@dataclass(frozen=True)
class Row:
    """One contender at one workload and budget, over all rounds."""

    contender: str
    first: Spread | None  # seconds
    warm: Spread | None  # seconds
    to_full: Spread | None  # ratios, each within one round
    to_floor: Spread | None
    read_bytes: Spread | None  # per warm pass
    peak_bytes: int
    result: str
    error: str


class Results:
    """Everything of one benchmark, as measured; tables are computed from it."""

    def __init__(self, facts: dict[str, Any], outputs: Path | None = None) -> None:
        self.facts = facts
        self.outputs = outputs

    def groups(self) -> list[tuple[str, int, str]]:
        """(model, budget, workload) of every table, in the order measured."""
        return list(dict.fromkeys((f["model"], f["budget"], f["workload"]) for f in self.facts["floors"]))

    def rounds(self, model: str, budget: int, contender: str) -> dict[int, dict[str, Any]]:
        """A contender's runs by round; the fully loaded one knows no budget."""
        return {
            run["round"]: run
            for run in self.facts["runs"]
            if run["model"] == model
            and run["contender"] == contender
            and (run["budget"] == budget or contender == "full")
        }

    def floor(self, model: str, budget: int, workload: str) -> dict[int, dict[str, Any]]:
        """The faster sweep of each round."""
        found = [
            floor
            for floor in self.facts["floors"]
            if (floor["model"], floor["budget"], floor["workload"]) == (model, budget, workload)
        ]
        slowest_first = sorted(found, key=lambda floor: -floor["sweep_seconds"])
        return {floor["round"]: floor for floor in sorted(slowest_first, key=lambda floor: floor["round"])}

    def contenders(self) -> list[str]:
        return list(dict.fromkeys(["full", *(run["contender"] for run in self.facts["runs"])]))

    def row(self, model: str, budget: int, workload: str, contender: str) -> Row:
        full = self.rounds(model, budget, "full")
        floor = self.floor(model, budget, workload)
        first: list[float] = []
        warm: list[float] = []
        to_full: list[float] = []
        to_floor: list[float] = []
        read: list[float] = []
        errors: list[str] = []
        peaks: list[int] = []
        for number, run in self.rounds(model, budget, contender).items():
            passes = [a_pass for a_pass in run["passes"] if a_pass["workload"] == workload]
            if "error" in run:
                errors.append(run["error"])
            peaks.append(run["peak_charged"])
            if not passes:
                continue
            first.append(passes[0]["seconds"])
            warm.extend(warm_seconds(run, workload))
            read.extend(a_pass["read_bytes"] for a_pass in passes[1:] or passes)
            to_full.append(median_warm(run, workload) / median_warm(full[number], workload))
            to_floor.append(median_warm(run, workload) / floor[number]["seconds"])
        return Row(
            contender,
            Spread.of(first),
            Spread.of(warm),
            Spread.of(to_full),
            Spread.of(to_floor),
            Spread.of(read),
            max(peaks, default=0),
            self.compared(model, budget, workload, contender),
            errors[0].splitlines()[0] if errors else "",
        )

    def compared(self, model: str, budget: int, workload: str, contender: str) -> str:
        """Whether every pass gave the bytes that the fully loaded model gave, else how far off it was."""
        wanted = outputs(self.rounds(model, budget, "full"), workload)
        found = outputs(self.rounds(model, budget, contender), workload)
        shared = [number for number in found if number in wanted]
        different = {
            (wanted[number][0], name)
            for number in shared
            for name in found[number]
            if name not in wanted[number]
        }
        if not shared:
            return ""
        if not different:
            return "equal"
        return f"differs by up to {max(self.difference(*names) for names in different):.2g}"

    def difference(self, one: str, other: str) -> float:
        """The greatest absolute difference of two kept outputs."""
        a, b = (values_of(self.outputs, name) for name in (one, other))
        if a is None or b is None or a.shape != b.shape:
            return float("nan")
        return float(abs(a - b).max())

    def table(self, model: str, budget: int, workload: str) -> str:
        """Markdown."""
        floors = self.floor(model, budget, workload)
        seconds = Spread.of([floor["seconds"] for floor in floors.values()])
        rate = Spread.of([floor["bytes"] / floor["sweep_seconds"] / 1e9 for floor in floors.values()])
        facts = self.facts["models"][model]
        lines = [
            f"### {facts['title']}: {workload}, {budget / 1e9:.2f} GB for {facts['bytes'] / 1e9:.2f} GB "
            f"of weights ({facts['bytes'] / budget:.1f}x)",
            "",
            f"Floor: {seconds:.2f} s, from {next(iter(floors.values()))['bytes'] / 1e9:.2f} GB a sweep "
            f"at {rate:.2f} GB/s and the fully loaded compute.",
            "",
            "| | first pass, s | warm pass, s | x fully loaded | x floor | read, GB a pass "
            "| peak memory, GB | result |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for contender in self.contenders():
            row = self.row(model, budget, workload, contender)
            result = "; ".join(text for text in (row.result, row.error[:200]) if text)
            read = row.read_bytes and Spread(*(value / 1e9 for value in vars(row.read_bytes).values()))
            cells = [
                CONTENDERS[contender].title,
                f"{row.first:.2f}" if row.first else "",
                f"{row.warm:.2f}" if row.warm else "",
                f"{row.to_full:.2f}" if row.to_full else "",
                f"{row.to_floor:.2f}" if row.to_floor else "",
                f"{read:.2f}" if read else "",
                f"{row.peak_bytes / 1e9:.2f}",
                "reference" if contender == "full" else result.replace("|", "/"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def markdown(self) -> str:
        return "\n\n".join([self.head(), *(self.table(*group) for group in self.groups())]) + "\n"

    def head(self) -> str:
        machine = self.facts["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in machine["packages"].items() if number)
        throttle = self.facts["throttle"]
        process = ", ".join(
            f"{name} {facts['process_bytes'] / 1e9:.2f} GB" for name, facts in self.facts["models"].items()
        )
        return "\n".join(
            [
                "## Benchmark",
                "",
                f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_bytes'] / 1e9:.0f} GB, "
                f"Linux {machine['kernel']}; {versions}. Reads "
                + (f"throttled to {throttle / 1e6:.0f} MB/s" if throttle else "not throttled")
                + f"; {self.facts['rounds']} interleaved rounds, each process from a cold page cache.",
                "",
                "Every contender but the fully loaded one is confined to the process without weights "
                f"({process}) + the budget + {self.facts['allowance'] >> 20} MiB; the page cache counts. "
                "Values are medians (least-most); ratios are taken within a round.",
                *self.left_out(),
            ]
        )

    def left_out(self) -> list[str]:
        """What took too long on this machine to be compared."""
        return [
            f"\n{facts['title']}, {workload}: left out, a fully loaded pass takes {seconds:.0f} s here."
            for facts in self.facts["models"].values()
            for workload, seconds in facts.get("left_out", {}).items()
        ]

    def picture(self, path: Path) -> None:
        """A panel per model, budget and workload; bars are warm passes, the line is the floor."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        groups = self.groups()
        rows = -(-len(groups) // 2)
        figure, panels = pyplot.subplots(
            rows, 2, figsize=(13, 2.4 * rows), squeeze=False, layout="constrained"
        )
        for panel in panels.flat[len(groups) :]:
            panel.axis("off")
        for panel, group in zip(panels.flat, groups, strict=False):
            self.draw(panel, *group)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)

    def draw(self, panel: Any, model: str, budget: int, workload: str) -> None:
        names = self.contenders()[::-1]
        floor = median([floor["seconds"] for floor in self.floor(model, budget, workload).values()])
        for position, name in enumerate(names):
            row = self.row(model, budget, workload, name)
            if row.warm is None:
                panel.text(0, position, f" {row.error[:60]}", va="center", fontsize=7, color="dimgray")
                continue
            colour = {"weightstream": "tab:blue", "full": "tab:gray"}.get(name, "tab:orange")
            spread = [[row.warm.middle - row.warm.least], [row.warm.most - row.warm.middle]]
            panel.barh(position, row.warm.middle, color=colour, xerr=spread, error_kw={"lw": 1})
            panel.text(row.warm.most, position, f" {row.warm.middle:.2f} s", va="center", fontsize=8)
        panel.axvline(floor, color="tab:red", lw=1.5, label=f"floor {floor:.2f} s")
        panel.set_yticks(range(len(names)), [CONTENDERS[name].title for name in names], fontsize=8)
        panel.margins(x=0.18)
        panel.set_xlim(left=0)
        facts = self.facts["models"][model]
        panel.set_title(f"{facts['title']}, {facts['bytes'] / budget:.1f}x memory: {workload}", fontsize=9)
        panel.set_xlabel("seconds a pass", fontsize=8)
        panel.legend(fontsize=8, loc="upper right")

    def keep(self, folder: Path, stem: str) -> Path:
        """Writes what was measured so far; `bench.merge` makes tables of it, should the rest never come."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}.json"
        path.write_text(json.dumps(self.facts, indent=1))
        return path

    def save(self, folder: Path, stem: str) -> list[Path]:
        """Writes everything: the facts, the tables and the picture."""
        paths = [self.keep(folder, stem), folder / f"{stem}.md", folder / f"{stem}.png"]
        paths[1].write_text(self.markdown())
        self.picture(paths[2])
        return paths


def outputs(rounds: dict[int, dict[str, Any]], workload: str) -> dict[int, tuple[str, ...]]:
    """The names of a workload's outputs, by pass number, over all rounds."""
    found: dict[int, dict[str, None]] = {}
    for run in rounds.values():
        for a_pass in run["passes"]:
            if a_pass["workload"] == workload:
                found.setdefault(a_pass["number"], {})[a_pass["output"]] = None
    return {number: tuple(names) for number, names in found.items()}


def values_of(folder: Path | None, name: str) -> Any:
    """A kept output as numbers, flat; None where it wasn't kept."""
    import numpy as np

    if folder is None or not (folder / name).exists():
        return None
    kind = name.rpartition(".")[2]
    data = (folder / name).read_bytes()
    if kind == "bfloat16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(kind)).astype(np.float64)
