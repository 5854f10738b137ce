"""When what a tool gives for a series is right, refused, or wrong, and by how much."""

import contextlib
import logging
import os
import re
import resource
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.suv_kinds import SOUND, Kind
from studies.suv_readers import READERS, Image, Reader
from tests.series import AFFINE, SHAPE, TRUE_SUV

__all__ = ["Judgement", "Workbench", "judge"]

VALUE_TOLERANCE = 0.002
"""A voxel may be this fraction of its true value off; half a stored step is at most 0.0004 of it."""

POSITION_TOLERANCE = 0.1
"""A corner voxel may be this far from its true place [mm]."""

ADDRESS_SPACE = 8 * 2**30
"""A tool may ask for so many bytes; more counts as a refusal, and spares the machine."""

TIME_LIMIT = 120.0
"""A tool may take this long [s] for a series of 12 slices."""


@dataclass(frozen=True)
class Judgement:
    """One cell of the table."""

    verdict: str
    """``"right"``, ``"refused"``, ``"wrong"``, ``"not judged"`` or ``"not installed"``."""

    figure: str = ""
    """What is wrong, and by how much."""

    warned: bool = False
    """Whether the tool warned of something that it does not warn of in a sound series."""


@dataclass(frozen=True)
class Attempt:
    """What a tool did with a folder."""

    images: tuple[Image, ...]
    """What it gave; nothing if it refused."""

    messages: frozenset[str]
    """Its warnings, without the numbers and paths in them."""

    error: str = ""
    """Why it gave no image."""


# ------------------------------------------------------------------------------------------- comparing volumes


def _displacement(affine: NDArray[np.float64]) -> float:
    """Return how far a corner voxel is from its true place, at most [mm]."""
    corners = np.array([[x, y, z, 1] for x in (0, SHAPE[0] - 1) for y in (0, SHAPE[1] - 1) for z in (0, SHAPE[2] - 1)])
    return float(np.linalg.norm(corners @ (affine - AFFINE).T, axis=1).max())


def _is(image: Image, truth: NDArray[np.float64]) -> bool:
    return (
        image.values.shape == truth.shape
        and _displacement(image.affine) <= POSITION_TOLERANCE
        and bool((np.abs(image.values - truth) <= VALUE_TOLERANCE * np.abs(truth)).all())
    )


def _difference(image: Image, nominal: NDArray[np.float64]) -> str:
    """Say in what an image differs from the one that the scan would have given."""
    if image.values.shape != nominal.shape:
        return "{} x {} x {} voxels".format(*image.values.shape)
    for axis, name in enumerate("XYZ"):
        if np.allclose(np.flip(image.values, axis), nominal, rtol=VALUE_TOLERANCE):
            return f"mirrored along {name}"
    found = []
    displacement = _displacement(image.affine)
    if displacement > POSITION_TOLERANCE:
        found.append(f"{displacement:.1f} mm off")
    with np.errstate(invalid="ignore"):
        ratios = np.median(image.values / nominal, axis=(0, 1))
        spread = np.abs(image.values / nominal - ratios).max(axis=(0, 1))
    odd = np.flatnonzero((np.abs(ratios - 1) > VALUE_TOLERANCE) | (spread > 3 * VALUE_TOLERANCE))
    if odd.size:
        worst = odd[np.argmax(np.abs(np.log(np.abs(ratios[odd]) + 1e-300)))]
        where = "" if odd.size == nominal.shape[2] else f" in {odd.size} of {nominal.shape[2]} slices"
        scrambled = spread[worst] > 3 * VALUE_TOLERANCE * abs(ratios[worst])
        found.append(f"{'other voxels' if scrambled else f'×{ratios[worst]:.3g}'}{where}")
    return ", ".join(found) or "accepted"


def judge(images: Sequence[Image], kind: Kind, *, gives_suv: bool) -> Judgement:
    """Judge what a tool gave for a series.

    Parameters
    ----------
    images
        What it gave; nothing if it refused.
    kind
        The series.
    gives_suv
        Whether the tool computes SUV, else image values.
    """
    if not images:
        return Judgement("refused")
    truths = kind.suv if gives_suv else kind.images
    matched = [next((k for k, image in enumerate(images) if _is(image, truth)), None) for truth in truths]
    if truths and None not in matched and len(images) == len(truths):
        return Judgement("right")
    if len(truths) > len(images) and any(match is not None for match in matched):
        return Judgement("wrong", f"{len(images)} of {len(truths)} images")
    nominal = TRUE_SUV if gives_suv else (kind.images[0] if kind.images else SOUND.stored_quantity())
    return Judgement("wrong", _difference(images[0], nominal))


# ------------------------------------------------------------------------------------------------ running tools


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Yield a list that receives everything the block writes, also from compiled code and child processes."""
    lines: list[str] = []
    with tempfile.TemporaryFile(mode="w+", errors="replace") as file:
        saved = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for descriptor in saved:
                os.close(descriptor)
            file.seek(0)
            lines.extend(file.read().splitlines())


def _normalised(line: str) -> str:
    return re.sub(r"[\d.]+|/\S+|0x\w+", "#", line).strip()


def _attempt(reader_name: str, folder: Path) -> Attempt:
    """Let a tool read a folder; runs in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    logging.basicConfig(level=logging.WARNING)
    (reader,) = [reader for reader in READERS if reader.name == reader_name]
    images: list[Image] = []
    problem = ""
    with _captured() as lines, warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            images = reader.read(folder)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool may raise anything
            # Whatever a tool raises, it did not give an image.
            problem = f"{type(error).__name__}: {error}"
    said = frozenset(_normalised(line) for line in lines if re.search(r"warn|error|inconsist", line, re.IGNORECASE))
    return Attempt(tuple(images), said, problem)


class Workbench:
    """Tries one tool on series after series, in a process that may crash.

    Parameters
    ----------
    reader
        The tool.
    kind, folder
        A sound series: what the tool says about that is no warning.

    Raises
    ------
    RuntimeError
        If the tool cannot read the sound series: then the fault lies in how it is called here.
    """

    def __init__(self, reader: Reader, kind: Kind, folder: Path) -> None:
        self.reader = reader
        self._pool = self._new_pool()
        self._usual: frozenset[str] = frozenset()
        if reader.installed:
            attempt = self._try(folder)
            if judge(attempt.images, kind, gives_suv=reader.gives_suv).verdict != "right":
                raise RuntimeError(f"{reader.name} does not read {kind.name!r}: {attempt.error or 'other values'}")
            self._usual = attempt.messages

    @staticmethod
    def _new_pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))

    def _try(self, folder: Path) -> Attempt:
        try:
            return self._pool.submit(_attempt, self.reader.name, folder).result(timeout=TIME_LIMIT)
        except (BrokenProcessPool, TimeoutError):
            # A crash or a hang gives no image either.
            self.close()
            self._pool = self._new_pool()
            return Attempt((), frozenset(), "crashed, or took too long")

    def judge(self, kind: Kind, folder: Path) -> Judgement:
        """Judge the tool on one kind, which was written to `folder`."""
        if not self.reader.installed:
            return Judgement("not installed")
        if self.reader.single_slice and not kind.single_slice:
            return Judgement("not judged")
        attempt = self._try(folder)
        judgement = judge(attempt.images, kind, gives_suv=self.reader.gives_suv)
        warned = bool(attempt.messages - self._usual)
        return Judgement(judgement.verdict, judgement.figure, warned)

    def close(self) -> None:
        """End the process."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)
