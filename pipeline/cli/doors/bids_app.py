"""Command `unipet bids-app`."""

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from pipeline.cli.console import Bundle, Deidentify, Device, Method, Weights, console, errors_in_one_line

__all__ = ["BIDSAppCommand", "bids_app", "spread"]

_SEVERAL = ("--participant-label", "--participant_label")


class BIDSAppCommand(TyperCommand):
    """A command whose options take several values, ``--participant-label 01 02``, as those of BIDS apps do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give every value its option, which is what click understands."""
        return super().parse_args(ctx, list(spread(args, _SEVERAL)))


def spread(words: Sequence[str], options: Collection[str]) -> Iterator[str]:
    """Yield ``--option A --option B`` for ``--option A B``."""
    current: str | None = None
    n_values = 0
    for word in words:
        if word.startswith("-"):
            current, n_values = (word if word in options else None), 0
        elif current is not None:
            if n_values:
                yield current
            n_values += 1
        yield word


def bids_app(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="BIDS data set with PET.")],
    output_dir: Annotated[Path, typer.Argument(metavar="OUTPUT_DIR", help="BIDS derivative: new, or one to add to.")],
    level: Annotated[str, typer.Argument(metavar="participant|group", help="One after the other, in this order.")],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(*_SEVERAL, metavar="LABEL...", help="Participants, with or without sub-. [default: all]"),
    ] = None,
    method: Method = "unipet",
    weights: Weights = None,
    bundle: Bundle = None,
    device: Device = None,
    deidentify: Deidentify = False,
) -> None:
    """Denoise the PET of a BIDS data set into a BIDS derivative, as BIDS apps are run.

    The level participant denoises every PET image of the participants; what is there already is kept, and one that
    cannot be denoised does not stop the others. Runs of several participants may work in one folder at the same time.
    The level group puts what is there into tables and one page.

    Example: `unipet bids-app study/ study/derivatives/unipet participant --participant-label 01 02`
    """
    with errors_in_one_line(), console.status("starting") as status:
        from pipeline.doors import LEVELS, ParticipantScans, participant_scans
        from pipeline.errors import PETError, one_line

        if level not in LEVELS:
            raise PETError(f"level {level!r}, expected participant or group")
        scans, without = participant_scans(bids_dir, participant_label or ())
        for label in without:
            print(f"sub-{label}: has no PET image", file=sys.stderr)

        from pipeline.cli.denoise import denoise_several
        from pipeline.cohort import CohortRun
        from pipeline.inference import Denoiser
        from pipeline.pet import DicomOptions
        from pipeline.workflow import DenoiseOptions

        work = CohortRun(
            ParticipantScans(bids_dir, scans, output_dir),
            Denoiser.from_bundle(bundle, method=method, device=device, weights=weights),
            options=DenoiseOptions(dicom=DicomOptions(deidentify=deidentify)),
            layout="bids",
            retry_failed=True,
            has_summary=False,
            shared=True,
            on_step=lambda path, step: status.update(escape(f"{one_line(path.name)}: {step}")),
        )
        if level == "participant":
            denoise_several(work, status)
        else:
            print(f"{output_dir / 'cohort.html'}: {work.summarise()}")
