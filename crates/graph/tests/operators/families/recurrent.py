import torch
from arguments import tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.float32, torch.bfloat16]:
        for layers, both, first in [(1, False, False), (2, False, True), (1, True, False), (2, True, True)]:
            directions = 2 if both else 1
            size, hidden, batch, steps = 3, 4, 2, 5
            source = tensor(dtype, [batch, steps, size] if first else [steps, batch, size])
            for name, gates in [("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)]:
                weights = []
                for layer in range(layers):
                    inputs = size if layer == 0 else hidden * directions
                    for _ in range(directions):
                        sizes = [
                            [gates * hidden, inputs],
                            [gates * hidden, hidden],
                            [gates * hidden],
                            [gates * hidden],
                        ]
                        weights += [tensor(dtype, s, -0.7, 0.7, strided=False) for s in sizes]
                state = tensor(dtype, [layers * directions, batch, hidden], strided=False)
                given = [state, tensor(dtype, state.shape, strided=False)] if name == "lstm" else state
                case(
                    f"{name}.input",
                    source,
                    given,
                    weights,
                    True,
                    layers,
                    0.0,
                    False,
                    both,
                    first,
                    tolerance=12,
                )
    for dim in [0, 1, 2]:
        size = [1, 1, 1]
        size[dim] = [3, 4, 5][dim]
        case(
            "_weight_norm.default",
            tensor(torch.float32, [3, 4, 5]),
            tensor(torch.float32, size),
            dim,
            tolerance=6,
        )
    for dtype in [torch.float32, torch.bfloat16]:
        for name, gates in [("lstm_cell", 4), ("gru_cell", 3), ("rnn_tanh_cell", 1), ("rnn_relu_cell", 1)]:
            state = tensor(dtype, [2, 3])
            weights = [tensor(dtype, [gates * 3, 4]), tensor(dtype, [gates * 3, 3])]
            biases = [tensor(dtype, [gates * 3]), tensor(dtype, [gates * 3])]
            given = [state, tensor(dtype, [2, 3])] if name == "lstm_cell" else state
            case(f"{name}.default", tensor(dtype, [2, 4]), given, *weights, *biases, tolerance=24)
            case(f"{name}.default", tensor(dtype, [2, 4]), given, *weights, tolerance=24)
