"""How many steps a sampler needs: PSNR against the number of steps, on validation subjects.

python studies/steps.py data_manifests/simulated_v2.yaml --root DATA --weights TRAINED --output docs/steps

TRAINED holds NAME/model.pt of every method. A point is one scan, sampler and number of steps; it goes to OUTPUT.tsv as
soon as it is there, and a run that was stopped goes on, with other arguments, too. OUTPUT.png shows the means over the
subjects of all that is in the table.
"""

import argparse
import time
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from pipeline.comparison import cases_of
from pipeline.comparison.reference import reference_of
from pipeline.evaluation import PEAK_SUV, psnr
from pipeline.inference import ConservingInferer, Denoiser, SamplingInferer
from pipeline.tables import write_table

SAMPLERS: dict[str, dict[str, float | None]] = {
    "ddpm3d": {"DDIM": 0.0, "DDIM, eta 1": 1.0, "ancestral": None},
    "ddpm2d": {"DDIM": 0.0},
    "flow3d": {"Euler": None},
}
"""Eta of every sampler of a method."""
STEPS = (1, 2, 3, 4, 6, 10, 20, 50, 100)
KEYS = ["method", "sampler", "n_steps", "n_samples", "subject", "dose_reduction_factor"]
MEASURES = {"psnr_noise_free": "PSNR against noise-free [dB]", "psnr_full": "PSNR against full dose [dB]"}
COLUMNS = MEASURES | {
    "method": "name of the diffusion",
    "sampler": "how samples are drawn",
    "n_steps": "steps of the sampler",
    "n_samples": "samples that the image is the mean of",
    "subject": "name of the subject",
    "dose_reduction_factor": "full dose over the dose of the scan",
    "cpu_seconds": "processor time for the scan [s]",
}


def sampled_by(denoiser: Denoiser, *, eta: float | None, n_steps: int, n_samples: int) -> Denoiser:
    """The denoiser of a method that samples, with another sampler."""
    assert isinstance(denoiser.inferer, ConservingInferer)
    around, inferer = copy(denoiser.inferer), copy(denoiser.inferer.inferer)
    assert isinstance(inferer, SamplingInferer)
    inferer.n_steps, inferer.n_samples = n_steps, n_samples
    if hasattr(inferer.process, "eta"):
        inferer.process = copy(inferer.process)
        inferer.process.eta = eta
    around.inferer = inferer
    return replace(denoiser, inferer=around)


def points(arguments: argparse.Namespace, done: set[tuple[object, ...]]) -> Iterator[dict[str, object]]:
    """Rows that are not done yet."""
    cases = cases_of(
        [arguments.manifest],
        split="validation",
        root=arguments.root,
        n_subjects=arguments.subjects,
        factors=arguments.drf,
    )
    methods = {
        name: Denoiser.from_bundle(method=name, weights=arguments.weights / name / "model.pt", device=arguments.device)
        for name in arguments.methods
    }
    wanted = [
        (name, sampler, n_steps, arguments.samples)
        for name in methods
        for sampler in SAMPLERS[name]
        for n_steps in arguments.steps
    ]
    for case in cases:
        truth = reference_of(case).images
        for factor, image in case.doses.items():
            for key in wanted:
                if (*key, case.name, factor) in done:
                    continue
                name, sampler, n_steps, n_samples = key
                eta = SAMPLERS[name][sampler]
                noisy, begun = case.read(image), time.process_time()
                denoise = sampled_by(methods[name], eta=eta, n_steps=n_steps, n_samples=n_samples)
                suv = denoise(noisy).suv
                row = dict(zip(KEYS, (*key, case.name, factor), strict=True))
                row |= {"cpu_seconds": round(time.process_time() - begun, 2)}
                row |= {
                    f"psnr_{kind}": round(psnr(suv, truth[kind].suv, data_range=PEAK_SUV), 4)
                    for kind in ("noise_free", "full")
                }
                yield row


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Mean over subjects against the number of steps, a panel for each dose and measure."""
    factors = sorted(rows["dose_reduction_factor"].unique())
    figure, axes = plt.subplots(2, len(factors), figsize=(3.6 * len(factors), 6), squeeze=False, sharex=True)
    colors: dict[str, str] = {}
    for line, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for axis, factor in zip(line, factors, strict=True):
            of_dose = rows[rows["dose_reduction_factor"] == factor]
            for (method, sampler, n), of_sampler in of_dose.groupby(["method", "sampler", "n_samples"]):
                mean = of_sampler.groupby("n_steps")[measure].mean()
                name = f"{method}, {sampler}, {'one sample' if n == 1 else f'mean of {n}'}"
                color = colors.setdefault(name, f"C{len(colors)}")
                axis.semilogx(mean.index, mean, marker="o", label=name, color=color)
            axis.set_title(f"DRF {factor:g}")
            axis.grid(alpha=0.3)
        line[0].set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("steps")
    lines = {line.get_label(): line for axis in axes[0] for line in axis.lines}
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncols=2, fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder with NAME/model.pt")
    parser.add_argument("--output", type=Path, required=True, help="of the table and the figure, without an ending")
    parser.add_argument("--methods", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS))
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--drf", nargs="+", type=float, default=[4.0, 20.0, 100.0])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    table = arguments.output.with_suffix(".tsv")
    rows = pd.read_csv(table, sep="\t").to_dict("records") if table.exists() else []
    for row in points(arguments, {tuple(row[key] for key in KEYS) for row in rows}):
        rows.append(row)
        write_table(pd.DataFrame(rows), table, columns=COLUMNS)
        print(row, flush=True)
    draw(pd.DataFrame(rows), arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
