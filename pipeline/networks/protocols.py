"""What a network must offer to be streamed or styled. Every network maps (B, 1, X, Y, Z) to the same, in scaled SUV."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["ReadsScans", "Streamable", "Styled", "is_streamable", "read_by"]


class Streamable(Protocol):
    """A network that :class:`~pipeline.inference.StreamingInferer` runs in slabs without seams.

    It is a row of 3x3x3 convolutions, residual blocks and steps between levels, as :class:`BaseDenoisingNetwork` is; an
    output voxel depends on nothing farther away than `receptive_radius` voxels.
    """

    conv0: nn.Module
    """First convolution."""
    steps: nn.ModuleList
    """`ResidualBlock`, `Downsample` and `Upsample`, in order."""
    reconstruct: nn.Module
    """Last convolution; its output is added to the image."""
    channels: int
    """Channels of the working resolution."""

    @property
    def receptive_radius(self) -> int:
        """Voxels of the input, to each side, on which an output voxel can depend."""

    @property
    def resolution_factor(self) -> int:
        """Voxels of the image per voxel at the network's working resolution, along each axis."""


@runtime_checkable
class ReadsScans(Protocol):
    """A network that first reads something of a whole scan, and then denoises every part of it as a plain one does.

    It has a `base`, the streamable network that does so.
    """

    def plain_for(self, x: Tensor) -> nn.Module:
        """Return the plain, streamable network for a whole scan x (1, 1, X, Y, Z)."""


@runtime_checkable
class Styled(Protocol):
    """A network that reads one style from a whole scan and denoises every part of the scan under it."""

    def encode_style(self, x: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Return the latents (B, n, latent_size) of scans x, or of the scans' given noise statistics (B, 7)."""

    def fold(self, latents: Tensor) -> nn.Module:
        """Return the plain, streamable network that denoises as this one does under one style (1, n, latent_size)."""

    def denoise_with_features(
        self, x: Tensor, statistics: Tensor | None = None, noise_map: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the denoised volume, and the features (B, C, X', Y', Z') that the style alignment loss compares."""


def is_streamable(network: object) -> bool:
    """Return whether a network offers all that `Streamable` names.

    `isinstance` would not do: from Python 3.12 on it finds no attribute that is a submodule.
    """
    names = {*Streamable.__annotations__, *vars(Streamable)}
    return all(hasattr(network, name) for name in names if not name.startswith("_"))


def read_by(network: object) -> tuple[str, ...]:
    """Return what of whole scans a network's ``forward`` takes beside a part of them, by the name of the argument.

    ``statistics`` (B, 7) and ``noise_map`` (B, 2, X', Y', Z') are those of the noise, ``dose_reduction_factor`` (B,) is
    that of the scan. A network says it by an attribute ``reads``; without one it takes nothing.
    """
    return tuple(getattr(network, "reads", ()))
