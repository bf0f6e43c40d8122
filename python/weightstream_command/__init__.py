"""The console script `weightstream`: a package of its own, so that it starts without importing torch."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import signal
import sys
from types import ModuleType


def main() -> int:
    """Run the command with this process's arguments; returns its exit code."""
    # Work goes on in Rust, where Python's own handlers would never run.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return int(_native().run_command(["weightstream", *sys.argv[1:]], sys.executable))


def _native() -> ModuleType:
    """The extension module of the package weightstream, without the package."""
    package = importlib.util.find_spec("weightstream")
    folders = package.submodule_search_locations if package else None
    spec = importlib.machinery.PathFinder.find_spec("weightstream._native", folders)
    if spec is None or spec.loader is None:
        raise ImportError("the package weightstream is not installed, or was not built: make build")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
