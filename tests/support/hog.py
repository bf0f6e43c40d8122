"""Takes memory, 4 MiB every 40 ms, then says so and keeps it: `python -m support.hog BYTES`."""

import sys
import time

taken = []
for _ in range(int(sys.argv[1]) // 2**22):
    taken.append(bytearray(b"\1") * 2**22)
    time.sleep(0.04)
print("taken", flush=True)
time.sleep(600)
