"""Trainer of a denoiser: reconstruction, style alignment and region-aware adversarial loss, any of which can be off."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pipeline.errors import PETError
from pipeline.losses import critic_loss, generator_loss, gradient_penalty, style_alignment_loss, stylized_region
from pipeline.networks import Styled, read_by
from pipeline.training.distributed import process_rank, world_size

__all__ = ["DenoisingTrainer"]


class TrainingBatch(NamedTuple):
    """Patches of one iteration or of a part of it, on the trainer's device, in scaled SUV."""

    image: Tensor
    label: Tensor
    read: dict[str, Tensor]
    """What the network reads of each patch's whole scan, by the name of its argument."""
    label_read: dict[str, Tensor]
    """The same of the full dose."""

    def split(self, n_parts: int) -> list["TrainingBatch"]:
        """Equal parts, in order."""
        size = self.image.shape[0] // n_parts
        parts = [slice(i * size, (i + 1) * size) for i in range(n_parts)]

        def cut(read: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
            return {name: value[part] for name, value in read.items()}

        return [TrainingBatch(self.image[p], self.label[p], cut(self.read, p), cut(self.label_read, p)) for p in parts]


class GeneratorPass(nn.Module):
    """Denoised volume (B, 1, X, Y, Z) of an image, and the features of every block, (B, C, X', Y', Z') each.

    A module of its own because gradients are gathered over processes for what a module's ``forward`` returns, and a
    network's ``forward`` returns the denoised volume alone. What the network reads of the whole scan of each patch goes
    to it by name. Of a network that is not :class:`~pipeline.networks.Styled` the features are empty.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, **read: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the volume and the features of an image (B, 1, X, Y, Z), and of what is read of its whole scan."""
        if isinstance(self.network, Styled):
            return self.network.denoise_with_features(image, **read)
        return self.network(image, **read), []


class DenoisingTrainer(SupervisedTrainer):
    """MONAI trainer of a denoiser: of UniPET with all its losses, or of a plain network with some of them.

    One generator forward serves the critic's step and the generator's own: the critic sees the detached prediction, is
    updated, and then judges the same prediction. The gradients are those of separate forwards.

    A batch has the keys ``image`` (low dose) and ``label`` (full dose), patches (B, 1, X, Y, Z) in scaled SUV. What the
    network reads of whole scans, see :func:`~pipeline.networks.read_by`, it gets where the batch has it under that
    name; the same with ``label_`` before it goes with the full-dose pass of the style alignment loss. Under
    ``torchrun`` every process trains on its part of the batch, and the result is that of one process with all of it.

    `network` is any (B, 1, X, Y, Z) -> (B, 1, X, Y, Z); with a `style_weight` it must be
    :class:`~pipeline.networks.Styled`. `loss` is a function of (prediction, full dose), such as torch's and MONAI's, or
    of (prediction, full dose, low dose), all scaled SUV. `suv_scale` is SUVbw [g/mL] per network unit: the stylized
    region is defined in SUV. `style_weight`, `adversarial_weight` and `penalty_weight` are those of the style alignment
    loss, of the adversarial loss, and of the gradient penalty in the critic's; with a weight of 0 the loss is not
    computed.

    If `critic` is None, there is no adversarial loss. The critic sees the stylized region alone, the voxels whose local
    variance in the full dose is at least `region_threshold` [SUV^2]; if None, it sees whole patches. A
    `conditional_critic`, of two input channels, sees the low dose beside them. In the first
    `critic_warmup` iterations the adversarial loss reaches the critic alone. The points on the lines between real and
    generated patches are drawn anew from `seed` and iteration.

    `autocast_dtype` is the precision of the generator; if None, it is that of its weights. The critic never runs below
    float32. `gradient_clip`, above 0, is the largest norm of the generator's gradient; if None, it is not limited.
    `accumulation` counts the parts into which a batch is divided to save memory. The step stays that of the whole
    batch; with a critic, the price is one more forward. `channels_last` keeps the generator's weights with the channels
    last, which the 3D convolutions of most devices prefer.

    Raises
    ------
    ValueError
        If options contradict each other.
    PETError
        While it runs: if a loss or the generator's gradient is not finite, before the generator's weights have been
        touched by it, or if a batch lacks what it needs.

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
        network: nn.Module,
        optimizer: Optimizer,
        loss: Callable[..., Tensor],
        suv_scale: float = 2.0,
        critic: nn.Module | None = None,
        critic_optimizer: Optimizer | None = None,
        style_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        penalty_weight: float = 10.0,
        region_threshold: float | None = 1e-3,
        conditional_critic: bool = False,
        critic_warmup: int = 0,
        autocast_dtype: torch.dtype | None = torch.bfloat16,
        gradient_clip: float | None = 1.0,
        accumulation: int = 1,
        channels_last: bool = True,
        seed: int = 0,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(device, max_epochs, train_data_loader, network, optimizer, loss, decollate=False)
        if (critic is None) != (critic_optimizer is None):
            raise ValueError("critic and critic_optimizer go together, got one of them")
        if not max_epochs or max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1, got {max_epochs}")
        if accumulation < 1:
            raise ValueError(f"accumulation must be at least 1, got {accumulation}")
        if gradient_clip is not None and not gradient_clip > 0:
            raise ValueError(f"gradient_clip must be above 0, or null for no limit, got {gradient_clip}")
        if (share := getattr(train_data_loader, "share", accumulation)) % accumulation:
            raise ValueError(f"batch of {share} patches, expected a multiple of accumulation {accumulation}")
        self._generator_pass = GeneratorPass(network)
        if style_weight and not isinstance(network, Styled):
            kind = type(network).__name__
            raise ValueError(f"style_weight is {style_weight}, expected 0: a {kind} has no features to align")
        if channels_last:
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._loss_takes_image = _n_arguments(loss) > 2
        self.suv_scale = suv_scale
        self.critic = critic if adversarial_weight else None
        self.critic_optimizer = critic_optimizer
        self.style_weight = style_weight
        self.adversarial_weight = adversarial_weight
        self.penalty_weight = penalty_weight
        self.region_threshold = region_threshold
        self.conditional_critic = conditional_critic
        self.critic_warmup = critic_warmup
        self.autocast_dtype = autocast_dtype
        self.gradient_clip = gradient_clip
        self.accumulation = accumulation
        self.seed = seed
        self._shared_generator = _shared(self._generator_pass)
        self._shared_critic = None if self.critic is None else _shared(self.critic)
        self.add_event_handler(Events.EPOCH_STARTED, self._tell_loader)
        self._register_handlers(train_handlers or ())

    def _tell_loader(self) -> None:
        """Position the data where the run is: the first batch of an epoch, or a later one when it was resumed there."""
        if hasattr(self.data_loader, "set_position"):
            self.data_loader.set_position(self.state.epoch, self.state.iteration % self.state.epoch_length)

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Any]) -> dict[str, Any]:
        # Patches are all of one shape, so the fastest kernels are sought once; whole scans, in validation, are not.
        torch.backends.cudnn.benchmark = True
        try:
            return self._step(engine, self._on_device(batchdata))
        finally:
            torch.backends.cudnn.benchmark = False

    def _step(self, engine: SupervisedTrainer, batch: TrainingBatch) -> dict[str, Any]:
        parts = batch.split(self.accumulation)
        self.network.train()

        losses: dict[str, Tensor] = {}
        shared = None
        if self.critic is not None:
            if len(parts) == 1:
                shared = self._generate(batch)
                predictions = [shared[0].detach()]
            else:  # what the whole batch needs for its graphs is the memory that accumulation must not take
                with torch.no_grad():
                    predictions = [self._generate(part)[0] for part in parts]
            losses["critic"] = self._update_critic(parts, predictions)

        predictions = []
        self.optimizer.zero_grad()
        for part, gather in self._gathered_last(parts, self._shared_generator):
            with gather:
                pred, features = self._generate(part) if shared is None else shared
                total = self._generator_losses(part, pred, features, losses)
                (total / len(parts)).backward()
            predictions.append(pred.detach())
        largest = math.inf if self.gradient_clip is None else self.gradient_clip
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), largest)
        values = self._checked(losses, norm)
        self.optimizer.step()

        self.state.output = {Keys.IMAGE: batch.image, Keys.LABEL: batch.label, Keys.PRED: torch.cat(predictions)}
        self.state.output |= {Keys.LOSS: values.pop("total"), "losses": values}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _on_device(self, batchdata: dict[str, Any]) -> TrainingBatch:
        image, label = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        read, label_read = (
            {name: batchdata[p + name].to(self.state.device) for name in read_by(self.network) if p + name in batchdata}
            for p in ("", "label_")
        )
        if self.style_weight and read.keys() != label_read.keys():
            lacking = ", ".join(f"label_{name}" for name in read if name not in label_read)
            raise PETError(f"batch has no {lacking}, expected those of image and label: full-dose features need them")
        if image.shape[0] % self.accumulation:
            raise PETError(
                f"batch of {image.shape[0]} patches, expected a multiple of accumulation {self.accumulation}"
            )
        return TrainingBatch(image, label, read, label_read)

    def _generate(self, part: TrainingBatch) -> tuple[Tensor, list[Tensor]]:
        with self._autocast():
            return self._shared_generator(part.image, **part.read)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.state.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def _gathered_last(
        self, parts: list[TrainingBatch], module: nn.Module
    ) -> Iterator[tuple[TrainingBatch, AbstractContextManager]]:
        """Parts, each with the context in which its gradients are kept local; the last one's are gathered."""
        for i, part in enumerate(parts):
            is_gathered = not isinstance(module, DistributedDataParallel) or i + 1 == len(parts)
            yield part, nullcontext() if is_gathered else cast(DistributedDataParallel, module).no_sync()

    def _seen_by_critic(self, part: TrainingBatch, image: Tensor) -> Tensor:
        if self.region_threshold is not None:
            image = stylized_region(part.label * self.suv_scale, threshold=self.region_threshold) * image
        return torch.cat([image, part.image], dim=1) if self.conditional_critic else image

    def _update_critic(self, parts: list[TrainingBatch], predictions: list[Tensor]) -> Tensor:
        """Step of the critic; its loss."""
        assert self._shared_critic is not None
        assert self.critic_optimizer is not None
        positions = self._positions(sum(part.image.shape[0] for part in parts))
        self.critic_optimizer.zero_grad()
        mean = torch.zeros((), device=self.state.device)
        start = 0
        for (part, gather), pred in zip(self._gathered_last(parts, self._shared_critic), predictions, strict=True):
            real = self._seen_by_critic(part, part.label)
            fake = self._seen_by_critic(part, pred)
            position = positions[start : start + real.shape[0]].to(real)
            start += real.shape[0]
            with gather:
                loss = critic_loss(self._shared_critic(real), self._shared_critic(fake))
                penalty = gradient_penalty(self._shared_critic, real, fake, position=position)
                loss = (loss + self.penalty_weight * penalty) / len(parts)
                loss.backward()
            mean = mean + loss.detach()
        self.critic_optimizer.step()
        return mean

    def _positions(self, n_patches: int) -> Tensor:
        """Where on its line each patch of this process lies, (n_patches, 1, 1, 1, 1), in float64.

        A function of seed, iteration and place in the batch of all processes: neither their number nor an
        interruption changes it.
        """
        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + self.state.iteration) % 2**63)
        positions = torch.rand(world_size() * n_patches, generator=draw, dtype=torch.float64)
        start = process_rank() * n_patches
        return positions[start : start + n_patches, None, None, None, None]

    def _generator_losses(
        self, part: TrainingBatch, pred: Tensor, features: list[Tensor], losses: dict[str, Tensor]
    ) -> Tensor:
        """Weighted sum of the losses of a part; ``losses`` gathers the mean of each over the parts."""
        arguments = (pred, part.label, part.image) if self._loss_takes_image else (pred, part.label)
        new = {"reconstruction": self.loss_function(*arguments)}
        total = new["reconstruction"]
        if self.style_weight:
            with torch.no_grad(), self._autocast():
                _, full_dose_features = self._generator_pass(part.label, **part.label_read)
            new["style"] = style_alignment_loss(features, full_dose_features)
            total = total + self.style_weight * new["style"]
        if self.critic is not None and self.state.iteration > self.critic_warmup:
            self.critic.requires_grad_(False)
            new["adversarial"] = generator_loss(self.critic(self._seen_by_critic(part, pred)))
            self.critic.requires_grad_(True)
            total = total + self.adversarial_weight * new["adversarial"]
        for name, value in {**new, "total": total}.items():
            losses[name] = losses.get(name, torch.zeros_like(value)) + value.detach() / self.accumulation
        return total

    def _checked(self, losses: dict[str, Tensor], norm: Tensor) -> dict[str, float]:
        """Losses as numbers, their mean over processes; training stops if one, or the gradient's norm, is none."""
        # One tensor: every .item() of its own would make the host wait for the device.
        gathered = torch.stack([value.double() for value in (*losses.values(), norm)])
        if world_size() > 1:
            distributed.all_reduce(gathered)
            gathered /= world_size()
        names = [*(f"{name} loss" for name in losses), "norm of the gradient"]
        values = gathered.tolist()
        for name, value in zip(names, values, strict=True):
            if not math.isfinite(value):
                where = f"epoch {self.state.epoch}, iteration {self.state.iteration}"
                raise PETError(f"{where}: {name} is {value}, expected a finite number; training stops")
        return dict(zip(losses, values[:-1], strict=True))


def _n_arguments(loss: Callable[..., Tensor]) -> int:
    """Return the number of positional arguments without a default."""
    parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def _shared(module: nn.Module) -> nn.Module:
    """The module; with several processes, one that gathers its gradients over them."""
    if world_size() == 1:
        return module
    # Buffers are constants here, and no layer counts anything: nothing to send around.
    return DistributedDataParallel(module, broadcast_buffers=False)
