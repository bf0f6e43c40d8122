"""Makes decode.ptx of decode.cu, without a GPU.

`pip install nvidia-cuda-nvrtc-cu12==12.1.105`, then `python ptx.py`. The compiler is an old one on purpose: a
driver refuses PTX that is newer than itself.
"""

import ctypes
import importlib.util
from pathlib import Path

HERE = Path(__file__).parent
OPTIONS = [b"--gpu-architecture=compute_70", b"--std=c++14"]


def main() -> None:
    """Compile, or print what the compiler says."""
    package = importlib.util.find_spec("nvidia.cuda_nvrtc")
    assert package is not None and package.submodule_search_locations, "nvidia-cuda-nvrtc-cu12 is missing"
    nvrtc = ctypes.CDLL(str(Path(package.submodule_search_locations[0]) / "lib" / "libnvrtc.so.12"))
    program = ctypes.c_void_p()
    source = (HERE / "decode.cu").read_bytes()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"decode.cu", 0, None, None))
    failed = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), (ctypes.c_char_p * len(OPTIONS))(*OPTIONS))
    if failed:
        raise SystemExit(text(nvrtc, program, "ProgramLog"))
    (HERE / "decode.ptx").write_text(text(nvrtc, program, "PTX"))


def text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    """One of the texts that the compiler has made."""
    size = ctypes.c_size_t()
    check(nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    check(nvrtc[f"nvrtcGet{what}"](program, buffer))
    return buffer.value.decode()


def check(status: int) -> None:
    """Raise where a call failed."""
    if status:
        raise SystemExit(f"nvrtc failed: {status}")


if __name__ == "__main__":
    main()
