"""Count the files of the package that one has to read to follow three journeys through it.

A file counts if one of its functions is called on the way. What runs because a module is imported does not count.
Run with the folder of a DICOM PET series, and for the third journey with a training store::

    PYTHONPATH=. python studies/journeys.py DICOM_FOLDER [--store STORE] [--only suv]
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pipeline

__all__ = ["LIMITS", "denoise_journey", "entered_files", "suv_journey", "training_journey"]

PACKAGE = Path(pipeline.__file__).parent

LIMITS = {"suv": 12, "denoise": 98, "training": 23}
"""Files that each journey may enter. A result is judged, shown and given to viewers, each in a room of its own."""


def entered_files(journey: Callable[[], object]) -> list[str]:
    """Return the files of the package whose functions a journey calls, in the order of their first call."""
    entered: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name not in entered and name.startswith(f"{PACKAGE}/") and not _is_of_import(frame):
            entered[name] = None

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        journey()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return [str(Path(name).relative_to(PACKAGE)) for name in entered]


def _is_of_import(frame: FrameType | None) -> bool:
    """Return whether a call is made by a module that is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(f"{PACKAGE}/"):
            return True
        frame = frame.f_back
    return False


def suv_journey(folder: Path) -> list[str]:
    """Return the files on the way from the headers of a DICOM series to its SUV factor."""
    from pipeline.pet import explain_suv

    return entered_files(lambda: explain_suv(folder))


def denoise_journey(folder: Path) -> list[str]:
    """Return the files on the way of ``unipet denoise`` from a DICOM series to a denoised one and its report."""
    from typer.testing import CliRunner

    import pipeline.inference
    import pipeline.workflow.denoise  # noqa: F401 - imported before, because imports do not count and take seconds
    from pipeline.cli import app

    with tempfile.TemporaryDirectory() as output:
        arguments = ["denoise", str(folder), str(Path(output, "denoised"))]
        return entered_files(lambda: CliRunner().invoke(app, arguments, catch_exceptions=False))


def training_journey(store: Path) -> list[str]:
    """Return the files on the way from a store to the first gradient step of UniPET, with all its losses."""
    import torch
    from monai.transforms import Compose

    from pipeline.data import PatchDataset, Store
    from pipeline.losses import ReconstructionLoss
    from pipeline.networks import PatchCritic, UniPET
    from pipeline.training import DenoisingTrainer, MeasureNoised, ResumableLoader, fit_noise
    from pipeline.transforms import KeepLargeScaled, RandInsertLesiond, RandReconstructiond, ScaleSUVd

    keys, opened = ["image", "label"], Store(store)
    network, critic = UniPET(channels=8, style="statistics", local_noise=True), PatchCritic(widths=[8, 8])
    patches = PatchDataset(
        opened,
        split="train",
        patch_size=[16, 16, 16],
        n_patches=2,
        n_scans=2,
        scan_transform=Compose(
            [RandReconstructiond(keys=keys), RandInsertLesiond(keys=keys, prob=1.0), KeepLargeScaled(keys=keys)]
        ),
        measure=MeasureNoised(network, suv_scale=2.0),
        transform=ScaleSUVd(keys=keys, suv_scale=2.0),
    )

    def step() -> None:
        fit_noise(network, patches, n_scans=2)
        DenoisingTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=ResumableLoader(patches, batch_size=2, seed=0),
            network=network,
            optimizer=torch.optim.Adam(network.parameters()),
            loss=ReconstructionLoss(),
            style_weight=1e-3,
            adversarial_weight=1e-3,
            suv_scale=2.0,
            critic=critic,
            critic_optimizer=torch.optim.Adam(critic.parameters()),
        ).run()

    return entered_files(step)


def main() -> None:
    """Print the files of each journey."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--only", choices=LIMITS)
    options = parser.parse_args()
    journeys = {"suv": (suv_journey, options.folder), "denoise": (denoise_journey, options.folder)}
    if options.store is not None:
        journeys["training"] = (training_journey, options.store)
    for name, (journey, source) in journeys.items():
        if options.only in {None, name}:
            files = journey(source)
            print(f"{name}: {len(files)} files, at most {LIMITS[name]}", *files, "", sep="\n  ")


if __name__ == "__main__":
    main()
