"""Seconds of one training iteration: the released scheme against this trainer, in turns, in one run.

    python benchmarks/training.py [--patch 64] [--batch 2] [--repeats 5] [--threads 2] [--device cpu]
                                  [--rows released trainer]

The released scheme forms the prediction anew for the critic, for the generator, and twice for a style loss between
two passes of the low dose (always 0); all in float32. Row "released" takes the gradient of that loss for free,
"released-differentiated" pays for it. All rows use the published widths, the same critic, and this package's modulated
convolution, which is faster than the released one: the comparison favours the released scheme.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from pipeline.losses import (
    ReconstructionLoss,
    critic_loss,
    generator_loss,
    gradient_penalty,
    style_alignment_loss,
    stylized_region,
)
from pipeline.networks import PatchCritic, UniPET
from pipeline.training import DenoisingTrainer

SUV_SCALE = 2.0


def released_step(batch: dict[str, torch.Tensor], device: torch.device, *, style_gradient: bool) -> Callable[[], None]:
    """One iteration as released: four generator forwards."""
    network, critic = UniPET().to(device), PatchCritic().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-4, betas=(0.9, 0.99))
    reconstruction = ReconstructionLoss(0.0)
    image, label = (batch[key].to(device) for key in ("image", "label"))

    def step() -> None:
        region = stylized_region(label * SUV_SCALE)
        fake = network(image).detach()
        loss = critic_loss(critic(region * label), critic(region * fake))
        loss = loss + 10 * gradient_penalty(critic, region * label, region * fake)
        critic_optimizer.zero_grad()
        loss.backward()
        critic_optimizer.step()

        pred = network(image)
        with torch.set_grad_enabled(style_gradient):
            styles = [network.denoise_with_features(image)[1] for _ in range(2)]
        style = style_alignment_loss(*styles)
        critic.requires_grad_(False)
        total = reconstruction(pred, label, image) + 1e-3 * style + 1e-3 * generator_loss(critic(region * pred))
        critic.requires_grad_(True)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def trainer_step(
    batch: dict[str, torch.Tensor], device: torch.device, *, dtype: torch.dtype | None, channels_last: bool
) -> Callable[[], None]:
    """One iteration of this package's trainer."""
    network, critic = UniPET().to(device), PatchCritic().to(device)
    trainer = DenoisingTrainer(
        device,
        1,
        [batch],
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-4),
        critic=critic,
        critic_optimizer=torch.optim.AdamW(critic.parameters(), lr=1e-4, betas=(0.9, 0.99)),
        loss=ReconstructionLoss(0.0),
        style_weight=1e-3,
        adversarial_weight=1e-3,
        suv_scale=SUV_SCALE,
        autocast_dtype=dtype,
        channels_last=channels_last,
    )
    trainer.logger.setLevel("ERROR")

    def step() -> None:
        trainer.state.iteration = trainer.state.epoch = 0
        trainer.run()

    return step


ROWS = {
    "released": partial(released_step, style_gradient=False),
    "released-differentiated": partial(released_step, style_gradient=True),
    "trainer-float32": partial(trainer_step, dtype=None, channels_last=False),
    "trainer-float32-channels-last": partial(trainer_step, dtype=None, channels_last=True),
    "trainer": partial(trainer_step, dtype=torch.bfloat16, channels_last=True),
}


def patches(size: int, n: int) -> dict[str, torch.Tensor]:
    """Patches of noise, and the same with more of it."""
    label = torch.rand(n, 1, size, size, size)
    return {"image": label + 0.2 * torch.randn_like(label), "label": label}


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Time of a step: on a CPU that of the process, which other programs do not lengthen, else by the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = arguments.device
    batches = [patches(32, 1), patches(arguments.patch, arguments.batch)]
    steps = {name: [make(batch, device) for batch in batches] for name, make in ROWS.items() if name in arguments.rows}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for small, _ in steps.values():
        seconds(small, device)  # warms up
    for _ in range(arguments.repeats):
        for name, (_, step) in steps.items():
            times[name].append(seconds(step, device))
    where = f"{device}, {arguments.threads} threads, torch {torch.__version__}"
    print(f"{arguments.patch}^3, batch {arguments.batch}, {where}")
    first = next(iter(times))
    print(f"{'s, median':>9} {'from':>7} {'to':>7} {'faster':>7}")
    for name, values in times.items():
        # Within a turn the machine is in much the same state: the ratio of turns is steadier than that of medians.
        ratio = statistics.median(a / b for a, b in zip(times[first], values, strict=True))
        print(f"{statistics.median(values):9.2f} {min(values):7.2f} {max(values):7.2f} {ratio:6.2f}x  {name}")


if __name__ == "__main__":
    main()
