"""3D convolution whose result at a voxel does not depend on how much is computed around it."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["conv3d"]

_MOST_CHANNELS = 64


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: tuple[int, int, int] = (0, 0, 0)
) -> Tensor:
    """Convolve x (B, in, X, Y, Z) with weight (out, in, k, k, k), zero-padded by so many voxels along X, Y, Z.

    Without gradients, on a CPU, a voxel's result is the same to the last bit whatever the extent of x, so that a
    part can stand for the whole. Four things would break that:

    - float32 leaves oneDNN for a matrix product where channels x X x Y of the input are 20480 or fewer, and the two
      sum in different orders. oneDNN is called by name instead; on small volumes it is also several times faster.
    - oneDNN has other kernels for other memory formats: the format is always channels last.
    - A sum over many channels is cut into blocks that fit the cache beside the rest, so their number changes with the
      extent. It is cut here instead, at every 64 channels.
    - float64 always is a matrix product, whose order of summation at its rim changes with its size. It is computed
      plane by plane: equal planes give equal results, however many there are. Parts that are cut along Y or Z are not
      covered by this; they differ by rounding.

    bfloat16 and float16 always go to oneDNN, whose result for a volume of one plane is garbage if it pads along X
    itself: it is given the padding. Under autocast, and with gradients, this is torch's own convolution.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
        return F.conv3d(x, weight, bias, padding=padding)
    if x.device.type == "cpu" and x.dtype == torch.float64:
        return _plane_by_plane(x, weight, bias, padding)
    if x.device.type != "cpu" or x.shape[1] <= _MOST_CHANNELS:
        return _convolved(x, weight, bias, padding)
    parts = zip(x.split(_MOST_CHANNELS, dim=1), weight.split(_MOST_CHANNELS, dim=1), strict=True)
    total = _convolved(*next(parts), bias, padding)
    for part_of_x, part_of_weight in parts:
        total += _convolved(part_of_x, part_of_weight, None, padding)
    return total


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int, int]) -> Tensor:
    if x.shape[2] == 1 and padding[0]:
        x, padding = F.pad(x, (0, 0, 0, 0, padding[0], padding[0])), (0, *padding[1:])
    x, weight = _channels_last(x), weight.contiguous(memory_format=torch.channels_last_3d)
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, weight, bias, padding, (1, 1, 1), (1, 1, 1), 1)
    return F.conv3d(x, weight, bias, padding=padding)


def _channels_last(x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last_3d)
    if x.shape[1] > 1:
        return x
    # One channel is both formats at once, and torch then takes the other, for its output too, at ten times the cost.
    _, _, n_x, n_y, n_z = x.shape
    return x.as_strided(x.shape, (n_x * n_y * n_z, 1, n_y * n_z, n_z, 1))


def _plane_by_plane(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int, int]) -> Tensor:
    thickness = weight.shape[2]
    x = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    starts = range(x.shape[2] - thickness + 1)
    # Contiguous: the matrix product's order of summation also depends on where its operand lies in memory.
    planes = [x[:, :, i : i + thickness].clone(memory_format=torch.contiguous_format) for i in starts]
    return torch.cat([F.conv3d(plane, weight, bias, padding=(0, *padding[1:])) for plane in planes], dim=2)
