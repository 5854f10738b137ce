"""Command `unipet denoise`."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.status import Status

from pipeline.cli.console import (
    Bundle,
    Deidentify,
    Device,
    Method,
    Private,
    Reconstructor,
    Scanner,
    Series,
    Strength,
    Units,
    Weights,
    console,
    errors_in_one_line,
    print_warnings,
    seconds_so_far,
)

if TYPE_CHECKING:
    from pipeline.cohort import CohortRun
    from pipeline.workflow import RepeatRule, ScanResult

__all__ = ["denoise", "denoise_several", "repeat_rule"]


class Layout(StrEnum):
    """How results lie in OUT."""

    folders = "folders"
    bids = "bids"


def denoise(
    source: Annotated[
        list[Path],
        typer.Argument(metavar="SCAN...", help="DICOM series or study: folder, zip, DICOMDIR; or NIfTI and JSON."),
    ],
    output: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder to create; each of several scans gets one of its own in it."),
    ],
    method: Method = "unipet",
    weights: Weights = None,
    drf: Annotated[
        float | None,
        typer.Option(help="Dose reduction factor, for a method that must know it; by default read from the noise."),
    ] = None,
    bundle: Bundle = None,
    device: Device = None,
    strength: Strength = None,
    regions: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="smoothed: from --threshold on after a Gaussian of 8 mm, so that noise forms none; or a published "
            "rule on the images as they are: suv2.5, suv4, 41%, 50% (of SUVmax; other numbers, too), adaptive, percist "
            "(by the liver), percist-blood. [default: smoothed; --lesions as drawn]",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="SUV from which voxels form regions, of smoothed [g/mL]. [default: 4]")
    ] = None,
    min_volume: Annotated[
        float | None,
        typer.Option(help="Smaller regions are left out [mL]; not of --lesions as drawn. [default: 1]"),
    ] = None,
    percist_reference: Annotated[
        str | None,
        typer.Option(
            metavar="MASK or NUMBERS",
            help="The organ of percist: a mask; MEAN,SD [g/mL]; or X,Y,Z of the centre to measure around, RAS+ [mm]. "
            "[default: the liver that is found]",
        ),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="Physiological uptake, which belongs to no region: label map, DICOM SEG or RTSTRUCT."),
    ] = None,
    exclude_name: Annotated[
        list[str] | None,
        typer.Option(help="Of --exclude, the region of this name or number; repeatable. [default: all]"),
    ] = None,
    lesions: Annotated[
        Path | None,
        typer.Option(
            help="Regions that somebody drew, in place of those: label map, DICOM SEG or RTSTRUCT; with --regions the "
            "volumes in which that rule draws."
        ),
    ] = None,
    lesion_name: Annotated[
        list[str] | None,
        typer.Option(help="Of --lesions, the region of this name or number; repeatable. [default: all]"),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            help="Repeat the scan so often by simulation, denoise each, and state the bias and the spread that show; "
            "0 or at least 2."
        ),
    ] = 0,
    repeat_maps: Annotated[
        bool, typer.Option("--repeat-maps", help="Write what repeats say of every voxel, too: four NIfTI volumes.")
    ] = False,
    scanner: Scanner = "generic",
    ct: Annotated[Path | None, typer.Option(help="CT of the examination, for --repeats; else the body is water.")] = (
        None
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of --repeats: the same seed and scan give the same.")] = 0,
    reconstructor: Reconstructor = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="folders is OUT, or a folder in it for each of several scans; bids adds the scans to OUT, a BIDS "
            "derivative data set."
        ),
    ] = Layout.folders,
    reference: Annotated[Path | None, typer.Option(help="Full-dose scan of the same grid: print PSNR, too.")] = None,
    viewer: Annotated[
        bool, typer.Option("--viewer", help="Write viewer.html, too: both images and the regions, to turn over.")
    ] = False,
    turning: Annotated[
        bool, typer.Option("--turning", help="Let projections turn in report.html, half a megabyte.")
    ] = False,
    series: Series = None,
    units: Units = "BQML",
    private: Private = True,
    deidentify: Deidentify = False,
) -> None:
    """Denoise whole-body scans; write NIfTI, DICOM, lesion table, report and run record of each.

    Of several scans, one that cannot be denoised does not stop the others, and what is in OUT already is kept. So it is
    in a data set, to which any later run adds scans.

    Example: `unipet denoise scan_folder/ result/`, `unipet denoise monday.zip tuesday.zip results/`
    """
    with errors_in_one_line(), console.status("starting") as status:
        from pipeline.cohort import CohortRun, ScanList
        from pipeline.errors import PETError, one_line
        from pipeline.inference import Denoiser
        from pipeline.pet import DicomOptions, read_pet
        from pipeline.workflow import DenoiseOptions, RegionRule, denoise_scan

        dicom = DicomOptions(units=units.upper(), keep_private=private, deidentify=deidentify)
        rule = RegionRule(
            delineation=regions,
            threshold=threshold,
            min_volume=min_volume,
            exclude=exclude,
            exclude_names=tuple(exclude_name or ()),
            percist_reference=None if percist_reference is None else _numbers_or_path(percist_reference),
            given=lesions,
            names=tuple(lesion_name or ()),
        )
        of_one = reference is not None or rule.belongs_to_one_scan
        named = "--reference, --lesions, --exclude and --percist-reference"
        if len(source) > 1 and (of_one or ct is not None):
            raise PETError(f"{named} and --ct belong to one scan, expected one")
        if layout == "bids" and of_one:
            raise PETError(f"{named} belong to a folder of its own, expected no --layout bids")
        repeated = repeat_rule(
            repeats, maps=repeat_maps, seed=seed, scanner=scanner, ct=ct, reconstructor=reconstructor
        )
        denoiser = Denoiser.from_bundle(
            bundle,
            method=method,
            device=device,
            weights=weights,
            strength=strength,
            on_progress=lambda p: status.update(f"denoising, {p.done:.0%} done, {p.seconds_left:.0f} s left"),
        )
        if drf is not None:
            if not denoiser.knows_dose:
                raise PETError(f"--drf {drf:g} was given, but {method} asks for no dose, expected none")
            denoiser = denoiser.at_dose(drf)
        if len(source) > 1 or layout == "bids":
            work = CohortRun(
                ScanList(source, output),
                denoiser,
                series=series,
                options=DenoiseOptions(regions=rule, repeats=repeated, dicom=dicom, viewer=viewer, turning=turning),
                layout=layout.value,
                retry_failed=True,
                has_summary=False,
                on_step=lambda path, step: status.update(escape(f"{one_line(path.name)}: {step}")),
            )
            if layout == "folders":
                _check_holds_results(output)
            denoise_several(work, status)
            return
        full_dose = None if reference is None else read_pet(reference)
        result = denoise_scan(
            source[0],
            output,
            denoiser,
            series=series,
            regions=rule,
            repeats=repeated,
            reference=full_dose,
            dicom=dicom,
            viewer=viewer,
            turning=turning,
            on_step=status.update,
        )
        status.stop()
        _print_result(result)
        if full_dose is not None:
            before, after = (_decibel(result.run[key]) for key in ("psnr_input_db", "psnr_output_db"))
            print(f"PSNR against the reference (peak 20 SUV): input {before}, output {after}")
        print(f"{output / 'report.html'} written in {seconds_so_far():.0f} s")


def repeat_rule(
    repeats: int, *, maps: bool, seed: int, scanner: str, reconstructor: str | None, ct: Path | None = None
) -> "RepeatRule | None":
    """Return how often a scan is repeated, and as on which scanner; None if it is not.

    Raises
    ------
    PETError
        Something is given that belongs to repeats, and there are none; or the scanner is not known.
    """
    from pipeline.errors import PETError
    from pipeline.simulation import scanner_preset
    from pipeline.workflow import RepeatRule

    if repeats:
        preset = scanner_preset(scanner)
        return RepeatRule(n=repeats, seed=seed, scanner=preset, ct=ct, maps=maps, device=reconstructor)
    if maps or ct is not None or scanner != "generic" or reconstructor is not None:
        raise PETError("--repeat-maps, --ct, --scanner and --reconstructor belong to --repeats, expected it, too")
    return None


def _numbers_or_path(text: str) -> "Path | tuple[float, ...]":
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        return Path(text)


def _check_holds_results(output: Path) -> None:
    """Refuse a folder with anything else: whoever forgets OUT names a scan in its place."""
    from pipeline.errors import PETError
    from pipeline.pet.derived_files import COHORT_FILES

    there = sorted(output.iterdir()) if output.is_dir() else []
    others = [path for path in there if not any(path.match(pattern) for pattern in (".*", *COHORT_FILES))]
    if other := next((path for path in others if not (path / "run.json").is_file()), None):
        raise PETError(f"{output}: holds {other.name}, which is no result, expected a new folder or one of results")


def denoise_several(work: "CohortRun", status: Status) -> None:
    """Denoise several scans, and print what becomes of each; raise a PETError in the end if some were left out."""
    from pipeline.cohort import check_all_denoised
    from pipeline.errors import PETError, one_line

    refused: list[str] = []
    n_scans = len(list(work.scans))
    for outcome in work.outcomes():
        name = one_line(str(outcome.scan.path))
        if outcome.files is None and n_scans == 1:
            raise PETError(outcome.refusal)
        if outcome.files is None:
            refused.append(outcome.refusal)
            print(f"left out: {outcome.refusal}", file=sys.stderr)
        elif outcome.status == "there":
            print(f"{name}: is in {outcome.files.folder} already")
        else:
            _print_record(outcome.files.scan, outcome.files.record())
            anew = ", in place of one of another scan, method or options" if outcome.status == "made anew" else ""
            print(f"{name}: written to {outcome.files.folder}{anew}")
    status.stop()
    check_all_denoised(refused, n_scans)


def _print_result(result: "ScanResult") -> None:
    _print_record(result.name, result.run, units=result.before.header.units)


def _print_record(name: str, run: Mapping[str, Any], *, units: str = "") -> None:
    shape = " x ".join(map(str, run["shape"]))
    stored = f", Units {units}" if units else ""
    if run["suvbw_factor"] is not None:
        stored += f", SUVbw factor {run['suvbw_factor']:.6g} g/mL per stored unit"
    print(f"{name}: {shape} voxels{stored}, {run['n_regions']} regions")
    print_warnings(run)
    for line in run["trust"]["not_stated"]:
        print(f"not stated: {line}")


def _decibel(value: float | None) -> str:
    return "infinite (equal images)" if value is None else f"{value:.2f} dB"
