"""Command line: unipet denoise | suv | simulate | evaluate. Heavy imports wait inside the commands."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["app", "main"]

app = typer.Typer(
    help="Universal denoising of low-dose whole-body PET that keeps SUV right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()

Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle; by default the one that comes along.")]
Device = Annotated[str | None, typer.Option(help="Such as cuda or cpu; by default a GPU when there is one.")]


def main() -> None:
    """Entry point of the console script."""
    # Batch systems and containers end jobs with SIGTERM: leave through the stack, which removes what is half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app()


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """A user's mistake ends in one line and exit code 1, an interruption in 130."""
    from pipeline.pet import PETError
    from pipeline.pet.errors import one_line

    try:
        yield
    except (PETError, OSError) as error:
        print(f"unipet: {one_line(str(error))}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("unipet: interrupted, nothing half written is left", file=sys.stderr)
        raise typer.Exit(130) from None


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def denoise(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="DICOM folder, or NIfTI with JSON sidecar.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")],
    method: Annotated[str, typer.Option(help="unipet, identity, or any overlay in the bundle's configs/methods.")] = (
        "unipet"
    ),
    bundle: Bundle = None,
    device: Device = None,
    threshold: Annotated[float, typer.Option(help="SUV from which voxels form regions [g/mL].")] = 4.0,
    min_volume: Annotated[float, typer.Option(help="Smaller regions are left out [mL].")] = 1.0,
    reference: Annotated[Path | None, typer.Option(help="Full-dose scan of the same grid: print PSNR, too.")] = None,
    units: Annotated[str, typer.Option(help="Stored in DICOM: BQML (Bq/mL) or GML (SUVbw).")] = "BQML",
    private: Annotated[bool, typer.Option(help="Keep the source's private DICOM attributes.")] = True,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="De-identify DICOM by PS3.15; dates are shifted together.")
    ] = False,
) -> None:
    """Denoise one whole-body scan; write NIfTI, DICOM, lesion table, report and run record.

    Example: [bold]unipet denoise scan_folder/ result/[/bold]
    """
    with _errors_in_one_line():
        from pipeline import read_pet
        from pipeline.inference import Denoiser
        from pipeline.pet import DicomOptions
        from pipeline.workflow import denoise_scan

        dicom = DicomOptions(units=units.upper(), keep_private=private, deidentify=deidentify)
        denoiser = Denoiser.from_bundle(bundle, method=method, device=device)
        full_dose = None if reference is None else read_pet(reference)
        with console.status("starting") as status:
            result = denoise_scan(
                source,
                output,
                denoiser,
                threshold=threshold,
                min_volume=min_volume,
                reference=full_dose,
                dicom=dicom,
                on_step=status.update,
            )
        run, factor = result.run, result.before.suvbw_factor
        shape = " x ".join(map(str, result.before.suv.shape))
        stored = f"Units {result.before.header.units}"
        stored += "" if factor is None else f", SUVbw factor {factor:.6g} g/mL per stored unit"
        print(f"{result.name}: {shape} voxels, {stored}, {len(result.lesions)} regions")
        if run["dicom"] != "written":
            print(f"DICOM {run['dicom']}")
        if full_dose is not None:
            before, after = (_decibel(run[key]) for key in ("psnr_input_db", "psnr_output_db"))
            print(f"PSNR against the reference (peak 20 SUV): input {before}, output {after}")
        print(f"{output / 'report.html'} written in {sum(run['seconds'].values()):.0f} s")


def _decibel(value: float | None) -> str:
    return "infinite (equal images)" if value is None else f"{value:.2f} dB"


@app.command()
def suv(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="DICOM folder or file, or NIfTI with JSON sidecar.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which rule gives the SUV of a scan, what was repaired and what disagrees; convert nothing.

    Example: [bold]unipet suv scan_folder/[/bold]
    """
    with _errors_in_one_line():
        from pipeline.pet import explain_suv

        explanation = explain_suv(source)
        print(json.dumps(explanation.as_dict(), indent=2) if as_json else explanation.as_text())


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the subjects; an unfinished one goes on.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    drf: Annotated[list[float] | None, typer.Option(help="Dose reduction factor, repeatable [4 10 20 50 100].")] = None,
    scanner: Annotated[str, typer.Option(help="Scanner preset.")] = "generic",
    lesions: Annotated[int | None, typer.Option(min=0, help="Lesions per subject; by default drawn.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Subjects simulated at once.")] = 1,
) -> None:
    """Simulate whole-body FDG scans at full and reduced dose.

    Example: [bold]unipet simulate data/ --subjects 3 --drf 4 --drf 20[/bold]
    """
    with _errors_in_one_line():
        from pipeline.simulation import DEFAULT_DOSE_REDUCTION_FACTORS, scanner_preset, simulate_cohort

        with _progress() as progress:
            task = progress.add_task("simulating", total=subjects)
            simulate_cohort(
                output,
                n_subjects=subjects,
                seed=seed,
                scanner=scanner_preset(scanner),
                dose_reduction_factors=drf or DEFAULT_DOSE_REDUCTION_FACTORS,
                n_lesions=lesions,
                jobs=jobs,
                progress=lambda *_: progress.advance(task),
            )
        print(f"{subjects} subjects in {output}")


@app.command()
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
    with _errors_in_one_line():
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
        with _progress() as progress:
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
