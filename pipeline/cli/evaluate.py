"""Command `unipet evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import Bundle, Device, errors_in_one_line, progress_bar
from pipeline.cli.output import check_output, print_table

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.comparison import Competitors, Measurements, ResultTable
    from pipeline.inference import Denoiser

__all__ = ["evaluate"]


def evaluate(
    tuning: Annotated[
        list[Path], typer.Option(help="Folder of other simulated subjects, repeatable: the filters are tuned on them.")
    ],
    cohort: Annotated[
        list[Path] | None, typer.Argument(metavar="COHORT", help="Folders of simulated subjects to measure on.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method of the bundle, repeatable; by default unipet.")
    ] = None,
    scan: Annotated[
        Path | None, typer.Option(help="Measure on this real full-dose scan instead: DICOM folder, or NIfTI and JSON.")
    ] = None,
    low: Annotated[
        list[str] | None, typer.Option(metavar="DRF=SCAN", help="Low-dose version of --scan, repeatable: 4=low.nii.gz.")
    ] = None,
    bundle: Bundle = None,
    device: Device = None,
    output: Annotated[
        Path | None, typer.Option(help="Also write every scan to this .tsv file, and lesions beside: NAME_lesions.tsv.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables to this Markdown file.")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Demands on the first method (YAML): exit code 1 if one is missed.")
    ] = None,
) -> None:
    """Compare methods with the noisy input, the best Gaussian and the best non-local means, per dose.

    Example: `unipet evaluate data/test data/test_tof --tuning data/validation`

    Of a real scan: `unipet evaluate --scan FULL --low 4=LOW4 --low 20=LOW20 --tuning data/validation`
    """
    with errors_in_one_line():
        from pipeline.comparison import check_gate, read_gate, result_tables
        from pipeline.errors import PETError
        from pipeline.inference import Denoiser

        for path, suffixes in ((output, (".tsv",)), (markdown, ())):
            if path is not None:
                check_output(path, suffixes=suffixes)
        demands = None if gate is None else read_gate(gate)
        names = list(dict.fromkeys(method or ["unipet"]))
        if scan is not None:
            if cohort or demands is not None:
                raise PETError(f"{scan}: --scan was given with cohorts or a gate, expected it alone")
            low_scans = _low_scans(low or [])
        elif not cohort:
            raise PETError("no cohort was given, expected a folder of simulated subjects, or --scan")
        elif low:
            raise PETError("--low was given without --scan, expected the full-dose scan that it belongs to")
        for path in (*(cohort or []), *tuning):
            if not path.exists():
                raise PETError(f"{path}: no such file or folder, expected a folder of simulated subjects")
        methods = {name: Denoiser.from_bundle(bundle, method=name, device=device) for name in names}
        if scan is not None:
            measurements, preface = _measured_scan(scan, low_scans, tuning, methods)
            swaps: dict[str, pd.DataFrame] = {}
        else:
            measurements, swaps, preface = _measured_cohorts(cohort or [], tuning, methods)
        tables = result_tables(measurements, names, style_swaps=swaps)
        lines = [] if demands is None else check_gate(demands, measurements, names[0], style_swap=swaps.get(names[0]))
        print(preface)
        for table in tables:
            print_table(table.title, table.header, table.rows, n_text_columns=table.n_text_columns)
        for line in lines:
            print(line)
        _write(measurements, tables, output=output, markdown=markdown, preface=preface)
        if missed := sum(not line.met for line in lines):
            raise PETError(f"{gate}: {missed} of {len(lines)} demands missed by {names[0]}, expected all met")


def _measured_cohorts(
    cohorts: Sequence[Path],
    tuning: Sequence[Path],
    methods: "dict[str, Denoiser]",
) -> "tuple[Measurements, dict[str, pd.DataFrame], str]":
    from pipeline.comparison import (
        evaluate_methods,
        has_style,
        measure_style_swap,
        subjects_of_cohorts,
        tune_competitors,
    )
    from pipeline.data import dose_keys
    from pipeline.errors import PETError

    items, tuning_items = subjects_of_cohorts(cohorts), subjects_of_cohorts(tuning)
    for folder in tuning:
        if folder.resolve() in {c.resolve() for c in cohorts}:
            raise PETError(f"{folder}: is a cohort to measure on, expected other subjects for tuning")
    doses = dose_keys(items[0])
    if missing := set(doses) - set(dose_keys(tuning_items[0])):
        raise PETError(f"{tuning[0]}: has no {', '.join(sorted(missing))}, expected every dose of {cohorts[0]}")
    styled = {name: denoiser for name, denoiser in methods.items() if has_style(denoiser)} if len(doses) > 1 else {}
    with progress_bar() as progress:
        task = progress.add_task("tuning", total=len(doses))
        competitors = tune_competitors(
            tuning_items, factors=list(doses.values()), on_dose=lambda key: progress.advance(task)
        )
        task = progress.add_task("measuring", total=len(items) * len(doses))
        measurements = evaluate_methods(
            items, methods, competitors=competitors, on_scan=lambda scan: progress.advance(task)
        )
        low, high = min(doses.values()), max(doses.values())
        swaps = {
            name: measure_style_swap(items, denoiser, low_factor=low, high_factor=high)
            for name, denoiser in styled.items()
        }
    where = ", ".join(folder.name for folder in map(Path.resolve, cohorts))
    return measurements, swaps, f"{len(items)} subjects ({where}); {_chosen(competitors, len(tuning_items))}"


def _measured_scan(
    full: Path, low: dict[float, Path], tuning: Sequence[Path], methods: "dict[str, Denoiser]"
) -> "tuple[Measurements, str]":
    from pipeline.comparison import evaluate_scan, subjects_of_cohorts, tune_competitors
    from pipeline.data import dose_keys
    from pipeline.errors import PETError
    from pipeline.pet import read_pet

    tuning_items = subjects_of_cohorts(tuning)
    if missing := set(low) - set(dose_keys(tuning_items[0]).values()):
        raise PETError(
            f"{tuning[0]}: has no DRF {', '.join(f'{f:g}' for f in sorted(missing))}, expected every dose of --low"
        )
    full_dose = read_pet(full)
    scans = {factor: read_pet(path) for factor, path in low.items()}
    with progress_bar() as progress:
        task = progress.add_task("tuning", total=len(low))
        competitors = tune_competitors(tuning_items, factors=list(low), on_dose=lambda key: progress.advance(task))
        task = progress.add_task("measuring", total=len(low))
        measurements = evaluate_scan(
            full_dose, scans, methods, competitors=competitors, on_scan=lambda scan: progress.advance(task)
        )
    preface = "One real scan: its full-dose image takes the place of the truth, noise and all"
    return measurements, f"{preface}; {_chosen(competitors, len(tuning_items))}"


def _low_scans(stated: Sequence[str]) -> dict[float, Path]:
    """Dose reduction factor -> scan, from DRF=SCAN."""
    from pipeline.errors import PETError

    scans: dict[float, Path] = {}
    for text in stated:
        factor, equals, path = text.partition("=")
        try:
            number = float(factor)
        except ValueError:
            number = 0.0
        if not (equals and path and 1 < number < float("inf")):
            raise PETError(
                f"--low {text}: expected DRF=SCAN with a dose reduction factor above 1, such as 4=low.nii.gz"
            )
        if number in scans:
            raise PETError(f"--low {text}: DRF {number:g} was given twice, expected one scan of each dose")
        scans[number] = Path(path)
    if not scans:
        raise PETError("--scan was given without --low, expected its low-dose versions as DRF=SCAN")
    return scans


def _chosen(competitors: "Competitors", n_tuning: int) -> str:
    chosen = ", ".join(
        f"DRF {factor:g}: {width:g} mm, {competitors.nonlocal_means_strength[factor]:g}"
        for factor, width in competitors.gaussian_fwhm.items()
    )
    return f"Gaussian width and strength of non-local means chosen on other subjects, {n_tuning} ({chosen})"


def _write(
    measurements: "Measurements",
    tables: "Sequence[ResultTable]",
    *,
    output: Path | None,
    markdown: Path | None,
    preface: str,
) -> None:
    from pipeline.comparison import as_markdown
    from pipeline.evaluation import write_table
    from pipeline.files import write_text

    if output is not None:
        write_table(measurements.scans, output)
        write_table(measurements.lesions, output.with_name(f"{output.stem}_lesions{output.suffix}"))
    if markdown is not None:
        write_text(markdown, as_markdown(tables, preface=f"{preface}."))
