"""Exported programs of many models: which of them open, and which give what torch gives.

`python -m tests.zoo programs` exports every specimen twice, as `torch.export` gives it and after
`run_decompositions()`, and runs both. A specimen that torch itself can't build, call or export isn't counted.
"""

from __future__ import annotations

import argparse
import collections
import re
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tests.zoo import catalogue
from tests.zoo.apart import Record, apart, record, write_records
from tests.zoo.specimens import Specimen

FORMS = ("exported", "decomposed")
#: The relative error that float32 sums in another order make, through a whole model.
TOLERANCE = 1e-4


def main() -> None:
    """Run collections and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo programs", description=__doc__)
    catalogue.add_choice(parser)
    parser.add_argument(
        "--keep", type=Path, help="folder in which exported programs are kept for the next run"
    )
    parser.add_argument("--out", type=Path, help="file for a line of JSON per program")
    given = parser.parse_args()
    warm_up()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        for specimen in catalogue.chosen(parser, given):
            outcomes += both_forms(specimen, given.keep or Path(scratch), keep=given.keep is not None)
            print(line(outcomes[-2:]), flush=True)
            write_records(given.out, outcomes)
    print(table(outcomes))


def warm_up() -> None:
    """Imports what every export needs: a forked process has it then."""
    import weightstream  # noqa: F401

    torch.set_num_threads(1)
    torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),), strict=False).run_decompositions()


def both_forms(specimen: Specimen, folder: Path, keep: bool) -> list[Record]:
    """What became of both forms of `specimen`."""
    folder = folder / specimen.collection
    told = apart(
        lambda: (outcome(specimen, form, folder, keep) for form in FORMS), folder / f"{specimen.name}.json"
    )
    for form in FORMS[len(told) :]:
        told.append(record(specimen, "not exported", "its process died or took too long", form=form))
    return told


def outcome(specimen: Specimen, form: str, folder: Path, keep: bool = False) -> Record:
    """Runs one form, exported anew unless an earlier run has kept it."""
    import weightstream as ws

    program, data = folder / f"{specimen.name}.{form}.pt2", folder / f"{specimen.name}.{form}.pt"
    refused = program.with_suffix(".refused")
    if refused.exists():
        return record(specimen, "not exported", refused.read_text(), form=form)
    if not data.exists():
        try:
            exported(specimen, form, program, data)
        except Exception:
            refused.write_text(last_line(traceback.format_exc()))
            return record(specimen, "not exported", refused.read_text(), form=form)
    args, kwargs, expected = torch.load(data, weights_only=False)
    try:
        given = pytree.tree_leaves(ws.Program(program)(*args, **kwargs))
    except Exception as error:
        return record(specimen, "refused", str(error), form=form)
    finally:
        if not keep:
            program.unlink()
            data.unlink()
    difference = compare(given, expected)
    return record(specimen, "differs" if difference else "same", difference, form=form)


def exported(specimen: Specimen, form: str, program: Path, data: Path) -> None:
    """Writes the program, and beside it inputs and what torch makes of them."""
    module, args, kwargs = specimen.made()
    with torch.no_grad():
        graph = torch.export.export(module, args, kwargs, strict=False)
        if form == "decomposed":
            graph = graph.run_decompositions()
        torch.export.save(graph, program)
        expected = pytree.tree_leaves(graph.module()(*args, **kwargs))
    torch.save((args, kwargs, expected), data)


def compare(given: list[Any], expected: list[Any]) -> str:
    """In what two results differ; empty where they don't."""
    if len(given) != len(expected):
        return f"{len(given)} results, expected {len(expected)}"
    for place, (one, other) in enumerate(zip(given, expected, strict=True)):
        if not isinstance(other, torch.Tensor):
            if one != other:
                return f"result {place} is {one}, expected {other}"
            continue
        if one.dtype != other.dtype or one.shape != other.shape:
            kinds = [f"{each.dtype} {tuple(each.shape)}" for each in (other, one)]
            return f"result {place}: expected {kinds[0]}, got {kinds[1]}"
        if not (other.is_floating_point() or other.is_complex()):
            if not torch.equal(one, other):
                return (
                    f"result {place} of {other.dtype}: {int((one != other).sum())} of {other.numel()} differ"
                )
            continue
        wide = torch.complex128 if other.is_complex() else torch.float64
        one, other = one.to(wide), other.to(wide)
        finite = other.isfinite()
        if not torch.equal(one[~finite].nan_to_num(7.0), other[~finite].nan_to_num(7.0)):
            return f"result {place}: infinities or NaN in other places"
        error = float((one[finite] - other[finite]).norm() / other[finite].norm().clamp_min(1e-12))
        if not error < TOLERANCE:
            return f"result {place}: a relative error of {error:.1e}"
    return ""


def last_line(text: str) -> str:
    """Of a traceback: the error's own words."""
    lines = [one for one in text.strip().splitlines() if one and not one.startswith(" ")]
    own = [one for one in lines if re.match(r"[\w.]+(Error|Exception|Unsupported)?:", one)]
    return (own or lines)[-1]


def line(outcomes: list[Record]) -> str:
    """Both forms of one specimen."""
    words = []
    for one in outcomes:
        words.append(f"{one['form']}: {one['result']} {one['detail'][:300]}".strip())
    return f"{outcomes[0]['collection']} {outcomes[0]['name']}: " + "; ".join(words)


def missing(detail: str) -> list[str]:
    """The operators that a refusal names."""
    return re.findall(r"^  (\S+) \(node", detail, re.MULTILINE) or re.findall(r"^(\S+) \(node", detail)


def table(outcomes: list[Record]) -> str:
    """Counts, then every exception by name, then operators by how many programs they stop."""
    lines = ["", "| collection | exported | decomposed | torch can't export |", "|---|---|---|---|"]
    for collection in dict.fromkeys(one["collection"] for one in outcomes):
        own = [one for one in outcomes if one["collection"] == collection]
        cells = []
        for form in FORMS:
            tried = [one for one in own if one["form"] == form and one["result"] != "not exported"]
            cells.append(f"{sum(one['result'] == 'same' for one in tried)} / {len(tried)}")
        cells.append(str(sum(one["result"] == "not exported" and one["form"] == FORMS[0] for one in own)))
        lines.append(f"| {collection} | {' | '.join(cells)} |")
    stopped: dict[str, int] = collections.Counter()
    lines.append("")
    for one in outcomes:
        if one["result"] in ("refused", "differs"):
            lines.append(
                f"{one['collection']} {one['name']} ({one['form']}): {one['result']}: {one['detail']}"
            )
            stopped.update(missing(one["detail"]))
    lines.append("")
    lines += [f"{count:4} {operator}" for operator, count in stopped.most_common()]
    return "\n".join(lines)
