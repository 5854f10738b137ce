"""Commands `unipet cohort`, `unipet cohort status` and `unipet cohort report`."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.cli.cohort.options import with_options_of
from pipeline.cli.console import Jobs, Scheduler, Slurm, errors_in_one_line, progress_bar, seconds_so_far
from pipeline.cli.denoise import denoise, repeat_rule

if TYPE_CHECKING:
    from pipeline.cohort import CohortPlan, CohortRun
    from pipeline.workflow import ScanOutcome

__all__ = ["cohort"]

_OF_A_SCAN = (
    *("method", "weights", "drf", "bundle", "device", "strength", "regions", "threshold", "min_volume"),
    *("repeats", "repeat_maps", "scanner", "seed", "reconstructor", "layout", "viewer", "turning", "series"),
    *("units", "private", "deidentify"),
)
"""Options of `unipet denoise` that a cohort has, too."""

_SHOWN = 10
"""Failures that are printed; all are in the table."""


class _RunUnlessNamed(TyperGroup):
    """Commands of which `run` needs no name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name in front, where none stands."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


cohort = typer.Typer(
    cls=_RunUnlessNamed,
    no_args_is_help=True,
    help="Denoise every scan of a cohort, once, whatever ends it: `unipet cohort INPUT OUT`, which is "
    "`unipet cohort run INPUT OUT`. What is done is kept, so the same command goes on.",
)

Output = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of results of `unipet cohort`.")]


@cohort.command()
@with_options_of(denoise, _OF_A_SCAN)
def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Folder of scans, BIDS data set, list of paths (.txt) or manifest (.yaml)."
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of results: new, or that of an earlier run.")],
    root: Annotated[Path | None, typer.Option(help="Folder of a manifest's data; by default that of it.")] = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    part: Annotated[
        str, typer.Option(metavar="i/n", help="Only this part of the scans, such as of a job array.")
    ] = "1/1",
    report: Annotated[
        bool, typer.Option(help="Write a page for each scan, too, which takes about half of the time.")
    ] = (True),
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try scans again that failed, though nothing of theirs has changed.")
    ] = False,
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the scans that may fail before the exit code is 1.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and do nothing.")] = False,
    **options: Any,
) -> None:
    """Denoise every scan into a folder of its own in OUT; write tables and a page of all.

    What is done is kept, and made anew if source, method, weights or options changed. A scan that cannot be denoised
    does not stop the others, and is not tried again until its files change. It may be ended at any moment, by any
    signal: the same command goes on.

    Example: `unipet cohort scans/ results/ --jobs 4`, `unipet cohort study/ results/ --part 3/20`
    """
    with errors_in_one_line():
        from pipeline.cohort import CohortRun, Part, scans_in
        from pipeline.engine import Workers

        denoiser, scan_options = _denoising(report=report, **options)
        work = CohortRun(
            scans_in(source, output, root=root),
            denoiser,
            series=options["series"],
            options=scan_options,
            layout=options["layout"].value,
            where=Workers(jobs=jobs, scheduler=scheduler, slurm=slurm),
            part=Part.read(part),
            retry_failed=retry_failed,
        )
        if dry_run:
            _print_plan(*work.plan())
            return
        counts, n_failed = _run(work)
        print(f"{output}: {_told(counts)}, {seconds_so_far():.0f} s")
        if counts["elsewhere"]:
            print(f"unipet: {counts['elsewhere']} scans are being denoised by another run", file=sys.stderr)
        total = sum(counts.values())
        if n_failed > max_failed * total:
            print(f"unipet: {n_failed} of {total} scans failed, see {output / 'failed.tsv'}", file=sys.stderr)
        if n_failed > max_failed * total or counts["elsewhere"]:
            raise typer.Exit(1)


@cohort.command()
def status(output: Output, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Print how many scans are done, failed, running and pending.

    Example: `unipet cohort status results/ --json`
    """
    with errors_in_one_line():
        from json import dumps

        from pipeline.cohort import cohort_status

        found = cohort_status(output)
        print(dumps(asdict(found)) if json else found)


@cohort.command()
def report(output: Output) -> None:
    """Write the tables and the page of what is done so far.

    Example: `unipet cohort report results/`
    """
    with errors_in_one_line():
        from pipeline.cohort import cohort_status, write_summary

        write_summary(output)
        print(f"{output / 'cohort.html'}: {cohort_status(output)}")


def _run(work: "CohortRun") -> tuple[Counter[str], int]:
    """Denoise, show how far it is and print failures; return how many scans had which outcome, and how many failed."""
    from pipeline.errors import one_line

    counts: Counter[str] = Counter()
    with progress_bar() as progress:
        task = progress.add_task("denoising", total=work.n_scans)
        for outcome in work.outcomes():
            counts[outcome.status] += 1
            progress.advance(task)
            if outcome.status == "failed" and counts["failed"] <= _SHOWN:
                print(f"failed: {one_line(outcome.scan.name)}: {outcome.refusal}", file=sys.stderr)
    return counts, counts["failed"]


def _print_plan(known: "list[ScanOutcome]", plan: "CohortPlan") -> None:
    counts = Counter(outcome.status for outcome in known)
    print(f"{counts['there']} done, {counts['failed']} failed; {plan}")


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "no scan in this part"


def _denoising(*, report: bool, **given: Any) -> tuple[Any, Any]:
    """Return how the denoiser is made, and what is done alike to every scan."""
    from pipeline.inference import DenoiserRecipe
    from pipeline.pet import DicomOptions
    from pipeline.workflow import DenoiseOptions, RegionRule

    recipe = DenoiserRecipe(
        bundle=given["bundle"],
        method=given["method"],
        device=given["device"],
        weights=given["weights"],
        strength=given["strength"],
        dose_reduction_factor=given["drf"],
    )
    options = DenoiseOptions(
        regions=RegionRule(delineation=given["regions"], threshold=given["threshold"], min_volume=given["min_volume"]),
        repeats=repeat_rule(
            given["repeats"],
            maps=given["repeat_maps"],
            seed=given["seed"],
            scanner=given["scanner"],
            reconstructor=given["reconstructor"],
        ),
        dicom=DicomOptions(units=given["units"].upper(), keep_private=given["private"], deidentify=given["deidentify"]),
        report=report,
        viewer=given["viewer"],
        turning=given["turning"],
    )
    return recipe, options
