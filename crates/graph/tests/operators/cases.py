"""Runs an operator and keeps what it gave."""

import json
import warnings

import torch
from arguments import as_json, as_torch, results_json

#: The family's cases so far, a line of JSON each.
lines: list[str] = []


def case(name, *args, tolerance=1.0, results=None, **kwargs):
    """Runs an operator and keeps what it gave. `results`: how many of its results are compared."""
    packet, overload = name.rsplit(".", 1)
    operator = getattr(getattr(torch.ops.aten, packet), overload)
    names = [argument.name for argument in operator._schema.arguments]
    named = dict(zip(names, args, strict=False)) | kwargs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = operator(**{key: as_torch(value) for key, value in named.items()})
    if not isinstance(given, (list, tuple)) or str(operator._schema.returns[0].type) == "List[Tensor]":
        given = [given]
    given = list(given)[:results]
    line = {"op": f"aten.{name}", "args": [[key, as_json(value)] for key, value in named.items()]}
    line["results"] = [results_json(result) for result in given]
    if tolerance != 1.0:
        line["tolerance"] = tolerance
    lines.append(json.dumps(line, separators=(",", ":")))
