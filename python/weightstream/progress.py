"""A progress bar for a first pass that takes long."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


class Progress:
    """Bytes read in the first pass; shown after some seconds, and only on a terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._bar: tqdm[None] | None = None

    def show(self) -> bool:
        """Bring the bar up to what has been read; returns whether that is all."""
        counters = self._stream.stats()
        if self._bar is None:
            # disable=None: quiet where standard error is no terminal.
            self._bar = tqdm(
                desc="first pass",
                total=counters["model_bytes"],
                unit="B",
                unit_scale=True,
                delay=3,
                leave=False,
                disable=None,
            )
        done, total = counters["bytes_read"], counters["model_bytes"]
        self._bar.update(min(done, total) - self._bar.n)
        return bool(done >= total)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
