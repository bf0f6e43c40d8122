"""Runs one half of the zoo: `python -m tests.zoo loading --help`."""

import importlib
import sys

HALVES = ["loading", "programs"]


def main() -> None:
    """Hand the rest of the command line to the half that it names first."""
    if len(sys.argv) < 2 or sys.argv[1] not in HALVES:
        sys.exit(f"usage: python -m tests.zoo {{{','.join(HALVES)}}} ...")
    half = sys.argv.pop(1)
    importlib.import_module(f"tests.zoo.{half}").main()


main()
