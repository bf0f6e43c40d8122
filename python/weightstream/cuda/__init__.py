"""Weights on a GPU: disk, pinned host memory and device memory, each with a budget.

Nothing lies at a weight's device address unless its block is being computed, and a GPU can't wait for a
touch. So hooks see to it that all weights of a block are there before its work is launched (`hooks`), a
weight that is used where it is not there raises before anything is launched (`guard`), and what the first
pass shows to be used outside of its block is there for good from then on (`watch`).
"""

from weightstream.cuda.device import Device, simulate
from weightstream.cuda.place import start
from weightstream.cuda.split import resize_parts
from weightstream.cuda.weights import resident

__all__ = ["Device", "resident", "resize_parts", "simulate", "start"]
