"""Command that compares methods: evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipeline.cli.console import Bundle, Device, console, errors_in_one_line, progress_bar

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["evaluate"]


def evaluate(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="Simulated subjects to measure on.")],
    tuning: Annotated[Path, typer.Option(help="Other simulated subjects: the Gaussian's width is chosen on them.")],
    method: Annotated[list[str] | None, typer.Option(help="Method of the bundle, repeatable [unipet].")] = None,
    bundle: Bundle = None,
    device: Device = None,
    output: Annotated[Path | None, typer.Option(help="Also write every measurement to this .tsv file.")] = None,
) -> None:
    """Compare methods with the noisy input and the best Gaussian filter, per dose.

    Example: [bold]unipet evaluate data/test --tuning data/validation[/bold]
    """
    with errors_in_one_line():
        from pipeline.benchmark import evaluate_methods, summarise, tune_gaussian
        from pipeline.data import cohort_items, dose_keys
        from pipeline.evaluation import write_table
        from pipeline.inference import Denoiser
        from pipeline.pet import PETError
        from pipeline.pet.errors import naming

        if output is not None and not output.absolute().parent.is_dir():
            raise PETError(f"{output}: folder {output.absolute().parent} does not exist")
        with naming(cohort):
            items = cohort_items(sorted(cohort.glob("sub-*")))
        with naming(tuning):
            tuning_items = cohort_items(sorted(tuning.glob("sub-*")))
        if cohort.resolve() == tuning.resolve():
            raise PETError(f"{tuning}: is the cohort to measure on, expected other subjects for tuning")
        if missing := set(dose_keys(items[0])) - set(dose_keys(tuning_items[0])):
            raise PETError(f"{tuning}: has no {', '.join(sorted(missing))}, expected every dose of {cohort}")
        methods = {name: Denoiser.from_bundle(bundle, method=name, device=device) for name in method or ["unipet"]}
        widths = tune_gaussian(tuning_items)
        with progress_bar() as progress:
            task = progress.add_task("measuring", total=len(items) * len(dose_keys(items[0])))
            rows = evaluate_methods(items, methods, gaussian_fwhm=widths, on_scan=lambda scan: progress.advance(task))
        if output is not None:
            write_table(rows, output)
        chosen = ", ".join(f"DRF {factor:g}: {width:g} mm" for factor, width in widths.items())
        print(f"{len(items)} subjects; Gaussian width chosen on {len(tuning_items)} others ({chosen})")
        for measure, title in _MEASURES.items():
            console.print(_as_table(summarise(rows, measure=measure), title))


_MEASURES = {
    "psnr_full": "PSNR against full dose [dB], peak 20 SUV",
    "psnr_repeat": "PSNR against an independent full-dose scan [dB]",
    "psnr_noise_free": "PSNR against the noise-free reconstruction [dB]",
    "ssim_full": "SSIM against full dose, range 20 SUV",
    "suv_max_bias_percent": "SUVmax bias of lesions of at least 10 mm against noise-free [%]",
    "suv_mean_bias_percent": "SUVmean bias of lesions of at least 10 mm against noise-free [%]",
    "n_false_hot_spots": "False hot spots per scan",
}


def _as_table(summary: "pd.DataFrame", title: str) -> Table:
    # Escaped, for rich takes a unit in brackets for markup.
    table = Table(title=escape(title), title_justify="left")
    table.add_column("method")
    for factor in summary.columns:
        table.add_column(f"DRF {factor:g}", justify="right")
    digits = 4 if "SSIM" in title else 1 if "%" in title or "spots" in title else 2
    for name, row in summary.iterrows():
        table.add_row(str(name), *(f"{value:.{digits}f}" for value in row))
    return table
