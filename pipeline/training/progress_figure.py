"""progress.png: losses, validation metrics and a validation scan, to look at while a training runs."""

from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.files import replaced_file
from pipeline.images.projections import maximum_projection
from pipeline.training.distributed import is_main_process
from pipeline.training.progress import progress_rows

__all__ = ["ProgressFigure", "ValidationPicture", "coronal_projections"]

Curves = dict[str, list[tuple[int, float]]]


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

    The evaluator's output has the keys ``image``, ``pred``, ``label``, as MONAI's evaluators have. `item` is the
    validation item, from 0; the last one where there are fewer. From `black`, in the evaluator's units, a pixel is
    black. The attribute `pixels` is a picture (Z, 3 X) of values 0 (black) to 1; None until the evaluator has run.
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


class ProgressFigure:
    """Handler that rewrites a figure after each validation from the table of an :class:`EpochLog`.

    The table outlives an interruption, so the figure shows the whole stage. Put the handler after the log. The PNG file
    is the old figure or the complete new one at any moment. The metrics of the evaluator of `picture` are curves of
    their own, and the figure is drawn after its runs.
    """

    def __init__(self, path: str | Path, *, table: str | Path, stage: str, picture: ValidationPicture) -> None:
        self.path = Path(path)
        self.table = Path(table)
        self.stage = stage
        self.picture = picture

    def attach(self, engine: Engine) -> None:
        """Draw after every epoch of an engine."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: Engine) -> None:
        evaluator = self.picture.evaluator
        if not is_main_process() or evaluator.state.epoch != engine.state.epoch:
            return
        curves: Curves = defaultdict(list)
        for row in progress_rows(self.table):
            if row.stage == self.stage:
                curves[row.name].append((row.epoch, row.value))
        metrics = {name: curves.pop(name, []) for name in evaluator.state.metrics}
        figure = Figure(figsize=(14, 4.5), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        figure.suptitle(f"{self.stage}, epoch {engine.state.epoch} of {engine.state.max_epochs}")
        _plot(left, curves, title="losses, mean of an epoch")
        # What the critic minimises has both signs and runs over decades.
        left.set_yscale("symlog", linthresh=1e-3)
        _plot(middle, metrics, title="validation")
        middle.ticklabel_format(axis="y", useOffset=False)
        right.set_axis_off()
        right.set_title("low dose, denoised, full dose")
        if self.picture.pixels is not None:
            right.imshow(self.picture.pixels, cmap="gray", vmin=0, vmax=1)
        with replaced_file(self.path) as temporary:
            FigureCanvasAgg(figure).print_png(temporary)


def _plot(axes: Axes, curves: Curves, *, title: str) -> None:
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
