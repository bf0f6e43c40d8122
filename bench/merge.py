"""`python -m bench.merge FOLDER PART.json...`: puts parts that were measured one by one together.

Every part has its own fully loaded runs and floors. Its rounds get numbers of their own, so that ratios are
still taken within a round. A single part, of a benchmark that was stopped, is written anew with its tables.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report import Results


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The facts of all parts as those of one benchmark. Raises ValueError where they can't be compared."""
    for name in ("machine", "throttle", "allowance"):
        if len({json.dumps(part[name], sort_keys=True) for part in parts}) != 1:
            raise ValueError(f"the parts differ in: {name}")
    facts: dict[str, Any] = {**parts[0], "models": {}, "floors": [], "runs": []}
    following = 0
    for part in parts:
        for kind in ("floors", "runs"):
            facts[kind] += [{**fact, "round": fact["round"] + following} for fact in part[kind]]
        following = 1 + max((fact["round"] for fact in facts["runs"]), default=-1)
        for name, model in part["models"].items():
            known = facts["models"].setdefault(name, {**model, "left_out": {}})
            known["process_bytes"] = max(known["process_bytes"], model["process_bytes"])
            known["left_out"] |= model["left_out"]
            known["budgets"] = sorted({*known["budgets"], *model["budgets"]})
    facts["rounds"] = max(part["rounds"] for part in parts)
    return facts


def main() -> None:
    folder, *paths = map(Path, sys.argv[1:])
    facts = merged([json.loads(path.read_text()) for path in paths])
    results = Results(facts)
    print(results.markdown())
    print("written:", *results.save(folder, "throttled" if facts["throttle"] else "bench"))


if __name__ == "__main__":
    main()
