"""Makes passes while another process takes memory: `python -m support.pressed FOLDER GOVERNED`.

Tells how it is, in a line of JSON, at the start and after each line of input.
"""

import json
import sys
import threading
import time
from pathlib import Path

import torch
import weightstream as ws
from torch import nn

MIB = 2**20
WIDTH, LAYERS = 2048, 16

with ws.empty():
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
ws.stream(model, Path(sys.argv[1]) / "model.safetensors", 200 * MIB)
given = torch.randn(3, WIDTH)
right = True
over = threading.Event()
with torch.inference_mode():
    expected = model(given)
governor = ws.govern(model, most=200 * MIB) if sys.argv[2] == "1" else None


def passes() -> None:
    global right
    with torch.inference_mode():
        while not over.is_set():
            right &= bool(torch.equal(model(given), expected))


def tell() -> None:
    print(json.dumps({"right": right, "budget": ws.stats(model).budget}), flush=True)


runner = threading.Thread(target=passes)
runner.start()
tell()
sys.stdin.readline()
tell()
sys.stdin.readline()
end = time.monotonic() + 40
low = ws.stats(model).budget
while ws.stats(model).budget < low + 20 * MIB and time.monotonic() < end:
    time.sleep(0.1)
tell()
over.set()
runner.join()
