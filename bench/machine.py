"""Facts of the machine that results belong to; nothing that tells whose machine it is."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "diffusers", "accelerate", "safetensors", "airllm", "weightstream")


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def cpu_has(flag: str) -> bool:
    return f" {flag} " in Path("/proc/cpuinfo").read_text().replace("\n", " ")


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "avx512_bf16": cpu_has("avx512_bf16"),
        "amx_bf16": cpu_has("amx_bf16"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }
