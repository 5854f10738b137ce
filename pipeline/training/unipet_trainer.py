"""Second training stage: UniPET with style alignment and region-aware adversarial learning."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.losses import critic_loss, generator_loss, gradient_penalty, style_alignment_loss, stylized_region
from pipeline.networks import UniPET

__all__ = ["UniPETTrainer"]


class UniPETTrainer(Trainer):
    """MONAI trainer of UniPET: reconstruction, style alignment, and WGAN-GP on the stylized region.

    One generator forward serves the critic's step and the generator's own: the critic sees the detached prediction,
    is updated, and then judges the same prediction.

    Parameters
    ----------
    network, critic
        UniPET and its critic, with an optimizer each.
    reconstruction_loss
        Of (prediction, full dose), both scaled SUV.
    suv_scale
        SUV [g/mL] per network unit: the stylized region is defined in SUV.
    style_weight, adversarial_weight, penalty_weight
        Weights of the style alignment loss, of the adversarial loss, and of the gradient penalty in the critic's.
    region_threshold
        Local variance [SUV^2] from which a voxel belongs to the stylized region.
    critic_warmup
        Iterations at the start in which the adversarial loss reaches the critic alone.
    autocast_dtype
        Precision of the generator; None is float32. The critic always runs in float32.
    gradient_clip
        Largest norm of the generator's gradient.

    References
    ----------
    UniPET, arXiv 2606.11131; WGAN-GP, Gulrajani et al. 2017.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        *,
        network: UniPET,
        optimizer: Optimizer,
        critic: nn.Module,
        critic_optimizer: Optimizer,
        reconstruction_loss: Callable[[Tensor, Tensor], Tensor],
        suv_scale: float,
        style_weight: float = 1e-3,
        adversarial_weight: float = 1e-3,
        penalty_weight: float = 10.0,
        region_threshold: float = 1e-3,
        critic_warmup: int = 0,
        autocast_dtype: torch.dtype | None = torch.bfloat16,
        gradient_clip: float = 1.0,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(device, max_epochs, train_data_loader, handlers=train_handlers, decollate=False)
        self.network = network
        self.optimizer = optimizer
        self.critic = critic
        self.critic_optimizer = critic_optimizer
        self.reconstruction_loss = reconstruction_loss
        self.suv_scale = suv_scale
        self.style_weight = style_weight
        self.adversarial_weight = adversarial_weight
        self.penalty_weight = penalty_weight
        self.region_threshold = region_threshold
        self.critic_warmup = critic_warmup
        self.autocast_dtype = autocast_dtype
        self.gradient_clip = gradient_clip

    def _iteration(self, engine: "UniPETTrainer", batchdata: dict[str, Tensor]) -> dict[str, Any]:
        image, full_dose = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.network.train()

        pred, features = self._features_of(image)
        region = stylized_region(full_dose * self.suv_scale, threshold=self.region_threshold)
        losses = {"critic": self._update_critic(region * full_dose, (region * pred).detach())}

        reconstruction = self.reconstruction_loss(pred, full_dose)
        total = reconstruction
        losses["reconstruction"] = reconstruction.item()
        if self.style_weight:
            with torch.no_grad():
                _, full_dose_features = self._features_of(full_dose)
            style = style_alignment_loss(features, full_dose_features)
            total = total + self.style_weight * style
            losses["style"] = style.item()
        if self.adversarial_weight and self.state.iteration > self.critic_warmup:
            self.critic.requires_grad_(False)
            adversarial = generator_loss(self.critic(region * pred))
            self.critic.requires_grad_(True)
            total = total + self.adversarial_weight * adversarial
            losses["adversarial"] = adversarial.item()

        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self.optimizer.step()

        self.state.output = {Keys.IMAGE: image, Keys.LABEL: full_dose, Keys.PRED: pred.detach()}
        self.state.output |= {Keys.LOSS: total.item(), "losses": losses}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _features_of(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(image.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            return self.network.denoise_with_features(image)

    def _update_critic(self, real: Tensor, fake: Tensor) -> float:
        if not self.adversarial_weight:
            return 0.0
        loss = critic_loss(self.critic(real), self.critic(fake))
        loss = loss + self.penalty_weight * gradient_penalty(self.critic, real, fake)
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return loss.item()
