import torch
from arguments import REALS, Values, indices, rng, tensor
from cases import case


def cases():
    for dtype in REALS:
        for reduction in [0, 1, 2]:
            pair = lambda low=-2.0, high=2.0: [tensor(dtype, [3, 4], low, high) for _ in range(2)]  # noqa: E731
            for name in ["mse_loss", "l1_loss", "soft_margin_loss"]:
                case(f"{name}.default", *pair(), reduction, tolerance=8)
            case("smooth_l1_loss.default", *pair(), reduction, 0.5, tolerance=8)
            case("huber_loss.default", *pair(), reduction, 0.7, tolerance=8)
            case("kl_div.default", *pair(0.1, 2.0), reduction, log_target=rng.random() < 0.5, tolerance=8)
            case("poisson_nll_loss.default", *pair(0.1, 3.0), True, True, 1e-8, reduction, tolerance=16)
            case("poisson_nll_loss.default", *pair(0.1, 3.0), False, False, 1e-8, reduction, tolerance=16)
            signs = Values([1.0, -1.0, 1.0], dtype)
            case("hinge_embedding_loss.default", tensor(dtype, [3]), signs, 0.8, reduction, tolerance=8)
            case(
                "margin_ranking_loss.default", tensor(dtype, [3]), tensor(dtype, [3]), signs, 0.5, reduction,
                tolerance=8,
            )  # fmt: skip
            vectors = [tensor(dtype, [3, 4]) for _ in range(3)]
            case("cosine_embedding_loss.default", *vectors[:2], signs, 0.1, reduction, tolerance=8)
            case("triplet_margin_loss.default", *vectors, 1.0, 2.0, 1e-6, False, reduction, tolerance=8)
            case("triplet_margin_loss.default", *vectors, 0.5, 1.0, 1e-6, True, reduction, tolerance=8)
            weight = tensor(dtype, [5], 0.5, 2.0, strided=False)
            for given in [None, weight]:
                logits = lambda size: tensor(dtype, size, -4.0, -0.1)  # noqa: E731
                target = Values([1, 4, -100], torch.int64)
                case("nll_loss.default", logits([3, 5]), target, given, reduction, tolerance=8)
                case("nll_loss_nd.default", logits([3, 5]), indices([3], 0, 5), given, reduction, 4, tolerance=8)
                case("nll_loss_forward.default", logits([3, 5]), target, given, reduction, -100, tolerance=8)
                image = indices([2, 3, 2], 0, 5)
                case("nll_loss2d.default", logits([2, 5, 3, 2]), image, given, reduction, tolerance=8)
                case("nll_loss2d_forward.default", logits([2, 5, 3, 2]), image, given, reduction, -100, tolerance=8)
                for smoothing in [0.0, 0.2]:
                    options = {"weight": given, "reduction": reduction, "label_smoothing": smoothing, "tolerance": 16}
                    case("cross_entropy_loss.default", logits([3, 5]), target, **options)
                    case("cross_entropy_loss.default", logits([2, 5, 3, 2]), image, **options)
                    shares = tensor(dtype, [3, 5], 0.0, 1.0)
                    case("cross_entropy_loss.default", logits([3, 5]), shares, **options)
                case(
                    "multi_margin_loss.default", logits([3, 5]), indices([3], 0, 5), 2, 0.9, given, reduction,
                    tolerance=8,
                ) if dtype == torch.float32 else None  # fmt: skip
            if dtype == torch.float32:
                listed = Values([[1, 3, -1, 0, 2], [0, -1, 1, 2, 3]], torch.int64)
                case("multilabel_margin_loss.default", tensor(dtype, [2, 5]), listed, reduction, tolerance=8)
            probable = [tensor(dtype, [3, 4], 0.05, 0.95) for _ in range(2)]
            case("binary_cross_entropy.default", *probable, None, reduction, tolerance=16)
            case("binary_cross_entropy.default", *probable, tensor(dtype, [4], 0.5, 2.0), reduction, tolerance=16)
            case(
                "binary_cross_entropy_with_logits.default", *pair(0.1, 2.0), tensor(dtype, [4], 0.5, 2.0),
                tensor(dtype, [4], 0.5, 2.0), reduction, tolerance=16,
            )  # fmt: skip
    case("cross_entropy_loss.default", tensor(torch.float32, [5]), Values(3, torch.int64), tolerance=8)
