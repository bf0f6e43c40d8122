"""Runs stages, each in a process of its own, and writes down what they found."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench.gpu.report import table

# Of one stage, in seconds; a call on a shared machine may have less in all.
PATIENCE = 400


def main() -> int:
    options = parsed()
    if options.stage:
        return child(options)
    if options.smoke:
        return smoke(options)
    from bench.gpu.stages import STAGES

    results: dict[str, Any] = {}
    chosen = options.stages.split(",") if options.stages else list(STAGES)
    file = Path(options.output)
    if file.exists():
        results = json.loads(file.read_text())  # of an earlier call: stages may be spread over several
    until = time.monotonic() + options.seconds
    for name in chosen:
        left = min(PATIENCE, until - time.monotonic())
        if left < 10:
            print(f"{name}: no time left", flush=True)
            continue
        started = time.monotonic()
        results[name] = run(options, name, left)
        state = "FAILED" if "error" in results[name] else "done"
        print(f"{name}: {state} in {time.monotonic() - started:.0f} s", flush=True)
        if "error" in results[name]:
            print(results[name]["error"], flush=True)
        file.write_text(json.dumps(results, indent=1))
    print(table(results))
    return int(any("error" in result for result in results.values()))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.gpu", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="check every feature with small models")
    parser.add_argument("--simulate", action="store_true", help="on a simulated device; implies --small")
    parser.add_argument("--small", action="store_true", help="tiny models in the measurements")
    parser.add_argument("--stages", help="names, with commas between; default: all")
    parser.add_argument("--folder", default=".cache/bench-gpu", help="for checkpoints")
    parser.add_argument("--output", default="bench-gpu.json")
    parser.add_argument("--seconds", type=float, default=3600, help="begin no stage after this time")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.small |= options.simulate
    return options


def command(options: argparse.Namespace, stage: str) -> list[str]:
    words = [sys.executable, "-X", "faulthandler", "-m", "bench.gpu"]
    words += ["--stage", stage, "--folder", options.folder]
    return words + ["--simulate"] * options.simulate + ["--small"] * options.small


def run(options: argparse.Namespace, stage: str, seconds: float) -> dict[str, Any]:
    """The stage's result, or its error in words."""
    try:
        ended = subprocess.run(command(options, stage), capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {seconds:.0f} s"}
    lines = ended.stdout.splitlines()
    if lines and lines[-1].startswith("{"):
        return dict(json.loads(lines[-1]))
    return {"error": f"exit code {ended.returncode}\n{ended.stderr[-3000:]}"}


def child(options: argparse.Namespace) -> int:
    """One stage, or the features named after "features:"; the last line printed is the result."""
    from bench.gpu.place import Place

    place = Place.open(options.simulate)
    if options.stage.startswith("features:"):
        return features(place, options.stage.partition(":")[2].split(","))
    from bench.gpu.stages import STAGES, Run

    try:
        result = STAGES[options.stage](Run(place, Path(options.folder), options.small))
        broken = place.device.native.broken_rules()
        if broken:
            result = {"error": f"rules of the device were broken: {broken}"}
    except Exception:
        result = {"error": traceback.format_exc()}
    print(json.dumps(result), flush=True)
    return 0


def features(place: Any, names: list[str]) -> int:
    from bench.gpu.features import FEATURES

    for name in names:
        started = time.monotonic()
        print(f"begin {name}", flush=True)
        try:
            FEATURES[name](place)
            place.synchronize()
            broken = place.device.native.broken_rules()
            if broken:
                raise AssertionError(f"rules of the device were broken: {broken}")
            print(f"ok {name} {time.monotonic() - started:.1f} s", flush=True)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(f"failed {name}", flush=True)
            # After an illegal address nothing works in this process any more.
            return 1
    return 0


def smoke(options: argparse.Namespace) -> int:
    """Features in one process as long as it lives, the rest in another one."""
    from bench.gpu.features import FEATURES

    left = options.stages.split(",") if options.stages else list(FEATURES)
    failed = []
    started = time.monotonic()
    while left:
        process = subprocess.Popen(
            command(options, "features:" + ",".join(left)),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        done: list[str] = []
        begun = left[0]
        for line in process.stdout:
            print(line, end="", flush=True)
            word, _, rest = line.strip().partition(" ")
            if word == "begin" and rest in left:
                begun = rest
            elif word == "ok":
                done.append(begun)
        if process.wait() != 0 or len(done) < len(left):
            failed.append(begun)
            print(f"{begun}: the process ended with {process.returncode}", flush=True)
            done.append(begun)
        left = [name for name in left if name not in done]
    print(f"{len(failed)} failed {failed or ''} in {time.monotonic() - started:.0f} s")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
