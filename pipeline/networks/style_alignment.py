"""Style alignment network (SAN): reads the noise style of a scan from shallow features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["StyleAlignmentNetwork", "halved", "masked_mean"]


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over space of x (B, C, X, Y, Z), weighted by a mask (B, 1, X, Y, Z) when there is one; shape (B, C).

    Written as plain sums, in float32 at least: adaptive pools fall back to slow contiguous kernels, and a sum can be
    gathered slab by slab. An empty mask counts every voxel.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if mask is None:
        return x.mean(dim=(2, 3, 4))
    total = mask.sum(dim=(2, 3, 4))
    weighted = (x * mask).sum(dim=(2, 3, 4)) / total.clamp_min(1e-6)
    return torch.where(total > 0, weighted, x.mean(dim=(2, 3, 4)))


def halved(mask: Tensor) -> Tensor:
    """Mask (B, 1, X, Y, Z) at half resolution, sizes rounded up as a stride-2 convolution does."""
    kernel = [min(2, n) for n in mask.shape[2:]]  # pooling refuses a kernel longer than the volume
    # There is no pooling in bfloat16 on a CPU.
    wide = mask.to(torch.promote_types(mask.dtype, torch.float32))
    return F.avg_pool3d(wide, kernel, ceil_mode=True).to(mask.dtype)


class ChannelAttention(nn.Module):
    """Squeeze and excitation: one gate per channel from the channel's mean (Hu 2018, Sec. 3)."""

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // reduction, 1))
        self.excite = nn.Linear(max(channels // reduction, 1), channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(masked_mean(x, mask)))))
        return x * gate[:, :, None, None, None].to(x.dtype)


class EncoderStage(nn.Module):
    """One stage of the SAN: halves the volume and gives one latent."""

    def __init__(self, in_channels: int, out_channels: int, latent_size: int, activation: nn.Module) -> None:
        super().__init__()
        inner = max(in_channels // 4, 1)
        self.reduce = nn.Conv3d(in_channels, inner, 1, bias=False)
        self.attention = ChannelAttention(inner)
        self.down = nn.Conv3d(inner, inner, 3, stride=2, padding=1, bias=False)
        self.expand = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.to_latent = nn.Linear(out_channels, latent_size)
        self.activation = activation

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, latent (B, latent_size) and mask for the next stage."""
        act = self.activation
        x = self.attention(act(self.reduce(x)), mask)
        x = act(self.expand(act(self.down(x))))
        if mask is not None:
            mask = halved(mask)
        return x, act(self.to_latent(masked_mean(x, mask))), mask


class StyleAlignmentNetwork(nn.Module):
    """Encoder from shallow features to one latent per stage.

    Parameters
    ----------
    in_channels
        Channels of the shallow features.
    width
        Channels of every stage's output.
    latent_size
        Length of a latent.
    n_stages
        Number of stages; each halves the volume.

    References
    ----------
    UniPET, arXiv 2606.11131. All PReLUs of the network are one shared parameter, as in the released code.
    """

    def __init__(self, in_channels: int = 64, *, width: int = 256, latent_size: int = 256, n_stages: int = 4) -> None:
        super().__init__()
        activation = nn.PReLU()
        self.stages = nn.ModuleList(
            EncoderStage(in_channels if i == 0 else width, width, latent_size, activation) for i in range(n_stages)
        )
        for module in self.modules():
            # PyTorch's default shrinks what distinguishes two doses at every stage until nothing is left.
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=0.25)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents of shape (B, n_stages, latent_size) of features (B, in_channels, X, Y, Z), pooled over a mask."""
        latents = []
        for stage in self.stages:
            features, latent, mask = stage(features, mask)
            latents.append(latent)
        return torch.stack(latents, dim=1)
