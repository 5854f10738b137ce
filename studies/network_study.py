"""Which body is worth its seconds, and is the style alive? Small trainings of equal CPU seconds on simulated scans.

python studies/network_study.py bodies DATA OUT --seconds 150
python studies/network_study.py style DATA OUT --body u32-1 --pretrain 480 --seconds 180

DATA is the data folder of the bundle after `make weights` has simulated it: train_* and validation. OUT receives the
tables as TSV and the weights. CPU seconds are those of the process, on all its threads; validation, reading and the
measuring of statistics are outside the budget. The learning rate follows the seconds spent, so a run is not
repeatable to the bit; seeds are, for what they draw.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.comparison import Case, cases_of
from pipeline.data import mix_doses
from pipeline.evaluation import PEAK_SUV
from pipeline.losses import ReconstructionLoss
from pipeline.networks import BaseDenoisingNetwork, UniPET, noise_statistics, scaled_statistics
from pipeline.training import StatisticsByDose

SUV_SCALE = 2.0
DOSES = (2, 4, 10, 20, 50, 100)
MEASURED_DOSES = (2, 3, 4, 7, 10, 14, 20, 32, 50, 71, 100)
TARGETS = ("label", "full_repeat", "noise_free")
PATCH, BATCH = 32, 4

BODIES = {
    "full24x6": {"channels": 24, "n_blocks": 6, "resolution_factor": 1},
    "half32x5": {"channels": 32, "n_blocks": 5, "resolution_factor": 2},
    "half48x8": {"channels": 48, "n_blocks": 8, "resolution_factor": 2},
    "u32-1": {"channels": 32, "n_blocks": (2, 3, 2), "resolution_factor": 2},
    "u32-2": {"channels": 32, "n_blocks": (2, 2, 3, 2, 2), "resolution_factor": 2},
    "u48-2": {"channels": 48, "n_blocks": (1, 2, 3, 2, 1), "resolution_factor": 2},
}
STYLES = {
    "statistics": {"style": "statistics", "style_width": 32, "latent_size": 32},
    "convolutional": {"style_width": 128, "latent_size": 128, "tissue_threshold": 0.1},
}


class Scan:
    """Volumes of a subject in network units, (X, Y, Z), and the scan at any dose."""

    def __init__(self, case: Case, names: Iterable[str]) -> None:
        self.name = case.name
        images = {**case.doses, "label": case.subject.full_dose}
        images |= {name: image for name in names if (image := case.subject.image(name)) is not None}
        self.doses = [*case.doses]
        self.volumes = {name: torch.from_numpy(case.read(image).suv) / SUV_SCALE for name, image in images.items()}
        body = np.flatnonzero(self.volumes["label"].numpy() > 0.05)
        self.body = body[:: max(1, len(body) // 100_000)]
        self.hot = np.flatnonzero(nib.as_closest_canonical(nib.load(case.root / case.subject.lesions.path)).dataobj)

    def at(self, factor: float, where: tuple[slice, ...] = ()) -> Tensor:
        """Image of a dose reduction factor, mixed from the full dose and the nearest lower one."""
        low = next(low for low in self.doses if low >= factor * (1 - 1e-9))
        return mix_doses(self.volumes[low][where], self.volumes["label"][where], low_factor=low, factor=factor)


class Patches:
    """Random batches: patches, their targets, and the noise statistics of the scans that they are from."""

    def __init__(self, scans: list[Scan], statistics: StatisticsByDose | None, *, seed: int) -> None:
        self.scans = scans
        self.statistics = statistics
        self.rng = np.random.default_rng(seed)

    def batch(self) -> tuple[Tensor, Tensor, Tensor | None]:
        chosen = [self.scans[i] for i in self.rng.integers(len(self.scans), size=BATCH)]
        factors = np.exp(self.rng.uniform(np.log(2), np.log(100), BATCH))
        scales = self.rng.uniform(0.6, 1.8, BATCH)
        pairs = [self._pair(*drawn) for drawn in zip(chosen, factors, scales, strict=True)]
        image, target = (torch.stack(x)[:, None] for x in zip(*pairs, strict=True))
        if self.statistics is None:
            return image, target, None
        rows = self.statistics([scan.name for scan in chosen], torch.tensor(factors))
        return image, target, scaled_statistics(rows, torch.tensor(scales))

    def _pair(self, scan: Scan, factor: float, scale: float) -> tuple[Tensor, Tensor]:
        shape = scan.volumes["label"].shape
        pool = scan.hot if len(scan.hot) and self.rng.random() < 0.25 else scan.body
        centre = np.unravel_index(self.rng.choice(pool), shape)
        starts = [int(np.clip(c - PATCH // 2, 0, n - PATCH)) for c, n in zip(centre, shape, strict=True)]
        where = tuple(slice(start, start + PATCH) for start in starts)
        pair = torch.stack([scan.at(factor, where), scan.volumes["label"][where]]) * scale
        pair = pair.flip([dim for dim in (1, 2, 3) if self.rng.random() < 0.5]).rot90(int(self.rng.integers(4)), (1, 2))
        return pair[0].contiguous(), pair[1].contiguous()


def train(network: nn.Module, patches: Patches, *, seconds: float, groups: list[dict]) -> int:
    """Train for so many CPU seconds by AdamW with a cosine over them; the number of iterations."""
    loss_function = ReconstructionLoss(0.25, underestimate_weight=0.5)
    optimizer = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    network.to(memory_format=torch.channels_last_3d).train()
    began, n_iterations, spent = time.process_time(), 0, 0.0
    while spent < seconds:
        warm, cosine = min(1.0, (n_iterations + 1) / 20), 0.5 + 0.5 * np.cos(np.pi * spent / seconds)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * warm * cosine
        image, target, statistics = patches.batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pred = network(image) if statistics is None else network(image, statistics)
        loss = loss_function(pred, target, image)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        n_iterations += 1
        spent = time.process_time() - began
    network.eval()
    return n_iterations


@torch.inference_mode()
def evaluate(
    scans: list[Scan], folded: Callable[[Tensor], nn.Module] | None, label: dict, *, swap: bool = False
) -> tuple[list[dict], float]:
    """PSNR rows over subjects, doses of the scan, doses of the style, and targets; CPU seconds per scan.

    ``folded(scan)`` is the plain network under the style of a scan; None leaves images as they are.
    """
    rows, seconds = [], []
    for scan in scans:
        images = {dose: scan.at(dose)[None, None] for dose in DOSES}
        for dose, style_dose in [(d, d) for d in DOSES] + [(2, 100), (4, 100), (100, 2), (100, 4)]:
            if dose != style_dose and not swap:
                continue
            network = folded(images[style_dose]) if folded else nn.Identity()
            began = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                pred = network(images[dose]).float()
            seconds.append(time.process_time() - began)
            for target in TARGETS:
                error = (pred[0, 0] - scan.volumes[target]).double().square().mean().item() ** 0.5 * SUV_SCALE
                value = 20 * np.log10(PEAK_SUV / error)
                rows.append({**label, "scan": scan.name, "dose": dose, "style_dose": style_dose, "target": target})
                rows[-1]["psnr"] = value
    return rows, float(np.median(seconds))


def kmac_per_voxel(network: BaseDenoisingNetwork) -> float:
    """Multiplications per voxel of the image, in thousands, of all convolutions."""
    total, side = 0, network.alignment * 4

    def count(conv: Callable, x: tuple[Tensor], y: Tensor) -> None:
        nonlocal total
        total += conv.weight[0].numel() * y.numel()

    hooks = [conv.register_forward_hook(count) for conv in network.modulated_convs]
    image = torch.zeros(1, 1, side, side, side)
    network(image)
    for hook in hooks:
        hook.remove()
    ends = network.conv0.weight.numel() + network.reconstruct.weight.numel()
    return (total / side**3 + ends / network.resolution_factor**3) / 1000


def study_bodies(train_scans: list[Scan], test_scans: list[Scan], out: Path, options: argparse.Namespace) -> None:
    """Train each body for the same CPU seconds; a table of cost and PSNR."""
    rows, table = evaluate(test_scans, None, {"body": "input"})[0], []
    for name in options.bodies:
        torch.manual_seed(options.seed)
        network = BaseDenoisingNetwork(**BODIES[name], initial_scale=0.2)
        patches = Patches(train_scans, None, seed=options.seed)
        group = {"params": network.parameters(), "lr": options.rate}
        n_iterations = train(network, patches, seconds=options.seconds, groups=[group])
        more, cpu = evaluate(test_scans, lambda style, network=network: network, {"body": name})
        rows += more
        table.append(
            {
                "body": name,
                "parameters": sum(p.numel() for p in network.parameters()),
                "kMAC/voxel": round(kmac_per_voxel(network), 1),
                "radius": network.receptive_radius,
                "iterations": n_iterations,
                "CPU-s/scan": round(cpu, 2),
            }
        )
        torch.save(network.state_dict(), out / f"{name}-{options.seed}.pt")
        report(rows, table, out / f"bodies-{options.seed}", by="body")


def study_style(train_scans: list[Scan], test_scans: list[Scan], out: Path, options: argparse.Namespace) -> None:
    """Fine-tune a plainly trained body with each style; PSNR, and what exchanged styles change."""
    began = time.process_time()
    table_of_statistics = StatisticsByDose(
        {s.name: {d: noise_statistics(s.at(d)[None, None])[0] for d in MEASURED_DOSES} for s in train_scans}
    )
    print(f"statistics: {time.process_time() - began:.0f} CPU-s", flush=True)
    torch.manual_seed(options.seed)
    body = BaseDenoisingNetwork(**BODIES[options.body], initial_scale=0.2)
    file = out / f"pretrained-{options.body}-{options.seed}.pt"
    if file.exists():
        body.load_state_dict(torch.load(file, weights_only=True))
    else:
        patches = Patches(train_scans, None, seed=options.seed)
        group = {"params": body.parameters(), "lr": options.rate}
        n_iterations = train(body, patches, seconds=options.pretrain, groups=[group])
        print(f"pretrained {options.body}: {n_iterations} iterations", flush=True)
        torch.save(body.state_dict(), file)
    rows = evaluate(test_scans, None, {"arm": "input"})[0]
    rows += evaluate(test_scans, lambda style: body, {"arm": "pretrained"})[0]
    table = []
    for arm in options.arms:
        torch.manual_seed(options.seed + 1)
        network, folded, groups = _arm(arm, body, table_of_statistics, options)
        patches = Patches(train_scans, table_of_statistics if arm.startswith("stat") else None, seed=options.seed + 1)
        n_iterations = train(network, patches, seconds=options.seconds, groups=groups)
        more, cpu = evaluate(test_scans, folded, {"arm": arm}, swap=arm != "control")
        rows += more
        table.append({"arm": arm, "iterations": n_iterations, "CPU-s/scan": round(cpu, 2)})
        torch.save(network.state_dict(), out / f"style-{arm}-{options.body}-{options.seed}.pt")
        report(rows, table, out / f"style-{options.body}-{options.seed}", by="arm")


def _arm(
    arm: str, body: nn.Module, statistics: StatisticsByDose, options: argparse.Namespace
) -> tuple[nn.Module, Callable[[Tensor], nn.Module], list[dict]]:
    rate = options.fine_rate
    if arm == "control":
        control = deepcopy(body)
        return control, lambda style: control, [{"params": control.parameters(), "lr": rate}]
    network = UniPET(**BODIES[options.body], **STYLES[arm])
    network.load_base(body.state_dict())
    if arm == "statistics":
        network.statistics_style.fit(statistics.all())
    of_style = [parameter for name, parameter in network.named_parameters() if not name.startswith("base.")]
    groups = [{"params": network.base.parameters(), "lr": rate}, {"params": of_style, "lr": options.style_rate}]
    return network, lambda style: network.fold(network.encode_style(style)), groups


def report(rows: list[dict], table: list[dict], stem: Path, *, by: str) -> None:
    """Write every PSNR, and print the means over subjects."""
    everything = pd.DataFrame(rows)
    everything.to_csv(stem.with_suffix(".tsv"), sep="\t", index=False)
    print(pd.DataFrame(table).to_string(index=False))
    own = everything[everything["dose"] == everything["style_dose"]]
    print(own.pivot_table(index=["target", by], columns="dose", values="psnr", margins=True, sort=False).round(2))
    other = everything[everything["dose"] != everything["style_dose"]]
    if len(other):
        keys = [by, "scan", "dose", "target"]
        change = other.join(own.set_index(keys)["psnr"].rename("own"), on=keys)
        change["change"] = change["psnr"] - change["own"]
        print("change under the style of another dose")
        print(change.pivot_table(index=["target", by], columns=["dose", "style_dose"], values="change").round(2))
    print(flush=True)


def main() -> None:
    """Run one of the two studies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", choices=["bodies", "style"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=150, help="CPU seconds of an arm")
    parser.add_argument("--pretrain", type=float, default=480, help="CPU seconds of the plain body (style)")
    parser.add_argument("--body", choices=[*BODIES], default="u32-1", help="body (style)")
    parser.add_argument("--bodies", nargs="+", choices=[*BODIES], default=[*BODIES], help="bodies (bodies)")
    parser.add_argument("--arms", nargs="+", default=["control", *STYLES], help="arms (style)")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate of plain training")
    parser.add_argument("--fine-rate", type=float, default=5e-4, help="learning rate of the body in fine-tuning")
    parser.add_argument("--style-rate", type=float, default=1e-3, help="learning rate of the style in fine-tuning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subjects", type=int, help="use no more than so many training subjects of a cohort")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    cohorts = [cases_of([folder], split="train")[: options.subjects] for folder in sorted(options.data.glob("train_*"))]
    train_scans = [Scan(case, ["label"]) for cohort in cohorts for case in cohort]
    test_scans = [Scan(case, TARGETS) for case in cases_of([options.data / "validation"], split="validation")]
    print(f"{len(train_scans)} training scans, {len(test_scans)} validation scans", flush=True)
    {"bodies": study_bodies, "style": study_style}[options.study](train_scans, test_scans, options.out, options)


if __name__ == "__main__":
    main()
