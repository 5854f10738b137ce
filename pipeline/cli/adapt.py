"""Command `unipet adapt`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import Bundle, Device, Scanner, Series, errors_in_one_line

__all__ = ["adapt"]


def adapt(
    scans: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCANS...", help="Full-dose scans, 1 to 50: DICOM, zip, NIfTI, folders, BIDS, manifests."
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Bundle to make; OUT.work beside it while it runs.")],
    scanner: Scanner = "generic",
    drf: Annotated[
        list[float] | None,
        typer.Option(help="Dose reduction factor of inserted noise, repeatable; else 4, 10, 20, 100."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise, of who is held out, of the training.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Scans that noise is inserted into at once.")] = 2,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value of the training, repeatable.")
    ] = None,
    allow_noisy: Annotated[
        bool, typer.Option("--allow-noisy", help="Also take scans that are noisier than a full dose is.")
    ] = False,
    series: Series = None,
    bundle: Bundle = None,
    device: Device = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Save and end after this many seconds; run again to go on.")
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where in the code an error was met.")] = False,
) -> None:
    """Fine-tune the weights on a site's own full-dose scans; keep them only if held-out scans gain and lose nothing.

    Killed at any moment, the same command goes on.

    Example: `unipet adapt scans/ site/`, then `unipet denoise scan/ result/ --bundle site/`
    """
    with nullcontext() if traceback else errors_in_one_line():
        from pipeline.adaptation import AdaptationSettings
        from pipeline.adaptation import adapt as adapt_bundle
        from pipeline.simulation import check_dose_reduction_factors, scanner_preset
        from pipeline.training import parse_setting

        chosen = AdaptationSettings(
            bundle=bundle,
            scanner=scanner_preset(scanner),
            dose_reduction_factors=tuple(check_dose_reduction_factors(drf or (4.0, 10.0, 20.0, 100.0))),
            seed=seed,
            overrides=tuple(parse_setting(text) for text in settings or ()),
            series=series,
            allow_noisy=allow_noisy,
            jobs=jobs,
            device=device,
            time_limit=time_limit,
        )
        print(f"unipet: {adapt_bundle(scans, output, chosen, on_step=lambda step: print(step, flush=True))}")
