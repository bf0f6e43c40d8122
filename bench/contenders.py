"""Ways to run a checkpoint. Each opens a folder and gives a model that is called like the original.

A contender gets the checkpoint's folder, the bytes of memory meant for weights, and a folder of its own
for what it wants to keep on disk. What it prepares there once (`prepare`) is neither timed nor confined.
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Contender:
    """`open(checkpoint, budget, scratch)` gives the model; `confined` is false for the reference alone."""

    name: str
    title: str
    open: Callable[[Path, int, Path], Any]
    confined: bool = True
    prepare: Callable[[Path, Path], None] | None = None


def is_diffusion(checkpoint: Path) -> bool:
    return "_class_name" in json.loads((checkpoint / "config.json").read_text())


def from_pretrained(checkpoint: Path, **options: Any) -> Any:
    """The model by its own library's loader."""
    if is_diffusion(checkpoint):
        from diffusers import AutoModel

        return AutoModel.from_pretrained(str(checkpoint), **options).eval()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(checkpoint), dtype="auto", **options).eval()


def without_weights(checkpoint: Path) -> Any:
    """The module on `meta`, its buffers real."""
    from accelerate import init_empty_weights

    config = json.loads((checkpoint / "config.json").read_text())
    with init_empty_weights(include_buffers=False):
        if is_diffusion(checkpoint):
            import diffusers

            return getattr(diffusers, config["_class_name"]).from_config(config).eval()
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(checkpoint), dtype=getattr(torch, config["dtype"])
        ).eval()


def fully_loaded(checkpoint: Path, budget: int, scratch: Path) -> Any:
    """All weights in anonymous memory: what the loader leaves mapped from the file is copied."""
    model = from_pretrained(checkpoint)
    for parameter in model.parameters():
        parameter.data = copy_of_same_alignment(parameter.data)
    ctypes.CDLL(None).malloc_trim(
        0
    )  # what loading left in the heap is no part of the process without weights
    return model


def copy_of_same_alignment(tensor: Any) -> Any:
    """A copy in memory of its own, as far from a cache line's start as the original.

    BLAS adds in another order where a matrix is not aligned (fp32, one row): the last bits would differ.
    """
    import torch

    line = 64
    memory = torch.empty(tensor.nbytes + 2 * line, dtype=torch.uint8)
    start = (tensor.data_ptr() - memory.data_ptr()) % line
    copy = memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor)


def weightstream(checkpoint: Path, budget: int, scratch: Path) -> Any:
    import weightstream as ws

    return ws.load(str(checkpoint), memory=budget)


def weightstream_packed(checkpoint: Path, budget: int, scratch: Path) -> Any:
    return weightstream(scratch / "packed", budget, scratch)


def pack(checkpoint: Path, scratch: Path) -> None:
    """Packed once for each version of the checkpoint: the command sees whether it is of these files."""
    command = [Path(sys.executable).with_name("weightstream"), "pack", checkpoint, scratch / "packed"]
    if subprocess.run(command).returncode:
        subprocess.run([*command, "--overwrite"], check=True)


def accelerate(checkpoint: Path, budget: int, scratch: Path) -> Any:
    """`device_map="auto"` with `budget` for the CPU and the rest on disk.

    Where no layer at all fits, accelerate asks for `disk_offload` instead, which reads the same safetensors.
    """
    try:
        return from_pretrained(
            checkpoint, device_map="auto", max_memory={"cpu": budget}, offload_folder=scratch / "accelerate"
        )
    except ValueError as error:
        if "disk_offload" not in str(error):
            raise
    from accelerate import disk_offload

    model = without_weights(checkpoint)
    model.tie_weights()
    offload = scratch / "accelerate-whole"
    offload.mkdir(parents=True, exist_ok=True)
    places = tensor_places(checkpoint)
    for name, parameter in model.state_dict().items():
        source = name if name in places else tied_name(model, name)
        places[name] = {**places[source], "dtype": str(parameter.dtype).removeprefix("torch.")}
    (offload / "index.json").write_text(json.dumps(places))
    return disk_offload(model, offload, execution_device="cpu")


def tensor_places(checkpoint: Path) -> dict[str, dict[str, str]]:
    """Where accelerate finds each tensor: its own index format, naming safetensors files."""
    from safetensors import safe_open

    places = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            places.update(
                {name: {"safetensors_file": str(path), "weight_name": name} for name in file.keys()}  # noqa: SIM118
            )
    return places


def tied_name(model: Any, name: str) -> str:
    """The other name of a tied weight."""
    return str(model.all_tied_weights_keys[name])


def mmap(checkpoint: Path, budget: int, scratch: Path) -> Any:
    """Parameters are views of the mapped safetensors files; the page cache decides what stays."""
    from safetensors import safe_open

    model = without_weights(checkpoint)
    views = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            views.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    _, unexpected = model.load_state_dict(views, strict=False, assign=True)
    if unexpected:
        raise ValueError(
            f"{len(unexpected)} tensors of the checkpoint are no parameters of the module as they are "
            f"(first: {unexpected[0]}): they would have to be copied together, a mapped view can't"
        )
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model


def airllm(checkpoint: Path, budget: int, scratch: Path) -> Any:
    from airllm import AutoModel

    return AutoModel.from_pretrained(
        str(checkpoint), device="cpu", layer_shards_saving_path=str(scratch / "airllm")
    )


def split_for_airllm(checkpoint: Path, scratch: Path) -> None:
    """AirLLM keeps a second copy of the checkpoint, a file per layer; it makes it when first opened."""
    airllm(checkpoint, 0, scratch)


CONTENDERS = {
    contender.name: contender
    for contender in [
        Contender("full", "fully loaded", fully_loaded, confined=False),
        Contender("weightstream", "weightstream", weightstream),
        Contender("packed", "weightstream, packed", weightstream_packed, prepare=pack),
        Contender("accelerate", "accelerate disk offload", accelerate),
        Contender("mmap", "safetensors mmap", mmap),
        Contender("airllm", "AirLLM", airllm, prepare=split_for_airllm),
    ]
}
