"""Wasserstein adversarial losses with gradient penalty."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["critic_loss", "generator_loss", "gradient_penalty"]


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Negative Wasserstein estimate that the critic minimises (Gulrajani 2017, Eq. 3, first two terms)."""
    return fake_scores.mean() - real_scores.mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Loss that pulls generated images up the critic's score."""
    return -fake_scores.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, *, position: Tensor | None = None
) -> Tensor:
    """Mean of (|grad critic| - 1)^2 on random lines between real and fake (Gulrajani 2017, Eq. 3, third term).

    Parameters
    ----------
    critic
        Maps (B, 1, X, Y, Z) to scores (B,).
    real, fake
        Images of the same shape (B, 1, X, Y, Z); gradients do not reach what made them.
    position
        Where on its line each point lies, (B, 1, 1, 1, 1), from 0 (fake) to 1 (real); None: uniformly random.

    Notes
    -----
    Runs in float32 at least, whatever autocast is active around it: second derivatives in bfloat16 are noise.
    """
    with torch.autocast(real.device.type, enabled=False):
        dtype = torch.promote_types(real.dtype, torch.float32)
        real, fake = real.detach().to(dtype), fake.detach().to(dtype)
        if position is None:
            position = torch.rand(real.shape[0], 1, 1, 1, 1, device=real.device, dtype=dtype)
        between = (position * real + (1 - position) * fake).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        # The root is not differentiable at a zero gradient; the offset is far below any real norm.
        norm = (gradient.flatten(1).square().sum(dim=1) + 1e-12).sqrt()
        return (norm - 1).square().mean()
