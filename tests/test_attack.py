"""Two thousand damaged files, each through what reads it: nothing dies. See attack.py."""

import json
import subprocess
import sys
from pathlib import Path

CASES = 2000


def test_no_damaged_file_ends_a_process():
    command = [sys.executable, "attack.py", "--cases", str(CASES), "--seed", "17"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=1200)
    print(run.stdout)
    assert run.returncode == 0, run.stderr[-5000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["cases"] == CASES
    assert found["died"] == 0
    # Damages that are all refused, or all accepted, would show little.
    assert found["accepted"] > CASES // 20
    assert found["refused"] > CASES // 4
