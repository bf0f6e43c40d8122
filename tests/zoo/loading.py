"""Checkpoints of many models: which of them load, and which give the bits that the library's loading gives.

`python -m tests.zoo loading` saves every specimen, loads it with its library and with weightstream, and
compares what both compute. A specimen that can't be built, saved, loaded or called without weightstream isn't
counted.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tests.alignment import realigned
from tests.zoo import catalogue
from tests.zoo.apart import Record, apart, record, write_records
from tests.zoo.programs import last_line
from tests.zoo.specimens import Specimen

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Collections whose library has a from_pretrained.
PRETRAINED = ("diffusers", "transformers")


def main() -> None:
    """Run collections and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo loading", description=__doc__)
    catalogue.add_choice(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the loaded models")
    parser.add_argument("--out", type=Path, help="file for a line of JSON per specimen")
    given = parser.parse_args()
    warm_up()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        for specimen in catalogue.chosen(parser, given):
            outcomes.append(alone(specimen, given.dtype, Path(scratch)))
            print("{collection} {name} {dtype}: {result} {detail}".format(**outcomes[-1]), flush=True)
            write_records(given.out, outcomes)
    print(table(outcomes))


def warm_up() -> None:
    """Imports what every specimen needs: a forked process has it then."""
    import diffusers  # noqa: F401
    import transformers  # noqa: F401
    import weightstream  # noqa: F401

    torch.set_num_threads(1)


def alone(specimen: Specimen, dtype: str, folder: Path) -> Record:
    """What became of `specimen`, found out in a process of its own."""
    place = folder / specimen.collection / specimen.name
    told = apart(lambda: iter([outcome(specimen, dtype, place)]), place.with_suffix(".json"))
    shutil.rmtree(place, ignore_errors=True)
    return told[0] if told else record(specimen, "died", "its process died or took too long", dtype=dtype)


def outcome(specimen: Specimen, dtype: str, folder: Path) -> Record:
    """Loads `specimen` both ways from the empty `folder`."""
    import weightstream as ws

    load = _pretrained if specimen.collection in PRETRAINED else _streamed
    try:
        reference, ours, args, kwargs = load(specimen, DTYPES[dtype], folder)
        expected = computed(reference, args, kwargs)
        if not same(expected, computed(reference, args, kwargs)):
            return record(specimen, "not counted", "it gives something else each time", dtype=dtype)
    except Exception:
        return record(specimen, "not counted", last_line(traceback.format_exc()), dtype=dtype)
    try:
        model = ours()
        if model.state_dict().keys() != reference.state_dict().keys():
            return record(specimen, "differs", "other names of weights", dtype=dtype)
        given = computed(model, args, kwargs)
        expected = computed(realigned(reference, model), args, kwargs)
        ws.close(model)
    except Exception as error:
        return record(specimen, "refused", f"{type(error).__name__}: {error}", dtype=dtype)
    return record(specimen, "same" if same(given, expected) else "differs", dtype=dtype)


Loaded = tuple[nn.Module, Callable[[], nn.Module], Any, Any]


def _pretrained(specimen: Specimen, dtype: torch.dtype, folder: Path) -> Loaded:
    """The model that its library loads, how weightstream does, and what both are called with."""
    import weightstream as ws

    made, args, kwargs = specimen.made()
    made.save_pretrained(folder)
    name = "dtype" if specimen.collection == "transformers" else "torch_dtype"
    reference = type(made).from_pretrained(folder, **{name: dtype}).eval()
    return reference, lambda: ws.load(folder, memory(made), dtype=dtype).eval(), *_cast(args, kwargs, dtype)


def _streamed(specimen: Specimen, dtype: torch.dtype, folder: Path) -> Loaded:
    """The same for a model that the user builds."""
    import weightstream as ws
    from safetensors.torch import save_model

    made, args, kwargs = specimen.made()
    made = made.to(dtype)
    folder.mkdir(parents=True)
    file = folder / "model.safetensors"
    save_model(made, str(file))

    def ours() -> nn.Module:
        with ws.empty():
            module, _, _ = specimen.make()
        return ws.stream(module.to(dtype).eval(), file, memory(made))

    return made, ours, *_cast(args, kwargs, dtype)


def memory(model: nn.Module) -> int:
    """A budget that is smaller than a large model, and that a small one fits into."""
    return sum(weight.nbytes for weight in model.parameters()) // 2 + (24 << 20)


def _cast(args: Any, kwargs: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    def cast(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    return pytree.tree_map(cast, (args, kwargs))


def computed(model: nn.Module, args: Any, kwargs: Any) -> list[Any]:
    """What a model gives, with the same random numbers each time."""
    torch.manual_seed(1)
    with torch.no_grad():
        return pytree.tree_leaves(_plain(model(*copy.deepcopy(args), **copy.deepcopy(kwargs))))


def _plain(result: Any) -> Any:
    if hasattr(result, "keys"):
        return dict(result)
    return vars(result) if hasattr(result, "__dict__") else result


def same(given: list[Any], expected: list[Any]) -> bool:
    """Whether all bits are the same; one NaN is as good as another."""
    if len(given) != len(expected):
        return False
    for one, other in zip(given, expected, strict=True):
        if isinstance(other, torch.Tensor):
            if one.dtype != other.dtype or one.shape != other.shape:
                return False
            if not (torch.equal(one, other) or torch.equal(one.nan_to_num(7), other.nan_to_num(7))):
                return False
        elif isinstance(other, int | float | str) and one != other:
            return False
    return True


def table(outcomes: list[Record]) -> str:
    """Counts, then every exception by name."""
    lines = ["", "| collection | same bits | not counted |", "|---|---|---|"]
    for collection in dict.fromkeys(one["collection"] for one in outcomes):
        own = [one for one in outcomes if one["collection"] == collection]
        counted = [one for one in own if one["result"] != "not counted"]
        good = sum(one["result"] == "same" for one in counted)
        lines.append(f"| {collection} | {good} / {len(counted)} | {len(own) - len(counted)} |")
    lines.append("")
    for one in outcomes:
        if one["result"] not in ("same", "not counted"):
            lines.append("{collection} {name}: {result}: {detail}".format(**one))
    return "\n".join(lines)
