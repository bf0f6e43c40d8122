"""Every feature with a small model: correct or not, in seconds. What the first minutes on a GPU are for."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import weightstream as ws
from safetensors.torch import save_file
from torch import nn
from weightstream import cuda

from bench.gpu import models
from bench.gpu.place import Place
from bench.models import weight_bytes

MIB = 2**20
VOCABULARY = 3000


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Net(nn.Module):
    """Blocks of 32 MiB, of which a few uses can be asked for in odd places."""

    def __init__(self, width: int, depth: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(depth))
        self.loose = nn.Parameter(torch.randn(width, width) * 0.02)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.odd = False
        self.unseen = False

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids) @ self.loose
        if self.odd:
            x = x + F.linear(F.linear(x, self.layers[4].up.weight), self.layers[1].up.weight.T)
        for layer in self.layers:
            x = layer(x)
        if self.unseen:
            x = x + self.layers[5].down.weight[0, : x.shape[-1]]
        return self.head(x)


class Bench:
    """A loaded and a streamed `Net` on one device."""

    def __init__(self, place: Place, share: float = 3, host_share: float = 4) -> None:
        self.place = place
        width = 1024 if place.is_gpu else 128
        torch.manual_seed(0)
        net = Net(width).eval().requires_grad_(False)
        folder = Path(tempfile.mkdtemp(prefix="weightstream-"))
        save_file(net.state_dict(), folder / "model.safetensors")
        size = sum(parameter.nbytes for parameter in net.parameters())
        with ws.empty():
            empty = Net(width).eval()
        self.streamed = ws.stream(
            empty, folder / "model.safetensors", int(size / share), device=place.device,
            host_memory=int(size * host_share),
        )  # fmt: skip
        self.loaded = net.to(place.tensors)
        self.width = width
        self.size = size
        self.ids = torch.arange(64, device=place.tensors).view(4, 16) * 31 % VOCABULARY

    def check(self, what: str = "pass") -> None:
        with torch.no_grad():
            equal(self.streamed(self.ids), self.loaded(self.ids), what)

    def __del__(self) -> None:
        if hasattr(self, "streamed"):
            ws.close(self.streamed)


def equal(one: torch.Tensor, other: torch.Tensor, what: str) -> None:
    if not torch.equal(one, other):
        difference = (one.float() - other.float()).abs().max().item()
        raise AssertionError(f"{what}: the bits differ, by {difference} at most")


def passes(place: Place) -> None:
    """Bits and budget, in every mode."""
    bench = Bench(place)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            for _ in range(3):
                equal(bench.streamed(bench.ids), bench.loaded(bench.ids), mode.__name__)
    with torch.no_grad(), torch.autocast(place.tensors.type, torch.bfloat16):
        for _ in range(2):
            equal(bench.streamed(bench.ids), bench.loaded(bench.ids), "autocast")
    counters = bench.streamed._weightstream.stream.stats()
    if counters["held"] > bench.size / 3:
        raise AssertionError(f"held {counters['held']} of {bench.size / 3} bytes")
    if counters["pass_bytes"]:
        raise AssertionError("what the host holds was read again")


def small_host(place: Place) -> None:
    """The disk in every pass."""
    bench = Bench(place, host_share=0.6)
    for _ in range(4):
        bench.check()
    if not bench.streamed._weightstream.stream.stats()["pass_bytes"]:
        raise AssertionError("nothing was read, though host memory is too small")


def tiny_budget(place: Place) -> None:
    """Hardly more memory than one block needs, then more and less of it."""
    bench = Bench(place, share=3.6)
    for share in (3.6, 2, 3.5, 0.5):
        ws.resize(bench.streamed, int(bench.size / share))
        for _ in range(2):
            bench.check(f"a budget of 1/{share}")


def odd_places(place: Place) -> None:
    """Weights used outside of blocks: seen in the first pass, or an error that leaves all well."""
    bench = Bench(place, share=1.7)
    bench.streamed.odd = bench.loaded.odd = True
    for _ in range(3):
        bench.check("odd uses")
    bench.streamed.unseen = True
    for use in (lambda: bench.streamed(bench.ids), lambda: bench.streamed.layers[2].up.weight.sum()):
        try:
            with torch.no_grad():
                use()
        except RuntimeError as error:
            if "not on the device now" not in str(error):
                raise
        else:
            raise AssertionError("a weight that is not there was used without an error")
    place.synchronize()
    bench.streamed.unseen = False
    bench.check("after an error")


def own_streams(place: Place) -> None:
    """Callers on streams of their own, one after another and at once."""
    bench = Bench(place, share=2)
    with torch.no_grad():
        want = bench.loaded(bench.ids)
    place.synchronize()
    wrong: list[Any] = []

    def run() -> None:
        try:
            stream = torch.cuda.Stream(place.tensors) if place.is_gpu else None
            with torch.cuda.stream(stream), torch.no_grad():
                results = [bench.streamed(bench.ids) for _ in range(5)]
            if stream is not None:
                stream.synchronize()
            for result in results:
                equal(result, want, "on a stream of its own")
        except BaseException as error:
            wrong.append(error)

    run()
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def gradients(place: Place) -> None:
    """Through frozen weights, by their own addresses."""
    bench = Bench(place)
    results = []
    for model in (bench.loaded, bench.streamed):
        x = torch.linspace(-1, 1, 4 * bench.width, device=place.tensors).view(1, 4, -1).requires_grad_()
        y = x
        for layer in model.layers:
            y = layer(y)
        model.head(y).square().sum().backward()
        results.append(x.grad)
    equal(results[0], results[1], "gradients")
    bench.check()


def compiled(place: Place) -> None:
    """Blocks by inductor on a GPU; by a backend without code generation elsewhere."""
    bench = Bench(place)
    backend = "inductor" if place.is_gpu else "aot_eager"
    for model in (bench.loaded, bench.streamed):
        for layer in model.layers:
            layer.compile(backend=backend)
    for _ in range(3):
        bench.check("compiled blocks")


def graphs(place: Place) -> None:
    """A block captured in a CUDA graph and replayed after its weights have left and come again."""
    if not place.is_gpu:
        return
    bench = Bench(place)
    block = bench.streamed.layers[2]
    x = torch.randn(4, 16, bench.width, device=place.tensors)
    with torch.no_grad():
        want = bench.loaded.layers[2](x)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            block(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with cuda.resident(block), torch.cuda.graph(graph):
            result = block(x)
        for _ in range(3):
            bench.check("between replays")
            result.zero_()
            with cuda.resident(block):
                graph.replay()
            equal(result, want, "a replayed graph")


def saving(place: Place) -> None:
    """state_dict, and what can't be done with a streamed model."""
    bench = Bench(place)
    for name, tensor in bench.streamed.state_dict().items():
        equal(tensor, bench.loaded.state_dict()[name], name)
    if bench.streamed.to(place.tensors) is not bench.streamed:
        raise AssertionError("to() its own device made another model")
    bench.check()


def release(place: Place) -> None:
    """All device memory comes back."""
    before = place.used()
    bench = Bench(place)
    bench.check()
    held = bench.streamed._weightstream.stream.stats()["held"]
    ws.close(bench.streamed)
    place.synchronize()
    if bench.streamed._weightstream.stream.stats()["held"] or not held:
        raise AssertionError("memory is held after closing")
    del bench
    place.forget_peak()
    if place.used() - before > 128 * MIB:  # torch's own libraries allocate workspaces
        raise AssertionError(f"{place.used() - before} bytes are not given back")


def generation(place: Place) -> None:
    """A language model with a dynamic and a static cache."""
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = models.language(Path(folder), True)
        loaded = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto").to(place.tensors).eval()
        size = weight_bytes(checkpoint)
        memory = 10 * MIB if place.is_gpu else size // 3
        streamed = ws.load(checkpoint, memory, device=place.device, host_memory=max(4 * size, 256 * MIB))
        ids = torch.arange(3, 15, device=place.tensors).view(1, 12)
        for cache in (None, "static"):
            # transformers compiles the loaded model as a whole, which rounds elsewhere.
            options = {"max_new_tokens": 12, "do_sample": False, "cache_implementation": cache}
            options["disable_compile"] = True
            equal(streamed.generate(ids, **options), loaded.generate(ids, **options), f"{cache} cache")
        with torch.inference_mode():
            equal(streamed(ids).logits, loaded(ids).logits, "logits")
        ws.close(streamed)


def architectures(place: Place) -> None:
    """Other families of models, as they are built by their configurations."""
    import transformers

    small = {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 4000, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 256, "num_local_experts": 4, "max_position_embeddings": 128,
    }  # fmt: skip
    for name in ("Bert", "Llama", "Mixtral", "Gemma2", "Phi3"):
        config = getattr(transformers, f"{name}Config")(**small, pad_token_id=0)
        torch.manual_seed(0)
        kind = getattr(transformers, f"{name}Model")
        with tempfile.TemporaryDirectory() as folder:
            kind(config).eval().save_pretrained(folder)
            loaded = kind.from_pretrained(folder, dtype="auto").to(place.tensors).eval()
            size = sum(parameter.nbytes for parameter in loaded.parameters())
            memory = size // 2 + (8 * MIB if place.is_gpu else MIB)
            streamed = ws.load(folder, memory, device=place.device, host_memory=max(4 * size, 256 * MIB))
            ids = torch.arange(3, 15, device=place.tensors).view(1, 12)
            with torch.inference_mode():
                for _ in range(2):
                    equal(streamed(ids)[0], loaded(ids)[0], name)
            ws.close(streamed)


def split(place: Place) -> None:
    """A language model over two devices, each with its own budget."""
    from transformers import AutoModelForCausalLM

    other = place.another()
    if other is None:
        print("left out: there is one GPU only")
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = models.language(Path(folder), True)
        loaded = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto").to(place.tensors).eval()
        memory = 10 * MIB if place.is_gpu else weight_bytes(checkpoint) // 3
        streamed = ws.load(checkpoint, {place.device: memory, other: memory})
        ids = torch.arange(3, 15, device=place.tensors).view(1, 12)
        for _ in range(3):
            with torch.inference_mode():
                equal(streamed(ids).logits, loaded(ids).logits, "logits")
        for cache in (None, "static"):
            options = {"max_new_tokens": 12, "do_sample": False, "cache_implementation": cache}
            options["disable_compile"] = True
            equal(streamed.generate(ids, **options), loaded.generate(ids, **options), f"{cache} cache")
        held = [part.stats()["held"] for part in streamed._weightstream.stream.parts]
        if len(held) != 2 or not all(0 < size <= memory for size in held):
            raise AssertionError(f"held {held} of {memory} bytes on each device")
        if place.is_gpu:
            where = {parameter.device for parameter in streamed.parameters()}
            if where != {place.tensors, other.tensors}:
                raise AssertionError(f"the weights are on {where}")
        ws.close(streamed)


FEATURES: dict[str, Callable[[Place], None]] = {
    feature.__name__: feature
    for feature in (
        passes, small_host, tiny_budget, odd_places, own_streams, gradients, graphs, saving, release,
        generation, architectures, split, compiled,
    )
}  # fmt: skip
