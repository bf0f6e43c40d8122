import importlib.util
import sys
from pathlib import Path

import pytest
import torch

try:
    import weightstream._native  # noqa: F401
except ImportError:
    # The native module isn't built here: run against the stand-in beside this file.
    _folder = Path(__file__).parent
    sys.path.insert(0, str(_folder.parent / "python"))
    _spec = importlib.util.spec_from_file_location("weightstream._native", _folder / "stand_in.py")
    assert _spec is not None and _spec.loader is not None
    _stand_in = importlib.util.module_from_spec(_spec)
    sys.modules["weightstream._native"] = _stand_in
    _spec.loader.exec_module(_stand_in)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
