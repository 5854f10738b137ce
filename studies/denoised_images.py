"""Images denoised by the shipped weights, kept between runs of a study."""

from pathlib import Path

import numpy as np

from pipeline.pet import PETSeries


def denoised_image(series: PETSeries, kept: Path | None) -> np.ndarray:
    """SUV of a denoised series, shape (X, Y, Z) [g/mL]: from a .npy file, or made and kept there, unless it is None."""
    if kept is not None and kept.exists():
        return np.load(kept)
    from pipeline.inference import Denoiser  # imports torch

    suv = Denoiser.from_bundle(device="cpu")(series).suv.astype(np.float32)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, suv)
    return suv
