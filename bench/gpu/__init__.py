"""Streaming to a GPU, checked and measured on one.

    python -m bench.gpu --smoke      every feature with small models, in under two minutes: run it first
    python -m bench.gpu              the measurements: JSON and a table
    python -m bench.gpu --simulate   either of them on a machine without a GPU, with tiny models

Each stage runs in a process of its own, so that one that fails takes no other with it.
"""
