"""Exported programs, run by `weightstream`, beside the same models in torch, on this machine.

python -m bench.programs [NAME...] [--dtype fp32|bf16] [--seconds 6] [--folder .cache/programs]

Each model is exported once and run three ways in turn: by torch, by the runtime with all weights in memory,
and streamed through a quarter of them; then by the command `weightstream run`, for the memory of a process
without Python.
Needs what `make .venv/.bench .venv/.demo` installs. Fails where a result is not torch's, or a streamed one
not the same bits as the resident one; SmolLM2 must also write the 64 tokens that `generate` writes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

HERE = Path(__file__).resolve().parents[1]
COMMAND = HERE / "target" / "release" / "weightstream"
TOLERANCES = {"fp32": 1e-4, "bf16": 2e-2}
PROCESS = 24 << 20  # what a process may take besides weights and activations


def exported(name: str, dtype: str, folder: Path) -> tuple[Any, Any, Path]:
    """The module, its inputs, and the file that it is exported to."""
    import torch

    from bench.program_models import export

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{dtype}.pt2"
    return *export(name, True, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype], path), path


def least_times(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The least time of each, taken in turn until that many seconds have passed for each of them."""
    least = dict.fromkeys(ways, float("inf"))
    began = time.perf_counter()
    rounds = 0
    while rounds < 2 or time.perf_counter() - began < seconds * len(ways):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            least[name] = min(least[name], time.perf_counter() - start)
        rounds += 1
    return least


def run(name: str, dtype: str, folder: Path, seconds: float) -> dict[str, Any]:
    """What one model took."""
    import torch
    import weightstream as ws

    module, inputs, path = exported(name, dtype, folder)
    size = path.stat().st_size
    with torch.no_grad():
        expected = module(*inputs)
        resident = ws.Program(path)
        streamed = ws.Program(path, size // 4)
        result = resident(*inputs)
        error = (result.double() - expected.double()).norm() / expected.double().norm()
        equal = all(torch.equal(streamed(*inputs), result) for _ in range(2))
        ways = {
            "torch": lambda: module(*inputs),
            "resident": lambda: resident(*inputs),
            "streamed": lambda: streamed(*inputs),
        }
        facts = {"error": float(error), "equal": equal, "size": size, **least_times(ways, seconds)}
        if name == "smollm2" and dtype == "fp32":
            facts["equal"] &= same_tokens(module, streamed)
    return facts | confined(inputs, path, size // 4)


def same_tokens(module: Any, program: Any) -> bool:
    """Whether 64 greedy tokens are those of `generate`."""
    import torch

    ids = torch.tensor([[504, 4052, 282, 4649, 314]])  # "The capital of France is"
    settings = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = module.module.generate(ids, max_new_tokens=64, min_new_tokens=64, **settings)
    for _ in range(64):
        ids = torch.cat([ids, program(ids)[:, -1].argmax(-1, keepdim=True)], 1)
    return torch.equal(ids, expected)


def confined(inputs: Any, path: Path, budget: int) -> dict[str, Any]:
    """What `weightstream run` says, in a process without Python."""
    import numpy
    import torch

    given = []
    for number, value in enumerate(inputs):
        file = path.with_suffix(f".{number}.npy")
        whole = value.float() if value.dtype == torch.bfloat16 else value
        numpy.save(file, whole.numpy())
        given.append(f"--input={file}")
    command = [COMMAND, "run", str(path), *given, "--memory", str(budget), "--runs", "2", "--json"]
    facts = json.loads(subprocess.check_output(command))
    facts["allowed"] = budget + facts["activation_peak"] + PROCESS
    return {"command": facts}


def line(name: str, dtype: str, facts: dict[str, Any]) -> tuple[str, bool]:
    """A row of the table, and whether the model is right."""
    right = facts["equal"] and facts["error"] < TOLERANCES[dtype]
    command = facts["command"]
    return (
        f"{name:16} {dtype:4} {facts['size'] / 1e6:7.0f} {facts['error']:9.1e} "
        f"{'yes' if facts['equal'] else 'NO':>6} {facts['torch'] * 1e3:8.0f} {facts['resident'] * 1e3:8.0f} "
        f"{facts['streamed'] * 1e3:8.0f} {facts['torch'] / facts['resident']:7.2f} "
        f"{facts['streamed'] / facts['resident']:9.2f} {command['process_peak'] / 1e6:8.0f} "
        f"{command['allowed'] / 1e6:8.0f}",
        right,
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.programs")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--dtype", choices=TOLERANCES, action="append")
    parser.add_argument("--seconds", type=float, default=6, help="of each way of each model")
    parser.add_argument("--folder", type=Path, default=HERE / ".cache" / "programs")
    parser.add_argument("--export", action="store_true", help="only export what is missing")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from bench.program_models import MODELS

    names, dtypes = arguments.names or list(MODELS), arguments.dtype or list(TOLERANCES)
    if unknown := set(names) - set(MODELS):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(MODELS)}")
    if arguments.one:
        print(json.dumps(run(names[0], dtypes[0], arguments.folder, arguments.seconds)))
        return
    build = ["cargo", "build", "--release", "-p", "weightstream-cli"]  # minutes, the first time
    subprocess.run(build, check=True, cwd=HERE)
    if not arguments.export:
        print(
            f"{'model':16} {'':4} {'MB':>7} {'error':>9} {'equal':>6} {'torch':>8} {'resident':>8} "
            f"{'streamed':>8} {'speed':>7} {'streaming':>9} {'process':>8} {'allowed':>8}\n"
            f"{'':46}{'ms':>8} {'ms':>8} {'ms':>8} {'/ torch':>7} {'/ resid.':>9} {'MB':>8} {'MB':>8}"
        )
    wrong = []
    for name in names:
        for dtype in dtypes:
            if arguments.export:
                exported(name, dtype, arguments.folder)
                continue
            # A process for each: torch keeps what it took.
            child = [sys.executable, "-m", "bench.programs", name, "--dtype", dtype, "--one"]
            child += ["--seconds", str(arguments.seconds), "--folder", str(arguments.folder)]
            answer = subprocess.run(child, stdout=subprocess.PIPE, check=True)
            text, right = line(name, dtype, json.loads(answer.stdout.splitlines()[-1]))
            print(text, flush=True)
            if not right:
                wrong.append(f"{name} {dtype}")
    if wrong:
        sys.exit(f"not as torch computes it: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
