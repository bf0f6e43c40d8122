"""What the checks of every byte cost: checksums, and whether a file changed while it was read.

python -m bench.checks [--rounds 5] [--memory 1GB] [--only packed] [--folder bench/models]

Builds the native part once more without them, and runs one token of the Qwen3-1.7B-shaped model with the one
and the other, in processes that alternate: from the plain checkpoint and from a packed one.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from bench.__main__ import bytes_of
from bench.contenders import pack
from bench.models import MODELS, prepare

HERE = Path(__file__).parent
ROOT = HERE.parent
# A stream of packed weights settles how they stay in memory within so many passes.
SETTLE, PASSES = 10, 10
PROCESS = """
import json, sys, time, torch, weightstream
model = weightstream.load(sys.argv[1], memory=int(sys.argv[2]))
ids = torch.tensor([[1]])
seconds = []
with torch.inference_mode():
    for _ in range(int(sys.argv[3])):
        start = time.perf_counter()
        model(input_ids=ids)
        seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""


def unchecked_package(folder: Path) -> Path:
    """The package with a native part that checks nothing; returns what to put on Python's path."""
    target = folder / "target"
    build = ["cargo", "build", "--release", "--quiet", "-p", "weightstream-python", "--features", "unchecked"]
    subprocess.run([*build, "--target-dir", str(target)], cwd=ROOT, check=True)
    package = folder / "weightstream"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "python" / "weightstream", package, ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(target / "release" / "lib_native.so", package / "_native.abi3.so")
    return folder


def warm_seconds(path: Path, checkpoint: Path, memory: int) -> float:
    """Median seconds of a warm pass, in a process that takes the package from `path`."""
    command = [sys.executable, "-c", PROCESS, str(checkpoint), str(memory), str(SETTLE + PASSES)]
    run = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(path)}, check=True, capture_output=True, text=True
    )
    return statistics.median(json.loads(run.stdout)[SETTLE:])


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.checks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=bytes_of, default=10**9)
    parser.add_argument("--only", choices=["plain", "packed"])
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    wanted = parser.parse_args()
    folder = wanted.folder.resolve()
    model = MODELS["qwen3"]
    plain = prepare(model, folder)
    packed = folder / "scratch" / "qwen3-packed"
    packed.mkdir(parents=True, exist_ok=True)
    pack(plain, packed)
    unchecked = unchecked_package(folder / "unchecked")
    for name, checkpoint in [("plain", plain), ("packed", packed / "packed")]:
        if wanted.only not in (None, name):
            continue
        ratios = []
        for number in range(wanted.rounds):
            packages = [ROOT / "python", unchecked]
            if number % 2:
                packages.reverse()
            seconds = {path: warm_seconds(path, checkpoint, wanted.memory) for path in packages}
            checked, bare = seconds[ROOT / "python"], seconds[unchecked]
            ratios.append(checked / bare)
            print(f"{name}, round {number + 1}: {checked:.3f} s checked, {bare:.3f} s not", flush=True)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{name}: checks take {statistics.median(ratios):.3f} of the time without ({spread})")


if __name__ == "__main__":
    main()
