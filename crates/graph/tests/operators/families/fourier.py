import torch
from arguments import complex_tensor, tensor
from cases import case


def cases():
    def real(size):
        return tensor(torch.float32, size)

    for norm in [None, "ortho", "forward"]:
        for dim, count in [(-1, None), (0, None), (1, 5), (1, 9)]:
            case("fft_fft.default", complex_tensor([3, 7]), count, dim, norm, tolerance=32)
            case("fft_fft.default", real([3, 7]), count, dim, norm, tolerance=32)
            case("fft_ifft.default", complex_tensor([3, 7]), count, dim, norm, tolerance=32)
            case("fft_rfft.default", real([3, 6]), count, dim, norm, tolerance=32)
            case("fft_irfft.default", complex_tensor([3, 7]), count, dim, norm, tolerance=32)
        for sizes in [None, [4, 6]]:
            case("fft_fft2.default", complex_tensor([2, 5, 6]), sizes, [-2, -1], norm, tolerance=32)
            case("fft_ifft2.default", complex_tensor([2, 5, 6]), sizes, [-2, -1], norm, tolerance=32)
            case("fft_rfft2.default", real([2, 5, 6]), sizes, [-2, -1], norm, tolerance=32)
            case("fft_irfft2.default", complex_tensor([2, 5, 4]), sizes, [-2, -1], norm, tolerance=32)
            case("fft_rfftn.default", real([2, 5, 6]), sizes, [0, 2], norm, tolerance=32)
            case("fft_fftn.default", complex_tensor([2, 5, 6]), sizes, [2, 1], norm, tolerance=32)
        case("fft_ifftn.default", complex_tensor([2, 3, 4]), None, None, norm, tolerance=32)
        case("fft_irfftn.default", complex_tensor([2, 3, 4]), None, None, norm, tolerance=32)
    for normalization in [0, 1, 2]:
        for forward in [True, False]:
            case("_fft_c2c.default", complex_tensor([3, 4]), [1, 0], normalization, forward, tolerance=32)
        case("_fft_r2c.default", real([3, 5]), [1], normalization, True, tolerance=32)
        case("_fft_r2c.default", real([3, 5]), [0, 1], normalization, False, tolerance=32)
        case("_fft_c2r.default", complex_tensor([3, 4]), [0, 1], normalization, 7, tolerance=32)
    for size in [[5], [4], [3, 4]]:
        case("fft_fftshift.default", real(size))
        case("fft_ifftshift.default", real(size), [0])
    for count in [5, 8]:
        case("fft_fftfreq.default", count, 0.5, tolerance=2)
        case("fft_rfftfreq.default", count, 0.5, tolerance=2)
