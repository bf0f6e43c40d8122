"""Damaged files, each given to what reads it in a process of its own. `tests/attack.py` runs it."""
