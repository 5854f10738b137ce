"""A validation scan, side by side: what goes in, what comes out, what should."""

from typing import Any, cast

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from pipeline.images.projections import maximum_projection

__all__ = ["ValidationPicture", "coronal_projections"]


def coronal_projections(volumes: list[NDArray[np.floating]], *, black: float) -> NDArray[np.float32]:
    """Return coronal maximum projections of volumes (X, Y, Z) beside each other: a picture (Z, n X).

    The head is up and the patient's right on the left, as in the report.
    Values are 1 (white) at 0 and 0 (black) at ``black`` and above, as PET is read.
    """
    projections = [maximum_projection(volume, "coronal") for volume in volumes]
    grey = 1 - np.clip(np.concatenate(projections, axis=1) / black, 0, 1)
    return grey.astype(np.float32)


class ValidationPicture:
    """Keeps, of every run of an evaluator, one scan's projections: image, prediction, label.

    Parameters
    ----------
    evaluator
        Engine whose output has the keys ``image``, ``pred``, ``label``, as MONAI's evaluators have.
    item
        Which of the validation items, from 0; the last one where there are fewer.
    black
        Value, in the evaluator's units, from which a pixel is black.

    Attributes
    ----------
    pixels
        Picture (Z, 3 X) of values 0 (black) to 1; None until the evaluator has run.
    """

    def __init__(self, evaluator: Engine, *, item: int = 0, black: float = 3.5) -> None:
        self.evaluator = evaluator
        self.item = item
        self.black = black
        self.pixels: NDArray[np.float32] | None = None
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep)

    def _keep(self, engine: Engine) -> None:
        if engine.state.iteration > self.item + 1:
            return
        output: Any = cast(Any, engine.state.output)
        if isinstance(output, list):  # decollated
            output = output[0]
        volumes = [np.asarray(output[key].detach().float().cpu()) for key in ("image", "pred", "label")]
        volumes = [volume.reshape(-1, *volume.shape[-3:])[0] for volume in volumes]
        self.pixels = coronal_projections(volumes, black=self.black)
