"""Damaged files of every kind that weightstream reads, through every command and call, each in a process.

    python tests/attack.py --seed 1 --cases 2000

prints for each kind of file and what reads it how many cases were accepted, refused with an error of
weightstream's, refused with another library's, and how many died: a signal, an abort, a panic, more than 20
seconds or more than 1 GiB. It fails if one died. `--only NUMBER` repeats a case and shows what it said;
`--keep FOLDER` keeps the files of those that died. A small number of cases is a test (test_attack.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Before torch and the command: cases are small, and each thread takes address space.
os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "RAYON_NUM_THREADS", "MALLOC_ARENA_MAX"], "2"))
os.environ.update(HF_HUB_OFFLINE="1")

from support.attack import child, scenarios
from support.attack.child import Outcome
from support.attack.damage import damage
from support.attack.kinds import KINDS, Kind

# Of ten cases so many go through the command, which is quick.
COMMANDS = 8
Counts = dict[str, Counter[str]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kind", action="append", help="only files of this kind")
    parser.add_argument("--only", type=int, help="only the case of this number")
    parser.add_argument("--keep", type=Path, help="where the files of cases that died go")
    parser.add_argument(
        "--scenarios", action="store_true", help="run the scenarios of a living process instead"
    )
    options = parser.parse_args()
    if options.scenarios:
        return run_scenarios()
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        return attack(options, Path(folder))


def attack(options: argparse.Namespace, folder: Path) -> int:
    kinds = [kind for kind in KINDS if not options.kind or kind.name in options.kind]
    apart(partial(write_examples, kinds, folder))
    numbers = range(options.cases) if options.only is None else [options.only]
    commands = [number for number in numbers if number % 10 < COMMANDS]
    calls = [number for number in numbers if number % 10 >= COMMANDS]
    found: list[tuple[str, str, str]] = []
    # The command's cases first: torch is not imported yet, and a fork is quick.
    for part, cases in ((command_cases, commands), (python_cases, calls)):
        if cases:
            found += shared(partial(part, options, kinds, folder), cases, options.jobs, folder)
    return told(found)


def write_examples(kinds: list[Kind], folder: Path) -> None:
    import torch

    written: dict[Callable[[Path], None], Path] = {}
    for kind in kinds:
        example = folder / "examples" / kind.name
        if kind.write in written:
            shutil.copytree(written[kind.write], example)
        else:
            torch.manual_seed(0)
            example.mkdir(parents=True)
            kind.write(example)
            written[kind.write] = example
        if any(pattern.startswith(".cache") for pattern in kind.damaged):
            os.environ["XDG_CACHE_HOME"] = str(example / ".cache")
            from support.attack.calls import load_wider

            load_wider(example)


def command_cases(options: argparse.Namespace, kinds: list[Kind], folder: Path) -> Callable[[int], tuple]:
    from support.attack.command import run

    read = [kind for kind in kinds if kind.commands]
    memory = child.resident()

    def case(number: int) -> tuple[str, str, str]:
        kind, chance = read[number % len(read)], random.Random(f"{options.seed} {number}")
        place = damaged(kind, folder, number, chance)
        words = chance.choice(kind.commands)
        arguments = words.format(path=place / kind.path, case=place).split()
        outcome = child.run(lambda: run(arguments), memory)
        return judged(options, number, kind, words.split()[0], place, outcome)

    return case


def python_cases(options: argparse.Namespace, kinds: list[Kind], folder: Path) -> Callable[[int], tuple]:
    from support.attack.calls import CALLS, ws

    read = [kind for kind in kinds if kind.calls]
    memory = child.resident()

    def call(function: Callable[[Path], None], place: Path, path: Path) -> int:
        os.environ["XDG_CACHE_HOME"] = str(place / ".cache")
        try:
            function(path)
        except ws.WeightstreamError as error:
            print(f"{type(error).__name__}: {error}")
            return child.REFUSED
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
            return child.UNNAMED
        return child.ACCEPTED

    def case(number: int) -> tuple[str, str, str]:
        kind, chance = read[number % len(read)], random.Random(f"{options.seed} {number}")
        place = damaged(kind, folder, number, chance)
        name = chance.choice(kind.calls)
        outcome = child.run(partial(call, CALLS[name], place, place / kind.path), memory)
        return judged(options, number, kind, f"ws.{name}", place, outcome)

    return case


def damaged(kind: Kind, folder: Path, number: int, chance: random.Random) -> Path:
    """A copy of the kind's example, one of whose files is damaged."""
    place = folder / f"case-{number}"
    shutil.copytree(folder / "examples" / kind.name, place)
    files = sorted(file for pattern in kind.damaged for file in place.glob(pattern) if file.is_file())
    others = sorted(file for file in (folder / "examples").rglob("*") if file.is_file())
    damage(chance.choice(files), chance.choice(others), chance)
    return place


def judged(
    options: argparse.Namespace, number: int, kind: Kind, entry: str, place: Path, outcome: Outcome
) -> tuple[str, str, str]:
    if outcome.died:
        print(f"case {number} ({kind.name}, {entry}): {outcome.word}", file=sys.stderr)
        print(outcome.said[-2000:], file=sys.stderr)
        if options.keep:
            shutil.copytree(place, options.keep / f"{options.seed}-{number}", dirs_exist_ok=True)
    elif options.only is not None:
        print(f"{outcome.word} in {outcome.seconds:.2f} s, {outcome.peak >> 20} MiB\n{outcome.said}")
    shutil.rmtree(place)
    return kind.name, entry, "died" if outcome.died else outcome.word


def apart(work: Callable[[], None]) -> None:
    """Do `work` in a process of its own, so that what it imports stays there."""
    begun = os.fork()
    if begun == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(begun, 0)
    if status != 0:
        raise SystemExit("a part of the attack itself has failed")


def shared(
    part: Callable[[], Callable[[int], tuple[str, str, str]]], numbers: list[int], jobs: int, folder: Path
) -> list[tuple[str, str, str]]:
    """What the cases give, divided among `jobs` processes."""
    case = part()
    files = []
    begun = []
    for job in range(jobs):
        file = folder / f"found-{job}.json"
        files.append(file)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                file.write_text(json.dumps([case(number) for number in numbers[job::jobs]]))
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            os._exit(code)
        begun.append(process)
    if any([os.waitpid(process, 0)[1] for process in begun]):
        raise SystemExit("a part of the attack itself has failed")
    return [tuple(found) for file in files for found in json.loads(file.read_text())]


def told(found: list[tuple[str, str, str]]) -> int:
    counts: Counter[tuple[str, str, str]] = Counter(found)
    columns = ["accepted", "refused", "unnamed", "died"]
    print("| file | read by | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
    for kind, entry in sorted({key[:2] for key in counts}):
        row = " | ".join(str(counts[kind, entry, column]) for column in columns)
        print(f"| {kind} | {entry} | {row} |")
    totals = Counter(word for *_, word in found)
    print(json.dumps({"cases": len(found), **{column: totals[column] for column in columns}}))
    return 1 if totals["died"] else 0


def run_scenarios() -> int:
    """Each in a process of its own; 1 if one of them failed."""
    failed = 0
    for name, scenario in scenarios.SCENARIOS.items():

        def once(scenario: scenarios.Scenario = scenario) -> int:
            scenario()
            return child.ACCEPTED

        outcome = child.run(once, child.resident())
        failed += outcome.word != "accepted"
        print(f"{name}: {outcome.word}\n{outcome.said if outcome.word != 'accepted' else ''}", end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
