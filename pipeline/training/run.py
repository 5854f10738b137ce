"""The training that a bundle describes, from its configuration: checked, run, and resumed."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from monai.bundle import ConfigWorkflow

from pipeline.data import Manifest
from pipeline.errors import PETError, causes_of
from pipeline.training.config_check import checked_config

__all__ = ["TrainingResult", "train_bundle"]

_STAGES = ("pretrain", "train")
# What this module asks of a configuration.
_REQUIRED = ("manifest", "dataset_dir", "store_dir", "output_dir", "device", *_STAGES)
# What needs no data: a mistake in stage two must not wait for the end of stage one.
_BUILT_AHEAD = (
    "network",
    "reconstruction_loss",
    "inferer",
    "pretrain#optimizer",
    "train#optimizer",
    "train#critic_optimizer",
    "hand_over",
)


@dataclass(frozen=True)
class TrainingResult:
    """Where a training stands."""

    stages: dict[str, tuple[int, int]]
    """Name -> iterations done, and to do in all."""
    model: Path
    """The weights, once the last stage has validated or saved."""

    @property
    def is_finished(self) -> bool:
        """Whether every stage is at its end."""
        return all(done >= total for done, total in self.stages.values())

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {done}/{total}" for name, (done, total) in self.stages.items())
        return f"{'finished' if self.is_finished else 'not finished'}, iterations: {stages}"


def train_bundle(
    bundle: Path, overlays: Sequence[Path] = (), settings: Sequence[tuple[str, Any]] = ()
) -> TrainingResult:
    """Check a bundle's training, then run it as ``python -m monai.bundle run training`` does.

    Run again, it goes on where it was stopped.

    Parameters
    ----------
    bundle
        Folder with ``configs/train.yaml``.
    overlays
        Configuration files on top of it.
    settings
        Keys and values that come last.

    Raises
    ------
    PETError
        If the configuration is wrong, see :func:`~pipeline.training.config_check.checked_config`; the manifest or the
        data are missing; or the output cannot be written. Then, what training itself refuses.
    """
    base = bundle / "configs" / "train.yaml"
    settings = [("bundle_root", str(bundle.absolute())), *settings]
    config = checked_config(base, overlays, settings)
    if missing := [key for key in _REQUIRED if config.get(key) is None]:
        raise PETError(f"{base}: has no {', '.join(missing)}, expected a training of this package")
    overrides = dict(settings)
    if isinstance(config["device"], str) and not config["device"].startswith(("$", "@")):
        overrides["device"] = _checked_device(config["device"])
    try:
        workflow = ConfigWorkflow(
            config_file=[str(base), *map(str, overlays)], run_id="training", workflow_type="train", **overrides
        )
        parser = workflow.parser
        _check_data(*(parser.get_parsed_content(key) for key in ("manifest", "dataset_dir")))
        output = Path(parser.get_parsed_content("output_dir"))
        for folder in (output, Path(parser.get_parsed_content("store_dir"))):
            _check_writable(folder)
        for key in _BUILT_AHEAD:
            if key in parser:
                parser.get_parsed_content(key)
        workflow.initialize()  # forgets what was built so far, and seeds
        trainers = {name: parser.get_parsed_content(f"{name}#trainer") for name in _STAGES}
    except Exception as error:  # whatever a component or an expression makes of what the configuration gives it
        _raise_mistake(error, Exception)
    try:
        workflow.run()
        stages = {}
        for name, trainer in trainers.items():
            state = trainer.state
            stages[name] = (state.iteration, state.epoch_length * state.max_epochs)
        workflow.finalize()
    except (RuntimeError, ModuleNotFoundError) as error:
        _raise_mistake(error, (ValueError, TypeError, ModuleNotFoundError))
    return TrainingResult(stages, output / "model.pt")


def _checked_device(name: str) -> str:
    """Expression of a device that exists."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise PETError(f"device is {name!r}, expected one of this machine, such as cpu") from error
    return f"$torch.device({str(device)!r})"


def _check_data(manifest: str | Path, root: str | Path) -> None:
    """Refuse a manifest that is none or lacks a split, and a folder of data that does not exist."""
    described = Manifest.from_file(manifest)
    if described.recipe is not None:
        return  # its subjects are simulated where they are missing
    if not Path(root).is_dir():
        raise PETError(f"{root}: no such folder, expected dataset_dir, the data that {manifest} describes")
    for split in ("train", "validation"):
        if not described.of_split(split):
            raise PETError(f"{manifest}: has no subject of split {split}, expected at least one")


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PETError(f"{folder}: cannot be written ({reason}), expected a folder for results") from error


def _raise_mistake(error: BaseException, kinds: type[Exception] | tuple[type[Exception], ...]) -> NoReturn:
    """Raise what the user did wrong, beneath MONAI's wrapping; the error itself if its cause is of no such kind."""
    causes = causes_of(error)
    for cause in causes:
        if isinstance(cause, PETError | OSError):
            raise cause
    if not isinstance(causes[-1], kinds):
        raise error
    # MONAI's sentence around it is of use to its developers; what a user can look up is the component's name.
    component = re.search(r"component '([^']+)'", str(error))
    where = component[1] if component else " ".join(str(error).split())[:200]
    raise PETError(
        (f"{where}: " if len(causes) > 1 else "") + (" ".join(str(causes[-1]).split()) or type(causes[-1]).__name__)
    ) from error
