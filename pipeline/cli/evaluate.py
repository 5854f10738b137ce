"""Command `unipet evaluate`."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.progress import Progress

from pipeline.cli.console import Bundle, Device, Jobs, Scheduler, Series, Slurm, errors_in_one_line, progress_bar
from pipeline.cli.output import check_output, print_table

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.comparison import Case, Competitors, KeptResults, Measurements, ResultTable
    from pipeline.engine import Workers
    from pipeline.inference import Denoiser

__all__ = ["evaluate"]


class RealScan(NamedTuple):
    """A scan to read."""

    path: Path
    series: str | None
    """What of DICOM is read."""


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
    subjects: Annotated[
        int | None, typer.Option(min=1, help="At most so many subjects of each manifest or folder, the first ones.")
    ] = None,
    drf: Annotated[list[float] | None, typer.Option(help="Only this dose reduction factor, repeatable.")] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", help="Filter to compare with, repeatable: gaussian, nonlocal_means, bm4d (if installed)."
        ),
    ] = None,
    tuning: Annotated[
        list[Path] | None,
        typer.Option(
            help="Choose the filters' settings on these subjects, repeatable; else the best for each scan itself."
        ),
    ] = None,
    tuning_split: Annotated[Split, typer.Option(help="Which subjects of a manifest to tune on.")] = Split.validation,
    root: Annotated[Path | None, typer.Option(help="Folder of the manifests' data; by default that of each.")] = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method of the bundle, repeatable; by default unipet.")
    ] = None,
    scan: Annotated[
        Path | None,
        typer.Option(
            help="Measure on this real full-dose scan instead: DICOM folder, zip, DICOMDIR; or NIfTI and JSON."
        ),
    ] = None,
    low: Annotated[
        list[str] | None, typer.Option(metavar="DRF=SCAN", help="Low-dose version of --scan, repeatable: 4=low.nii.gz.")
    ] = None,
    series: Series = None,
    low_series: Annotated[
        list[str] | None,
        typer.Option(metavar="DRF=SERIES", help="The same of a --low, repeatable: 4=7 is number 7 of the study."),
    ] = None,
    bundle: Bundle = None,
    device: Device = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the results of each subject in this folder; killed, the next run goes on.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Also write every scan to this .tsv file; beside it lesions, NAME_lesions.tsv, and dictionaries."
        ),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables to this Markdown file.")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Demands on the first method (YAML): exit code 1 if one is missed.")
    ] = None,
) -> None:
    """Compare methods with the noisy input and the best filters, for each scanner, its voxels, and each dose.

    Each filter gets the setting that is best for the very scan, which favours it, or with --tuning the one that is best
    for other subjects of the same scanner.

    Example: `unipet evaluate data/manifest.yaml --split test --keep results`

    Of folders: `unipet evaluate data/test data/test_tof --tuning data/validation`

    Of a real scan: `unipet evaluate --scan FULL --low 4=LOW4 --low 20=LOW20`
    """
    with errors_in_one_line():
        from pipeline.comparison import check_gate, filters_named, read_gate, result_tables
        from pipeline.comparison.baselines import DEFAULT_FILTERS, Competitors
        from pipeline.engine import Workers, workers_kept
        from pipeline.errors import PETError
        from pipeline.inference import Denoiser

        sources = source or []
        workers = Workers(jobs=jobs, scheduler=scheduler, slurm=slurm)
        for path, suffixes in ((output, (".tsv",)), (markdown, ())):
            if path is not None:
                check_output(path, suffixes=suffixes)
        demands = None if gate is None else read_gate(gate)
        if scan is not None and (sources or demands is not None or keep is not None):
            raise PETError(f"{scan}: --scan was given with manifests, --keep or a gate, expected it alone")
        if scan is None and low:
            raise PETError("--low was given without --scan, expected the full-dose scan that it belongs to")
        if scan is None and (series is not None or low_series):
            raise PETError("--series was given without --scan; in a manifest an image names its series: itself")
        scans = {} if scan is None else _real_scans(scan, series, low or [], low_series or [])
        compared = filters_named(filters or DEFAULT_FILTERS)
        names = list(dict.fromkeys(method or ["unipet"]))
        swaps: dict[str, pd.DataFrame] = {}
        with workers_kept(), progress_bar() as progress:
            cases = [] if scan is not None else _cases(sources, split, root, workers, progress, subjects, drf)
            competitors = Competitors(filters=compared)
            if tuning:
                others = _cases(tuning, tuning_split, root, workers, progress, None, drf)
                competitors = _tuned(cases, others, compared, progress)
            methods = {name: Denoiser.from_bundle(bundle, method=name, device=device) for name in names}
            if scan is not None:
                measurements = _measured_scan(scans, competitors, methods, progress)
                preface = "One real scan: its full-dose image takes the place of the truth, noise and all"
            else:
                kept = None if keep is None else _kept(keep, bundle, competitors, methods)
                measurements = _measured_cases(cases, competitors, methods, kept, workers, progress)
                if demands is not None and demands.style_swap_db is not None:
                    swaps = _style_swaps(cases, methods)
                which = ", ".join(p.resolve().name if p.is_dir() else f"{p.stem}, split {split}" for p in sources)
                preface = f"{len(cases)} subjects ({which}){_doses_that_some_lack(cases)}"
        preface += f"; {_chosen(measurements)}"
        tables = result_tables(measurements, names, style_swaps=swaps)
        lines = [] if demands is None else check_gate(demands, measurements, names[0], style_swap=swaps.get(names[0]))
        print(preface)
        for table in tables:
            print_table(table.title, table.header, table.rows, n_text_columns=table.n_text_columns)
        for line in lines:
            print(line)
        _write(measurements, tables, preface, output, markdown)
        if missed := sum(not line.met for line in lines):
            raise PETError(f"{gate}: {missed} of {len(lines)} demands missed by {names[0]}, expected all met")


def _write(
    measurements: "Measurements",
    tables: "Sequence[ResultTable]",
    preface: str,
    output: Path | None,
    markdown: Path | None,
) -> None:
    from pipeline.comparison import MEASURED_LESION_COLUMNS, MEASURED_SCAN_COLUMNS, as_markdown
    from pipeline.files import write_text
    from pipeline.tables import write_table

    if output is not None:
        lesions = output.with_name(f"{output.stem}_lesions{output.suffix}")
        write_table(measurements.scans, output, columns=MEASURED_SCAN_COLUMNS)
        write_table(measurements.lesions, lesions, columns=MEASURED_LESION_COLUMNS)
    if markdown is not None:
        write_text(markdown, as_markdown(tables, preface=f"{preface}."))


def _cases(
    sources: Sequence[Path],
    split: Split,
    root: Path | None,
    jobs: "Workers",
    progress: Progress,
    subjects: int | None,
    factors: Sequence[float] | None,
) -> "list[Case]":
    from pipeline.comparison import cases_of

    task = progress.add_task("simulating", total=None, visible=False)

    def advance(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=True)

    return cases_of(
        sources, split=split.value, root=root, jobs=jobs, progress=advance, n_subjects=subjects, factors=factors
    )


def _tuned(
    cases: "Sequence[Case]", others: "Sequence[Case]", filters: Sequence[str], progress: Progress
) -> "Competitors":
    from pipeline.comparison import check_other_cases, doses_of, tune_competitors

    check_other_cases(cases, others)
    task = progress.add_task("tuning", total=len(doses_of(others)))
    return tune_competitors(others, filters=filters, on_dose=lambda factor: progress.advance(task))


def _kept(
    folder: Path, bundle: Path | None, competitors: "Competitors", methods: "dict[str, Denoiser]"
) -> "KeptResults":
    """Return the folder of results, and what each method's depend on: settings of filters, weights, configuration."""
    from pipeline.comparison import KeptResults
    from pipeline.files import sha256_of
    from pipeline.shipped import method_files, own_bundle

    place = own_bundle() if bundle is None else bundle
    identities = {"input": "input"}
    for name in competitors.filters:
        identities[name] = repr(sorted(item for item in competitors.tuned.items() if item[0][0] == name))
    for name, denoiser in methods.items():
        files = [place / "configs" / "inference.yaml", *method_files(place, name)]
        identities[name] = " ".join([str(denoiser.weights_sha256), str(denoiser.device), *map(sha256_of, files)])
    return KeptResults(folder, identities)


def _measured_cases(
    cases: "Sequence[Case]",
    competitors: "Competitors",
    methods: "dict[str, Denoiser]",
    kept: "KeptResults | None",
    jobs: "Workers",
    progress: Progress,
) -> "Measurements":
    from pipeline.comparison import evaluate_methods

    task = progress.add_task("measuring", total=len(cases))
    return evaluate_methods(
        cases, methods, competitors=competitors, kept=kept, jobs=jobs, on_case=lambda case: progress.advance(task)
    )


def _style_swaps(cases: "Sequence[Case]", methods: "dict[str, Denoiser]") -> "dict[str, pd.DataFrame]":
    """Swap the styles of the lowest and the highest dose that every subject has, where the gate demands it."""
    from pipeline.comparison import doses_of, has_style, measure_style_swap

    everywhere = [factor for factor in doses_of(cases) if all(factor in case.doses for case in cases)]
    if len(everywhere) < 2:
        return {}
    ends = (everywhere[0], everywhere[-1])
    return {n: measure_style_swap(cases, one, factors=ends) for n, one in methods.items() if has_style(one)}


def _measured_scan(
    scans: "Mapping[float, RealScan]", competitors: "Competitors", methods: "dict[str, Denoiser]", progress: Progress
) -> "Measurements":
    import numpy as np

    from pipeline.comparison import evaluate_scan
    from pipeline.errors import PETError
    from pipeline.pet import read_pet

    full, *low = [read_pet(scan.path, series=scan.series) for scan in scans.values()]
    task = progress.add_task("measuring", total=1 + len(competitors.filters) + len(methods))
    doses = dict(zip(list(scans)[1:], low, strict=True))
    if same := next((factor for factor, dose in doses.items() if np.array_equal(dose.suv, full.suv)), None):
        raise PETError(f"{scans[same].path}: has the voxels of the full dose, expected a scan of DRF {same:g}")
    return evaluate_scan(full, doses, methods, competitors=competitors, on_method=lambda name: progress.advance(task))


def _doses_that_some_lack(cases: "Sequence[Case]") -> str:
    from pipeline.comparison import doses_of

    counts = {factor: sum(factor in case.doses for case in cases) for factor in doses_of(cases)}
    if set(counts.values()) == {len(cases)}:
        return ""
    return "; subjects a dose: " + ", ".join(f"DRF {factor:g}: {n}" for factor, n in counts.items())


def _chosen(measurements: "Measurements") -> str:
    """Say what the settings of the filters were chosen on."""
    filters = measurements.scans[measurements.scans["method"].isin(["gaussian", "nonlocal_means", "bm4d"])]
    names = ", ".join(dict.fromkeys(filters["method"]))
    counts = filters["chosen_on"].value_counts()
    own, other = (int(counts.get(name, 0)) for name in ("this scan", "other subjects"))
    if not other:
        return (
            f"each filter ({names}) has its best setting for each scan, chosen on that scan: this favours the filters"
        )
    if not own:
        return f"settings of the filters ({names}) chosen on other subjects of the same scanner and voxels"
    return (
        f"settings of the filters ({names}) chosen on other subjects of the same scanner and voxels for {other} "
        f"images, and on the scan itself, which favours the filters, for {own} without such subjects"
    )


def _real_scans(full: Path, series: str | None, low: Sequence[str], low_series: Sequence[str]) -> dict[float, RealScan]:
    """Return each dose reduction factor's scan, that of the full dose first."""
    from pipeline.errors import PETError

    paths, chosen = _by_dose("--low", "SCAN", low), _by_dose("--low-series", "SERIES", low_series)
    if not paths:
        raise PETError("--scan was given without --low, expected its low-dose versions as DRF=SCAN")
    if other := next((factor for factor in chosen if factor not in paths), None):
        raise PETError(f"--low-series {other:g}={chosen[other]}: there is no --low of DRF {other:g}, expected one")
    scans = {1.0: RealScan(full, series)}
    scans |= {factor: RealScan(Path(path), chosen.get(factor)) for factor, path in paths.items()}
    return scans


def _by_dose(option: str, what: str, stated: Sequence[str]) -> dict[float, str]:
    """Return what is stated for each dose reduction factor, from DRF=TEXT."""
    from pipeline.errors import PETError

    found: dict[float, str] = {}
    for text in stated:
        factor, _, value = text.partition("=")
        try:
            number = float(factor)
        except ValueError:
            number = 0.0
        if not (value and 1 < number < float("inf")):
            raise PETError(f"{option} {text}: expected DRF={what} with a dose reduction factor above 1, such as 4")
        if number in found:
            raise PETError(f"{option} {text}: DRF {number:g} was given twice, expected one of each dose")
        found[number] = value
    return found
