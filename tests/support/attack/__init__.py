"""Files that are damaged, each given to what reads them in a process of its own. `tests/attack.py` runs it."""
