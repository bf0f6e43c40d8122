"""All collections, by name."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Iterator

from tests.zoo import diffusers_models, image_models, torch_modules, transformers_models
from tests.zoo.specimens import Specimen

COLLECTIONS: dict[str, Callable[[], Iterator[Specimen]]] = {
    "torch.nn": torch_modules.specimens,
    "torchvision": image_models.torchvision_specimens,
    "timm": image_models.timm_specimens,
    "diffusers": diffusers_models.specimens,
    "transformers": transformers_models.specimens,
}


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Have `parser` take which specimens there are to be."""
    parser.add_argument("collections", nargs="*", metavar="COLLECTION", help=f"of: {', '.join(COLLECTIONS)}")
    parser.add_argument("--only", default="", help="specimens whose name matches this pattern")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th specimen only")


def chosen(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Iterator[Specimen]:
    """The specimens that the command line asks for."""
    if unknown := set(given.collections) - set(COLLECTIONS):
        parser.error(f"no such collection: {', '.join(sorted(unknown))}")
    for collection in given.collections or COLLECTIONS:
        for specimen in itertools.islice(COLLECTIONS[collection](), 0, None, given.every):
            if re.search(given.only, specimen.name):
                yield specimen
