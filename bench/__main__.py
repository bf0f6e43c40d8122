"""`python -m bench`: measures every contender on every model, prints tables, writes JSON and a picture."""

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from bench import machine
from bench.cgroup import CgroupError
from bench.contenders import CONTENDERS
from bench.measure import ALLOWANCE, Bench, Settings
from bench.models import MODELS
from bench.report import Results
from bench.workloads import WORKLOADS

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def bytes_of(text: str) -> int:
    """`600MB/s`, `1.0GB`, `512MiB` or a plain number."""
    found = re.fullmatch(r"([\d.]+)\s*([kmg]i?)?b?(/s)?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"expected bytes such as 600MB/s or 1GB, got {text!r}")
    return int(float(found[1]) * UNITS[found[2] or ""])


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(",") if name.strip()]
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of: {', '.join(known)}")
        return wanted

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    here = Path(__file__).parent
    parser.add_argument(
        "--models", type=names(MODELS), default=["qwen3", "moe", "dit"], help="comma-separated"
    )
    parser.add_argument("--contenders", type=names(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--workloads", type=names(WORKLOADS), help="only these, of those that a model has")
    parser.add_argument("--budgets", help="instead of each model's own: 1GB,340MB, or fractions such as 0.25")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, help="at most so many passes after the first")
    parser.add_argument("--seconds", type=float, default=60, help="end a workload's warm passes after this")
    parser.add_argument(
        "--longest", type=float, default=30, help="leave out workloads that take longer fully loaded, seconds"
    )
    parser.add_argument("--timeout", type=float, default=900, help="stop a process after this many seconds")
    parser.add_argument("--throttle", type=bytes_of, help="limit the disk's reads, e.g. 600MB/s")
    parser.add_argument("--quick", action="store_true", help="one round, one warm pass of each workload")
    parser.add_argument("--folder", type=Path, default=here / "models", help="for checkpoints")
    parser.add_argument("--out", type=Path, default=here / "results")
    return parser.parse_args()


def budgets(text: str | None) -> list[float] | None:
    if not text:
        return None
    return [float(part) if re.fullmatch(r"0?\.\d+", part) else bytes_of(part) for part in text.split(",")]


def results_of(bench: Bench) -> Results:
    facts = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine.facts(),
        "throttle": bench.settings.throttle,
        "rounds": bench.settings.rounds,
        "allowance": ALLOWANCE,
        "models": bench.models,
        "floors": bench.floors,
        "runs": bench.runs,
    }
    return Results(facts, bench.outputs)


def main() -> int:
    wanted = arguments()
    settings = Settings(
        models=[MODELS[name] for name in wanted.models],
        contenders=wanted.contenders,
        rounds=1 if wanted.quick else wanted.rounds,
        warm=1 if wanted.quick else wanted.warm,
        seconds=wanted.seconds,
        longest=wanted.longest,
        timeout=wanted.timeout,
        throttle=wanted.throttle,
        folder=wanted.folder.resolve(),
        budgets=budgets(wanted.budgets),
        workloads=wanted.workloads,
    )
    if os.geteuid():
        print("The benchmark confines memory with control groups and must run as root.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that control groups are removed
    stem = "throttled" if settings.throttle else "bench"
    bench = Bench(settings, after_run=lambda bench: results_of(bench).keep(wanted.out, stem))
    try:
        bench.measure()
    except CgroupError as error:
        print(error, file=sys.stderr)
        return 2
    results = results_of(bench)
    print("\n" + results.markdown())
    print("written:", *(os.path.relpath(path) for path in results.save(wanted.out, stem)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
