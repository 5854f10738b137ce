"""TensorBoard: losses, learning rate, validation metrics and a validation scan."""

import logging
from pathlib import Path
from typing import Any, cast

from ignite.engine import Engine, Events
from torch.optim import Optimizer

from pipeline.training.distributed import is_main_process
from pipeline.training.validation_picture import ValidationPicture

__all__ = ["TensorBoardLog"]

logger = logging.getLogger(__name__)


class TensorBoardLog:
    """Handler that writes TensorBoard event files; where TensorBoard is not installed, it says so once and rests.

    Steps are iterations. After an interruption, what had been written past the checkpoint is superseded.

    Parameters
    ----------
    folder
        Folder of the event files.
    optimizer
        Its learning rate is shown; None: none.
    picture
        Picture of the evaluator whose metrics are shown beside it; None: neither.
    interval
        Iterations between values of the losses.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        optimizer: Optimizer | None = None,
        picture: ValidationPicture | None = None,
        interval: int = 10,
    ) -> None:
        self.folder = Path(folder)
        self.optimizer = optimizer
        self.picture = picture
        self.interval = interval
        self.writer: Any = None

    def attach(self, engine: Engine) -> None:
        if not is_main_process():
            return
        try:
            import torch.utils.tensorboard  # noqa: F401 (an optional package, and slow to import)
        except ImportError:
            logger.warning("tensorboard is not installed, so nothing is written to %s", self.folder)
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._write_losses)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_validation)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)

    def _open(self, engine: Engine) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=engine.state.iteration + 1)

    def _write_losses(self, engine: Engine) -> None:
        output = cast(dict[str, Any], engine.state.output)
        step = engine.state.iteration
        for name, value in {"loss": output["loss"], **output.get("losses", {})}.items():
            self.writer.add_scalar(f"train/{name}", float(value), step)
        if self.optimizer is not None:
            self.writer.add_scalar("train/learning_rate", self.optimizer.param_groups[0]["lr"], step)

    def _write_validation(self, engine: Engine) -> None:
        if self.picture is None or self.picture.evaluator.state.epoch != engine.state.epoch:
            return
        step = engine.state.iteration
        for name, value in self.picture.evaluator.state.metrics.items():
            self.writer.add_scalar(f"validation/{name}", float(value), step)
        if self.picture.pixels is not None:
            self.writer.add_image("validation/low_denoised_full", self.picture.pixels, step, dataformats="HW")
        self.writer.flush()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _close_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._close()
        raise error
