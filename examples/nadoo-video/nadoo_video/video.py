"""Videos in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nadoo_video.site import FRAMES_PER_SECOND


def enlarge(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[frames, height, width, 3], at least `size` pixels high: whole pixels become squares."""
    factor = max(1, size // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def write_video(frames: NDArray[np.uint8], path: Path) -> None:
    """Write [frames, height, width, 3] as .gif, or as .mp4 where imageio and its ffmpeg are installed.

    Raises ValueError for another ending, RuntimeError where .mp4 can't be written here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        first, *rest = (Image.fromarray(frame) for frame in frames)
        first.save(path, save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)
    elif path.suffix == ".mp4":
        try:
            import imageio.v3 as imageio

            imageio.imwrite(path, frames, fps=FRAMES_PER_SECOND, codec="libx264", macro_block_size=2)
        except ImportError as error:
            raise RuntimeError('for .mp4: pip install "nadoo-video[video]"; a .gif needs nothing') from error
    else:
        raise ValueError(f"{path}: expected a name that ends in .mp4 or .gif")
