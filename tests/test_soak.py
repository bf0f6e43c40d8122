"""Uses under faults: nothing wrong, nothing stuck, nothing left behind. See soak.py.

`WEIGHTSTREAM_SOAK=10000 pytest tests/test_soak.py` does more of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

OPERATIONS = int(os.environ.get("WEIGHTSTREAM_SOAK", "2500"))


def test_operations_under_faults():
    command = [sys.executable, "soak.py", "--operations", str(OPERATIONS), "--seed", "4"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=1200)
    print(run.stdout)
    assert run.returncode == 0, run.stderr[-5000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["operations"] == OPERATIONS
    assert len(found["injected"]) == 13, "a kind of fault never happened"
    assert found["survived"] == found["injected"]
    for kind in ("threads", "descriptors"):
        assert found["after"][kind] <= found["before"][kind], found
    # malloc's arenas and torch's caches come and go by a few.
    assert found["after"]["mappings"] <= found["before"]["mappings"] + 20, found
