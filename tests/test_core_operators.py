"""The executor's operators against torch's own list of core ones, which `run_decompositions()` leaves."""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.current

DOCUMENT = Path(__file__).parents[1] / "docs" / "operators.md"


def core_operators():
    """The names of all operators that torch tags as core, but for those that compute with sizes."""
    for name in torch.ops.aten:
        if name.startswith("sym_"):
            continue
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if torch.Tag.core in getattr(packet, overload).tags:
                yield f"aten.{name}.{overload}"


def test_core_operators_are_there_but_for_those_that_the_document_names():
    # That the document lists what is in the table is a test of crates/graph.
    there, missing = DOCUMENT.read_text().split("## Core operators that aren't there")
    core = set(core_operators())
    assert len(core) > 150
    known = set(re.findall(r"^- `([^`]+)`", there, re.MULTILINE))
    others = dict(re.findall(r"^- `aten\.(\w+)` is `aten\.(\w+)`", there, re.MULTILINE))

    def is_known(name):
        _, operator, overload = name.split(".")
        return name in known or f"aten.{others.get(operator)}.{overload}" in known

    named = set(re.findall(r"^- `([^`]+)`: \S", missing, re.MULTILINE))
    assert named == {name for name in core if not is_known(name)}
