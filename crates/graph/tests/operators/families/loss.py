import torch
from arguments import REALS, Values, indices, rng, tensor
from cases import case


def cases():
    for dtype in REALS:
        for reduction in [0, 1, 2]:
            of_pairs(dtype, reduction)
            of_vectors(dtype, reduction)
            binary(dtype, reduction)
            for weight in [None, tensor(dtype, [5], 0.5, 2.0, strided=False)]:
                of_classes(dtype, reduction, weight)
    for reduction in [0, 1, 2]:
        listed = Values([[1, 3, -1, 0, 2], [0, -1, 1, 2, 3]], torch.int64)
        case("multilabel_margin_loss.default", tensor(torch.float32, [2, 5]), listed, reduction, tolerance=8)
        alignments(reduction)
    one = Values(3, torch.int64)
    case("cross_entropy_loss.default", tensor(torch.float32, [5]), one, tolerance=8)


def pair(dtype, low=-2.0, high=2.0):
    return [tensor(dtype, [3, 4], low, high) for _ in range(2)]


def of_pairs(dtype, reduction):
    for name in ["mse_loss", "l1_loss", "soft_margin_loss"]:
        case(f"{name}.default", *pair(dtype), reduction, tolerance=8)
    case("smooth_l1_loss.default", *pair(dtype), reduction, 0.5, tolerance=8)
    case("huber_loss.default", *pair(dtype), reduction, 0.7, tolerance=8)
    logarithms = rng.random() < 0.5
    case("kl_div.default", *pair(dtype, 0.1), reduction, log_target=logarithms, tolerance=8)
    for full in [True, False]:
        rates = pair(dtype, 0.1, 3.0)
        case("poisson_nll_loss.default", *rates, full, full, 1e-8, reduction, tolerance=16)


def of_vectors(dtype, reduction):
    signs = Values([1.0, -1.0, 1.0], dtype)
    first, second, third = [tensor(dtype, [3, 4]) for _ in range(3)]
    row, other = tensor(dtype, [3]), tensor(dtype, [3])
    case("hinge_embedding_loss.default", row, signs, 0.8, reduction, tolerance=8)
    case("margin_ranking_loss.default", row, other, signs, 0.5, reduction, tolerance=8)
    case("cosine_embedding_loss.default", first, second, signs, 0.1, reduction, tolerance=8)
    for power, swap in [(2.0, False), (1.0, True)]:
        options = [0.7, power, 1e-6, swap, reduction]
        case("triplet_margin_loss.default", first, second, third, *options, tolerance=8)


def binary(dtype, reduction):
    for weight in [None, tensor(dtype, [4], 0.5, 2.0)]:
        chances = pair(dtype, 0.05, 0.95)
        case("binary_cross_entropy.default", *chances, weight, reduction, tolerance=16)
        logits, target = tensor(dtype, [3, 4]), tensor(dtype, [3, 4], 0.0, 1.0)
        positive = tensor(dtype, [4], 0.5, 2.0)
        name = "binary_cross_entropy_with_logits.default"
        case(name, logits, target, weight, positive, reduction, tolerance=16)


def of_classes(dtype, reduction, weight):
    scores, target = tensor(dtype, [3, 5], -4.0, -0.1), Values([1, 4, -100], torch.int64)
    image, places = tensor(dtype, [2, 5, 3, 2], -4.0, -0.1), indices([2, 3, 2], 0, 5)
    case("nll_loss.default", scores, target, weight, reduction, tolerance=8)
    case("nll_loss_nd.default", scores, indices([3], 0, 5), weight, reduction, 4, tolerance=8)
    case("nll_loss_forward.default", scores, target, weight, reduction, -100, tolerance=8)
    case("nll_loss2d.default", image, places, weight, reduction, tolerance=8)
    case("nll_loss2d_forward.default", image, places, weight, reduction, -100, tolerance=8)
    for smoothing in [0.0, 0.2]:
        options = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing, "tolerance": 16}
        case("cross_entropy_loss.default", scores, target, **options)
        case("cross_entropy_loss.default", image, places, **options)
        case("cross_entropy_loss.default", scores, tensor(dtype, [3, 5], 0.0, 1.0), **options)
    if dtype == torch.float32:
        case("multi_margin_loss.default", scores, indices([3], 0, 5), 2, 0.9, weight, reduction, tolerance=8)


def alignments(reduction):
    scores, lengths = tensor(torch.float32, [6, 2, 4], -4.0, -0.1), [3, 2]
    for targets in [[[1, 2, 2], [3, 1, 0]], [1, 2, 2, 3, 1]]:
        targets = Values(targets, torch.int64)
        case("ctc_loss.IntList", scores, targets, [6, 5], lengths, 0, reduction, tolerance=16)
        # Too few steps for one of the targets: its loss is infinite.
        steps = [Values([6, 1], torch.int64), Values(lengths, torch.int64)]
        case("ctc_loss.Tensor", scores, targets, *steps, 0, reduction, True, tolerance=16)
        case("_ctc_loss.default", scores, targets, [6, 5], lengths, results=1, tolerance=16)
    single = tensor(torch.float32, [6, 4], -4.0, -0.1)
    case("ctc_loss.IntList", single, Values([1, 3], torch.int64), [6], [2], 0, reduction, tolerance=16)
