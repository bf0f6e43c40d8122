"""Makes the cases that `tests/operators.rs` runs: what torch's operators give for random arguments.

    make fixtures

A case is a line of JSON, a family of operators a file of them. Results are stored as they are, arguments by
their seed, so the files stay small. The same version of torch gives the same cases on every run.
"""

import gzip
import importlib
from argparse import ArgumentParser
from pathlib import Path

import cases
import torch
from arguments import rng

HERE = Path(__file__).parent
FAMILIES = sorted(path.stem for path in (HERE / "families").glob("*.py"))


def main():
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", help=f"of: {', '.join(FAMILIES)}; all by default"
    )
    parser.add_argument("--into", type=Path, default=HERE, help="folder for the files")
    parser.add_argument("--seed", default="0", help="other arguments with another one")
    wanted = parser.parse_args()
    if unknown := set(wanted.families) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    wanted.into.mkdir(parents=True, exist_ok=True)
    for name in wanted.families or FAMILIES:
        rng.seed(f"{wanted.seed} {name}")
        cases.lines.clear()
        importlib.import_module(f"families.{name}").cases()
        path = wanted.into / f"{name}.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(cases.lines).encode(), 9, mtime=0))
        print(f"{name:15} {len(cases.lines):4} cases {path.stat().st_size / 1024:6.0f} KB")


if __name__ == "__main__":
    main()
