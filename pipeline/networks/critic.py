"""Patch critic for the Wasserstein adversarial loss."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["PatchCritic"]


class PatchCritic(nn.Module):
    """Strided convolutional critic; its score is the mean over the positions of the last map.

    Convolutions of 4x4x4 and stride 2, instance normalisation (none on the first and last), LeakyReLU 0.2. The
    mean takes the place of a linear head, which would tie the critic to one patch size.

    Parameters
    ----------
    widths
        Channels after each convolution but the last.
    in_channels
        Channels of a patch: 2 where it is judged beside the low dose.
    patch_size
        Voxels of the patches that it will see, (X, Y, Z); None checks each patch instead.

    Raises
    ------
    ValueError
        If a side of `patch_size` is shorter than ``minimum_size``.

    References
    ----------
    UniPET, arXiv 2606.11131 (widths 64, 128, 256, 512).
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        *,
        in_channels: int = 1,
        patch_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(in_channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for before, after in pairwise(widths):
            layers += [nn.Conv3d(before, after, 4, stride=2, padding=1), nn.InstanceNorm3d(after), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv3d(widths[-1], 1, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)
        self.minimum_size = 2 ** (len(widths) + 1)
        if patch_size is not None:
            self._check(patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Score (B,) of patches (B, in_channels, X, Y, Z) of at least ``minimum_size`` voxels a side.

        Raises
        ------
        ValueError
            If a side is shorter.
        """
        self._check(x.shape[2:])
        return self.layers(x).mean(dim=(1, 2, 3, 4))

    def _check(self, size: Sequence[int]) -> None:
        if min(size) < self.minimum_size:
            raise ValueError(f"patches must be at least {self.minimum_size} voxels a side, got {tuple(size)}")
