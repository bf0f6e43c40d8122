"""Whatever is done with a streamed model gives the same bits as with a fully loaded one."""

import threading

import pytest
import torch
import torch.nn.functional as F
import weightstream as ws
from support.architectures import BY_NAME, ids
from support.budget import LEAST
from support.equality import assert_equal
from support.threads import run_together
from torch import nn

pytest.importorskip("transformers")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Gives the folder of an architecture's checkpoint; written once for all tests."""
    folders = {}

    def folder(name, dtype=torch.float32):
        if (name, dtype) not in folders:
            torch.manual_seed(0)
            folders[name, dtype] = tmp_path_factory.mktemp("checkpoint")
            BY_NAME[name].save(folders[name, dtype], dtype)
        return folders[name, dtype]

    return folder


@pytest.fixture
def pair(checkpoint):
    """Gives an architecture's model streamed, and fully loaded."""
    models = []

    def both(name, dtype=torch.float32, memory=None):
        folder = checkpoint(name, dtype)
        models.append(BY_NAME[name].streamed(folder, dtype, memory))
        return models[-1], BY_NAME[name].fully_loaded(folder, dtype)

    yield both
    for model in models:
        ws.close(model)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_generate(pair, cache, dtype, batch):
    model, reference = pair("LlamaForCausalLM", DTYPES[dtype])
    settings = {"max_new_tokens": 16, "do_sample": False, "cache_implementation": cache}
    settings |= {"return_dict_in_generate": True, "output_scores": True}
    prompt = ids(batch, 7)
    expected = reference.generate(prompt, **settings)
    assert expected.sequences.shape == (batch, 23)
    for _ in range(2):
        generated = model.generate(prompt, **settings)
        assert torch.equal(generated.sequences, expected.sequences)
        assert_equal(generated.scores, expected.scores)


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "Qwen3MoeForCausalLM"])
def test_generate_with_encoder_and_with_experts(pair, name):
    model, reference = pair(name)
    prompt = ids(2, 7)
    expected = reference.generate(prompt, max_new_tokens=16, do_sample=False)
    assert torch.equal(model.generate(prompt, max_new_tokens=16, do_sample=False), expected)


# transformers 4 itself mixes the hidden states of threads that run one model.
@pytest.mark.current
@pytest.mark.parametrize("least", [False, True], ids=["a quarter", "the least budget"])
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "Qwen3MoeForCausalLM", "Linear of twice the budget"])
def test_four_threads_at_once(pair, name, least):
    model, reference = pair(name, memory=LEAST if least else None)
    inputs = [BY_NAME[name].inputs(torch.float32, size) for size in range(4)]
    with torch.inference_mode():
        expected = [reference(**one) for one in inputs]

    def passes(one):
        with torch.inference_mode():
            return [model(**one) for _ in range(4)]

    got = run_together([lambda one=one: passes(one) for one in inputs])
    for outputs, right in zip(got, expected, strict=True):
        for output in outputs:
            assert_equal(output, right)
    assert ws.stats(model).used <= ws.stats(model).budget


class Adapter(nn.Module):
    """What is added to the output of a frozen layer, of low rank."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.down = nn.Linear(layer.in_features, 4, bias=False)
        self.up = nn.Linear(4, layer.out_features, bias=False)
        layer.register_forward_hook(lambda _, args, output: output + self.up(self.down(args[0])))


def train(model, *, checkpointing):
    """Losses and adapter weights of three steps of training."""
    torch.manual_seed(1)
    layers = [layer for name, layer in model.named_modules() if name.endswith(("q_proj", "v_proj"))]
    adapters = nn.ModuleList(Adapter(layer) for layer in layers)
    assert len(adapters) == 8
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=0.01)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    losses = []
    for _ in range(3):
        text = ids(2, 9)
        loss = model(input_ids=text, labels=text).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, adapters.state_dict()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient checkpointing"])
def test_adapters_train_on_frozen_weights(pair, checkpointing):
    model, reference = pair("LlamaForCausalLM")
    expected = train(reference, checkpointing=checkpointing)
    assert_equal(train(model, checkpointing=checkpointing), expected)
    assert len(set(map(float, expected[0]))) == 3
    assert all(parameter.grad is None for parameter in model.model.layers[0].mlp.parameters())


def test_backward_through_a_linear_of_twice_the_budget(pair):
    model, reference = pair("Linear of twice the budget")
    ours = torch.randn(3, 1024, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    model(ours).square().sum().backward()
    reference(theirs).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_a_compiled_block(pair):
    torch.compiler.reset()
    model, reference = pair("LlamaForCausalLM")
    inputs = BY_NAME["LlamaForCausalLM"].inputs(torch.float32, 1)
    for one in (model, reference):
        one.model.layers[1] = torch.compile(one.model.layers[1], backend="inductor")
    with torch.no_grad():
        expected = reference(**inputs)
        for _ in range(3):
            assert_equal(model(**inputs), expected)


def test_a_compiled_layer_that_is_the_whole_model(pair):
    torch.compiler.reset()
    model, reference = pair("Linear of twice the budget")
    x = torch.randn(4, 1024)
    ours, theirs = torch.compile(model, fullgraph=True), torch.compile(reference, fullgraph=True)
    with torch.no_grad():
        expected = theirs(x)
        for _ in range(3):
            assert torch.equal(ours(x), expected)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertModel"])
def test_a_compiled_model(pair, name):
    torch.compiler.reset()
    model, reference = pair(name)
    inputs = BY_NAME[name].inputs(torch.float32, 1)
    ours = torch.compile(model, backend="aot_eager")
    theirs = torch.compile(reference, backend="aot_eager")
    with torch.no_grad():
        expected = theirs(**inputs)
        for _ in range(3):
            assert_equal(ours(**inputs), expected)


def test_functional_call(pair):
    model, reference = pair("LlamaForCausalLM")
    inputs = BY_NAME["LlamaForCausalLM"].inputs(torch.float32, 1)
    changed = {"model.norm.weight": torch.rand(256)}
    with torch.no_grad():
        expected = torch.func.functional_call(reference, changed, kwargs=inputs)
        assert_equal(torch.func.functional_call(model, changed, kwargs=inputs), expected)


def test_weights_used_outside_any_block(pair):
    model, reference = pair("TiedEmbedding")
    x = torch.randn(5, 512)
    assert torch.equal(F.linear(x, model.embedding.weight), F.linear(x, reference.embedding.weight))
    assert torch.equal(x @ model.mix.weight, x @ reference.mix.weight)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours[-1], theirs[-1])
        assert torch.equal(ours.detach().clone(), theirs)


def during_passes(model, inputs, expected, task):
    """Run `task` again and again in another thread for as long as this one makes passes."""
    over = threading.Event()

    def repeat():
        count = 0
        while not over.is_set() or not count:
            task()
            count += 1
            over.wait(0.02)  # for the interpreter's lock: passes need it several times per operator

    def passes():
        try:
            with torch.inference_mode():
                for _ in range(3):
                    assert_equal(model(**inputs), expected)
        finally:
            over.set()

    run_together([passes, repeat])


USES = {
    "an operator": lambda ours, theirs: torch.equal(ours, theirs),
    "a slice": lambda ours, theirs: torch.equal(ours[3:5].clone(), theirs[3:5]),
    # Both read with the interpreter's lock held, so nothing that loads a weight may need it.
    "tolist": lambda ours, theirs: ours[:64].tolist() == theirs[:64].tolist(),
    "numpy": lambda ours, theirs: ours.detach().numpy().tobytes() == theirs.detach().numpy().tobytes(),
}


@pytest.mark.parametrize("use", USES)
def test_another_thread_uses_weights_during_passes(pair, use):
    model, reference = pair("LlamaForCausalLM", memory=LEAST)
    inputs = BY_NAME["LlamaForCausalLM"].inputs(torch.float32, 0)
    with torch.inference_mode():
        expected = reference(**inputs)
    weights = list(zip(model.parameters(), reference.parameters(), strict=True))

    def task():
        for ours, theirs in weights:
            assert USES[use](ours, theirs)

    during_passes(model, inputs, expected, task)


def test_resizing_during_passes(pair):
    model, reference = pair("LlamaForCausalLM")
    inputs = BY_NAME["LlamaForCausalLM"].inputs(torch.float32, 0)
    with torch.inference_mode():
        expected = reference(**inputs)
    sizes = [LEAST, 16 * 2**20, LEAST + 2**20, 8 * 2**20]

    def task():
        for size in sizes:
            ws.resize(model, size)
            stats = ws.stats(model)
            assert size - stats.chunk_bytes < stats.budget <= size or stats.budget > stats.model_bytes
            assert stats.used <= stats.budget

    during_passes(model, inputs, expected, task)
    assert ws.stats(model).errors == 0
