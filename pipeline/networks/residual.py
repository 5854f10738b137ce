"""What is subtracted from the image: turns any network that predicts noise into a denoiser."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Residual"]


class Residual(nn.Module):
    """Denoise an image by subtracting what a network finds in it.

    Parameters
    ----------
    network
        Maps (B, 1, X, Y, Z) to the noise of the same shape, such as MONAI's ``UNet``.
    multiple
        Sides of the image are extended to a multiple of this many voxels for the network: the product of the strides
        of a U-Net.
    """

    def __init__(self, network: nn.Module, *, multiple: int = 1) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """Return the denoised image of x (B, 1, X, Y, Z), scaled SUV."""
        missing = [-n % self.multiple for n in x.shape[2:]]
        # Replicated, not zero: a dark plane at the border would look like the end of the body.
        padded = F.pad(x, [p for n in reversed(missing) for p in (0, n)], mode="replicate") if any(missing) else x
        return x - self.network(padded)[:, :, : x.shape[2], : x.shape[3], : x.shape[4]].to(x.dtype)
