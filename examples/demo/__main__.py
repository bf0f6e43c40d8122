"""Two real models, each in a quarter of the memory that its weights need, beside the same loaded whole."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)


def answer(task: str, folder: Path, memory: int | None = None) -> dict[str, Any]:
    """The report of answer.py, run in a process of its own."""
    script = [sys.executable, str(models.HERE / "answer.py"), task, str(folder)]
    budget = [] if memory is None else [str(memory)]
    process = subprocess.run([*script, *budget], stdout=subprocess.PIPE, text=True)
    if process.returncode != 0:
        sys.exit(f"{' '.join(process.args)} ended with {process.returncode}; its own words are above")
    return json.loads(process.stdout.splitlines()[-1])


def show(title: str, task: str, fetch: Callable[[], Path], render: Callable[[Any], str]) -> bool:
    """Run one model both ways and show the answers side by side; True if they are equal."""
    console.print()
    console.rule(f"[bold]{title}", align="left")
    with console.status("fetching the model ..."):
        folder = fetch()
    size = models.weights(folder)
    memory = size // 4
    with console.status("loaded whole ..."):
        whole = answer(task, folder)
    with console.status(f"streamed through {megabytes(memory)} ..."):
        streamed = answer(task, folder, memory)

    console.print(comparison(whole, streamed, size, memory, render))
    equal = whole["digest"] == streamed["digest"] and whole["result"] == streamed["result"]
    verdict = Text("equal, bit for bit: ").append(
        "yes" if equal else "NO", "bold green" if equal else "bold red"
    )
    console.print(verdict.append(f"  ({streamed['numbers']:,} numbers compared)", "dim"))
    console.print(Panel(Text(streamed["stats"]), title="ws.stats(model)", title_align="left", expand=False))
    return equal


def comparison(
    whole: dict[str, Any], streamed: dict[str, Any], size: int, memory: int, render: Callable[[Any], str]
) -> Table:
    """Both answers, and what each took."""
    table = Table("", "loaded whole", "streamed")
    table.add_row("answer", *(Text(render(report["result"])) for report in (whole, streamed)))
    table.add_section()
    table.add_row("memory for weights", megabytes(size), f"{megabytes(memory)} (a quarter)")
    table.add_row("process, at most", *(megabytes(report["peak_bytes"]) for report in (whole, streamed)))
    table.add_row("  before the model", *(megabytes(report["empty_bytes"]) for report in (whole, streamed)))
    table.add_row("time to load", *(f"{report['load_seconds']:.2f} s" for report in (whole, streamed)))
    table.add_row("time to answer", *(f"{report['answer_seconds']:.2f} s" for report in (whole, streamed)))
    return table


def megabytes(count: int | None) -> str:
    """Bytes for a reader."""
    return "unknown" if count is None else f"{count / 1e6:,.0f} MB"


def found(result: list[tuple[float, str]]) -> str:
    """Search results, one to a line."""
    return "\n".join(f"{similarity:.3f}  {sentence}" for similarity, sentence in result)


if __name__ == "__main__":
    equal = [
        show("SmolLM2-135M-Instruct writes (bf16)", "generate", models.smollm2, str),
        show("all-MiniLM-L6-v2 searches (fp32)", "search", models.minilm, found),
    ]
    sys.exit(0 if all(equal) else 1)
