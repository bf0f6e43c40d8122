"""Budgets for small models."""

from weightstream import _native

LEAST = _native.Stream.least_memory()


def quarter(weights: int) -> int:
    """A quarter of `weights` bytes, or what any stream needs where that is more."""
    return max(weights // 4, LEAST)
