"""Command `unipet evaluate`."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from pipeline.cli.console import Bundle, Device, errors_in_one_line, progress_bar
from pipeline.cli.output import check_output, print_table

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.comparison import Case, Competitors, Measurements
    from pipeline.inference import Denoiser

__all__ = ["evaluate"]


class Split(StrEnum):
    """Part of a data set."""

    train = "train"
    validation = "validation"
    test = "test"


def evaluate(
    source: Annotated[
        list[Path] | None,
        typer.Argument(metavar="MANIFEST", help="Manifests or recipes to measure on, or folders that simulate wrote."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which subjects of a manifest; of a folder all are taken.")] = Split.test,
    tuning: Annotated[
        list[Path] | None,
        typer.Option(help="The filters are tuned on these, repeatable; by default on the manifests measured on."),
    ] = None,
    tuning_split: Annotated[Split, typer.Option(help="Which subjects of a manifest to tune on.")] = Split.validation,
    root: Annotated[Path | None, typer.Option(help="Folder of the manifests' data; by default that of each.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Subjects of a recipe simulated at once.")] = 1,
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

    Example: `unipet evaluate data/manifest.yaml --split test`

    Of folders: `unipet evaluate data/test data/test_tof --tuning data/validation`

    Of a real scan: `unipet evaluate --scan FULL --low 4=LOW4 --low 20=LOW20 --tuning data/validation`
    """
    with errors_in_one_line():
        from pipeline.comparison import as_markdown, check_gate, read_gate, result_tables
        from pipeline.errors import PETError
        from pipeline.files import write_table, write_text
        from pipeline.inference import Denoiser

        sources = source or []
        for path, suffixes in ((output, (".tsv",)), (markdown, ())):
            if path is not None:
                check_output(path, suffixes=suffixes)
        demands = None if gate is None else read_gate(gate)
        if scan is not None and (sources or demands is not None):
            raise PETError(f"{scan}: --scan was given with manifests or a gate, expected it alone")
        if scan is None and low:
            raise PETError("--low was given without --scan, expected the full-dose scan that it belongs to")
        low_scans = {} if scan is None else _low_scans(low or [])
        names = list(dict.fromkeys(method or ["unipet"]))
        swaps: dict[str, pd.DataFrame] = {}
        with progress_bar() as progress:
            cases = [] if scan is not None else _cases(sources, split, root, jobs, progress)
            to_tune_on = _to_tune_on(tuning or [], sources, is_same_split=tuning_split == split)
            others = _cases(to_tune_on, tuning_split, root, jobs, progress)
            methods = {name: Denoiser.from_bundle(bundle, method=name, device=device) for name in names}
            if scan is not None:
                measurements, preface = _measured_scan(scan, low_scans, others, methods, progress)
            else:
                measurements, swaps, preface = _measured_cases(cases, others, methods, progress)
                which = ", ".join(p.resolve().name if p.is_dir() else f"{p.stem}, split {split}" for p in sources)
                preface = f"{len(cases)} subjects ({which}); {preface}"
        tables = result_tables(measurements, names, style_swaps=swaps)
        lines = [] if demands is None else check_gate(demands, measurements, names[0], style_swap=swaps.get(names[0]))
        print(preface)
        for table in tables:
            print_table(table.title, table.header, table.rows, n_text_columns=table.n_text_columns)
        for line in lines:
            print(line)
        if output is not None:
            write_table(measurements.scans, output)
            write_table(measurements.lesions, output.with_name(f"{output.stem}_lesions{output.suffix}"))
        if markdown is not None:
            write_text(markdown, as_markdown(tables, preface=f"{preface}."))
        if missed := sum(not line.met for line in lines):
            raise PETError(f"{gate}: {missed} of {len(lines)} demands missed by {names[0]}, expected all met")


def _to_tune_on(tuning: Sequence[Path], sources: Sequence[Path], *, is_same_split: bool) -> Sequence[Path]:
    """Return what the filters are tuned on, which must be other subjects than those measured on."""
    from pipeline.errors import PETError

    if tuning:
        return tuning
    if not sources or is_same_split or any(path.is_dir() for path in sources):
        raise PETError("the filters have nothing to be tuned on, expected --tuning with other subjects")
    return sources


def _cases(sources: Sequence[Path], split: Split, root: Path | None, jobs: int, progress: Progress) -> "list[Case]":
    from pipeline.comparison import cases_of

    task = progress.add_task("simulating", total=None, visible=False)

    def advance(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=True)

    return cases_of(sources, split=split.value, root=root, jobs=jobs, progress=advance)


def _measured_cases(
    cases: "Sequence[Case]", tuning: "Sequence[Case]", methods: "dict[str, Denoiser]", progress: Progress
) -> "tuple[Measurements, dict[str, pd.DataFrame], str]":
    from pipeline.comparison import (
        check_other_cases,
        doses_of,
        evaluate_methods,
        has_style,
        measure_style_swap,
        tune_competitors,
    )

    check_other_cases(cases, tuning)
    doses = doses_of(cases)
    counts = {factor: sum(factor in case.doses for case in cases) for factor in doses}
    everywhere = [factor for factor in doses if counts[factor] == len(cases)]
    task = progress.add_task("tuning", total=len(doses))
    competitors = tune_competitors(tuning, factors=doses, on_dose=lambda factor: progress.advance(task))
    task = progress.add_task("measuring", total=sum(counts.values()))
    measurements = evaluate_methods(
        cases, methods, competitors=competitors, on_scan=lambda scan: progress.advance(task)
    )
    swaps = {
        name: measure_style_swap(cases, denoiser, factors=(everywhere[0], everywhere[-1]))
        for name, denoiser in methods.items()
        if len(everywhere) > 1 and has_style(denoiser)
    }
    preface = _chosen(competitors, len(tuning))
    if len(everywhere) < len(doses):
        preface += "; subjects a dose: " + ", ".join(f"DRF {factor:g}: {n}" for factor, n in counts.items())
    return measurements, swaps, preface


def _measured_scan(
    full: Path, low: dict[float, Path], tuning: "Sequence[Case]", methods: "dict[str, Denoiser]", progress: Progress
) -> "tuple[Measurements, str]":
    from pipeline.comparison import evaluate_scan, tune_competitors
    from pipeline.pet import read_pet

    full_dose = read_pet(full)
    scans = {factor: read_pet(path) for factor, path in low.items()}
    task = progress.add_task("tuning", total=len(low))
    competitors = tune_competitors(tuning, factors=list(low), on_dose=lambda factor: progress.advance(task))
    task = progress.add_task("measuring", total=len(low))
    measurements = evaluate_scan(
        full_dose, scans, methods, competitors=competitors, on_scan=lambda scan: progress.advance(task)
    )
    preface = "One real scan: its full-dose image takes the place of the truth, noise and all"
    return measurements, f"{preface}; {_chosen(competitors, len(tuning))}"


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
