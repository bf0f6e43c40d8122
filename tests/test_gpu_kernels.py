"""The device code that ships assembles for every architecture that the driver may meet."""

import subprocess
from pathlib import Path

import pytest

PTX = Path(__file__).parents[1] / "crates/codec/src/gpu/decode.ptx"


@pytest.mark.parametrize(
    "architecture", ["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
)
def test_the_decoder_assembles(architecture: str, tmp_path: Path) -> None:
    triton = pytest.importorskip("triton", reason="triton brings the assembler")
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    if not assembler.exists():
        pytest.skip("this triton has no assembler")
    command = [assembler, f"--gpu-name={architecture}", PTX, "--output-file", tmp_path / "decode.cubin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
