"""The training that a bundle describes, from its configuration: checked, run, and resumed."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from logging.config import fileConfig
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from monai.bundle import ConfigParser

from pipeline.data import Manifest
from pipeline.errors import PETError, causes_of
from pipeline.files import read_yaml, write_text
from pipeline.shipped import method_files
from pipeline.training.config_check import checked_config, needed_keys
from pipeline.training.distributed import is_main_process
from pipeline.training.stage import Stage
from pipeline.training.time_limit import TimeIsOver

__all__ = ["TrainingResult", "run_stages", "train_bundle"]

_REQUIRED = ("manifest", "dataset_dir", "store_dir", "output_dir", "device", "stages", "training")
# What may differ between two runs of one training, and changes no result.
_WITHOUT_BEARING = {
    "bundle_root",
    "work_folder",
    "output_dir",
    "time_limit",
    "device",
    "jobs",
    "num_workers",
    "loader",
    "kept_dir",
}
# Of these a person who writes a method needs the place in the code. Other errors say what value was refused.
_OF_PROGRAMMERS = (AttributeError, NameError, AssertionError, NotImplementedError, SyntaxError)


@dataclass(frozen=True)
class TrainingResult:
    """Where a training stands."""

    stages: dict[str, tuple[int, int]]
    """Name -> iterations done, and to do in all."""
    model: Path
    """Where the weights go, once the last stage has validated or saved."""
    n_new: int = 0
    """Iterations that this run has done."""
    changed: tuple[str, ...] = ()
    """Keys of the configuration that differ from those of the run before in the same folder."""
    stopped: str = ""
    """What came before the first stage, if the time was over there."""

    @property
    def is_finished(self) -> bool:
        """Whether every stage is at its end."""
        return not self.stopped and all(done >= total for done, total in self.stages.values())

    def __str__(self) -> str:
        if self.stopped:
            return f"not finished ({self.stopped})\nrun the same command again to go on"
        stages = ", ".join(f"{name} {done}/{total}" for name, (done, total) in self.stages.items())
        if not self.is_finished:
            return f"not finished, iterations: {stages}\nrun the same command again to go on"
        if not self.model.is_file():
            return f"finished, iterations: {stages}\nno weights were written, for no stage is the last of its method"
        if self.n_new:
            return f"finished, iterations: {stages}\n{self.model} written"
        changed = f", although {', '.join(self.changed)} changed since" if self.changed else ""
        return f"{self.model} was finished before and nothing was trained{changed}; expected another --output"


def run_stages(stages: Sequence[Stage]) -> None:
    """Run stages in order."""
    for stage in stages:
        stage.run()


def train_bundle(
    bundle: Path, overlays: Sequence[Path] = (), settings: Sequence[tuple[str, Any]] = (), *, method: str = "unipet"
) -> TrainingResult:
    """Check a bundle's training, then run it as ``python -m monai.bundle run training`` does.

    Run again, it goes on where it was stopped. The bundle's ``configs/train.yaml`` comes first, then the file of
    `method`, a name in ``configs/methods`` or a path, then `overlays`, and last the keys and values of `settings`.

    Raises
    ------
    PETError
        If the configuration is wrong, see :func:`~pipeline.training.config_check.checked_config`; the manifest or the
        data are missing; or the output cannot be written. Then, what training itself refuses.
    """
    base = bundle / "configs" / "train.yaml"
    files = list(overlays)
    if (bundle / "configs" / "methods").is_dir() or method != "unipet":
        settings = [("method", method), *settings]
        files = [*method_files(bundle, method), *overlays]
    config = checked_config(base, files, [("bundle_root", str(bundle.absolute())), *settings])
    if missing := [key for key in _REQUIRED if config.get(key) is None]:
        raise PETError(f"{base}: has no {', '.join(missing)}, expected a training of this package")
    if _is_stated(config["device"]):
        config["device"] = _checked_device("device", config["device"])
    if _is_stated(config.get("patches_device")):
        _checked_device("patches_device", config["patches_device"])
    if isinstance(n_workers := config.get("num_workers"), int) and n_workers < 0:
        raise PETError(f"num_workers is {n_workers}, expected 0, this process itself, or more")
    if (logging_file := base.with_name("logging.conf")).is_file():
        fileConfig(logging_file, disable_existing_loggers=False)
    parser = ConfigParser(deepcopy(config))
    try:
        _check_data(*(parser.get_parsed_content(key) for key in ("manifest", "dataset_dir")))
        output = Path(parser.get_parsed_content("output_dir"))
        for folder in (output, Path(parser.get_parsed_content("store_dir"))):
            _check_writable(folder)
        for key in _without_data(config):
            parser.get_parsed_content(key)
        parser.parse(reset=True)  # forgets what was built so far
        parser.get_parsed_content("initialize")
        stages: list[Stage] = parser.get_parsed_content("stages")
        changed = _changed_since(output / "config.yaml", config)
        parser.get_parsed_content("training")
        if "finalize" in parser:
            parser.get_parsed_content("finalize")
    except TimeIsOver as over:
        return TrainingResult({}, output / "model.pt", stopped=over.reason)
    except Exception as error:  # noqa: BLE001 - components of a configuration raise anything
        _raise_mistake(error)
    progress = {stage.name: stage.progress for stage in stages}
    return TrainingResult(progress, output / "model.pt", sum(stage.log.n_iterations for stage in stages), changed)


def _without_data(config: dict[str, Any]) -> list[str]:
    """Return the keys that a training needs and that need no data: a mistake there must not wait for the data."""
    keys = needed_keys(config, "")
    skipped = {"initialize", "training", "finalize"}
    return sorted(key for key in keys - skipped if "store" not in needed_keys({**config, "training": f"@{key}"}, ""))


def _changed_since(path: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """Return which keys that bear on the result differ from those of the last run, and keep these for the next."""
    now = {name: value for name, value in _leaves(config) if name.partition("#")[0] not in _WITHOUT_BEARING}
    before = read_yaml(path) if path.is_file() else now
    if is_main_process():
        write_text(path, yaml.safe_dump(now, sort_keys=False))
    return tuple(name for name in {**before, **now} if before.get(name) != now.get(name))


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(config, dict):
        yield prefix, config
        return
    for key, value in config.items():
        yield from _leaves(value, f"{prefix}#{key}" if prefix else str(key))


def _is_stated(value: Any) -> bool:
    """Return whether a setting is a text, and no expression or reference."""
    return isinstance(value, str) and not value.startswith(("$", "@"))


def _checked_device(key: str, name: str) -> str:
    """Return the expression of a device that exists."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise PETError(f"{key} is {name!r}, expected one of this machine, such as cpu") from error
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


def _raise_mistake(error: Exception) -> NoReturn:
    """Raise what a user did wrong, beneath MONAI's wrapping, in one line; a programmer's error as it is."""
    causes = causes_of(error)
    for cause in causes:
        if isinstance(cause, PETError | OSError):
            raise cause
    if isinstance(causes[-1], _OF_PROGRAMMERS):
        raise causes[-1]
    # MONAI's sentence around it is of use to its developers; what a user can look up is the component's name.
    component = re.search(r"component '([^']+)'", str(error))
    where = component[1] if component else " ".join(str(error).split())[:200]
    said = " ".join(str(causes[-1]).split()) or type(causes[-1]).__name__
    raise PETError(f"{where}: {said} (--traceback shows where)" if len(causes) > 1 else said) from error
