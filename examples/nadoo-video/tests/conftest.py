from pathlib import Path

import pytest
import torch

from nadoo_video.model import Shape, generate_weights

# Eight blocks of 7 MB, so that a quarter of the weights is a budget that works.
SMALL = Shape(width=768, depth=8, heads=4)


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    generate_weights(folder, SMALL, torch.float32)
    return folder
