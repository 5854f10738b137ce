"""Several scans, of a folder or named one by one: each into a folder of its own, on the same road as one scan."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data import find_scans
from pipeline.errors import PETError, line_for_user, one_line
from pipeline.files import locked_folder, remove_unfinished
from pipeline.inference import Denoiser
from pipeline.pet import DicomOptions, PETSeries
from pipeline.workflow.denoise import ScanResult, denoise_into
from pipeline.workflow.places import Layout, ResultFiles, places_in
from pipeline.workflow.region_rule import RegionRule
from pipeline.workflow.repeat import RepeatRule
from pipeline.workflow.scan_run import ScanRun, check_elsewhere, source_sha256

__all__ = ["DenoiseOptions", "FolderDenoiser", "ScanFolder", "ScanList", "ScanOutcome", "check_all_denoised"]

logger = logging.getLogger(__name__)


class ScanFolder:
    """The scans below a folder, looked for when they are asked for; what lies in the folder of results is none."""

    def __init__(self, folder: str | Path, output_dir: str | Path) -> None:
        # A name of digits alone reaches a configuration as a number.
        self.folder = Path(str(folder)).expanduser()
        self.output_dir = Path(str(output_dir)).expanduser()

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths of the scans, sorted; raise PETError if there is none."""
        return map(Path, find_scans(self.folder, results=self.output_dir))


@dataclass(frozen=True)
class ScanList:
    """Scans that were named one by one."""

    paths: Sequence[Path]
    """What :func:`pipeline.read_pet` reads."""
    output_dir: Path
    """Folder of results."""

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths."""
        return iter(self.paths)


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
    """What is done alike to every scan; see `denoise_scan`."""

    regions: RegionRule = field(default_factory=RegionRule)
    """How the regions of the lesion table are drawn."""
    repeats: RepeatRule | None = None
    """How often, and as on which scanner, a scan is repeated by simulation."""
    dicom: DicomOptions | None = None
    """Units, private attributes and de-identification of the DICOM series."""
    viewer: bool = False
    """Whether a viewer is written, too."""
    turning: bool = False
    """Whether projections turn in the report."""

    def record(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the record of a run; results of other options are others."""
        drawn = self.regions.record()
        differing: dict[str, Any] = {} if drawn == RegionRule().record() else {"regions": drawn}
        if self.repeats is not None:
            differing |= self.repeats.record(repeated=True) | {"repeat_maps": self.repeats.maps}
        differing |= {"viewer": True} if self.viewer else {}
        differing |= {"turning": True} if self.turning else {}
        usual, dicom = DicomOptions(), self.dicom or DicomOptions()
        names = ("units", "keep_private", "deidentify")
        return differing | {n: getattr(dicom, n) for n in names if getattr(dicom, n) != getattr(usual, n)}


@dataclass(frozen=True)
class ScanOutcome:
    """What became of one of several scans."""

    path: Path
    """The scan."""
    place: Path | None = None
    """Folder of its result; None if it was left out."""
    result: ScanResult | None = None
    """What was made; None if it was left out, or its result was there already."""
    refusal: str = ""
    """Why it was left out, in one line."""


class FolderDenoiser:
    """Denoise every scan as `denoise_scan` does, into a folder of its own, ``OUTPUT/NAME``, or into one BIDS data set.

    In a data set the files of a scan lie in ``OUTPUT/sub-*/[ses-*/]pet``, and all of their names begin with the scan's.
    What is there already is kept, so that an interrupted run goes on. A scan that cannot be denoised does not stop the
    others. A scan whose name belongs to another scan is named apart by a digest of its voxels.

    Parameters
    ----------
    scans
        The scans, and where the results go.
    denoiser
        The method.
    series
        What of each scan :func:`pipeline.read_pet` reads.
    options
        The same for every scan.
    layout
        ``"folders"`` or ``"bids"``.
    on_step
        Is told the name of each step of each scan as it starts.
    """

    def __init__(
        self,
        scans: ScanFolder | ScanList,
        denoiser: Denoiser,
        *,
        series: str | int | None = None,
        options: DenoiseOptions | None = None,
        layout: Layout = "folders",
        on_step: Callable[[Path, str], None] | None = None,
    ) -> None:
        self.scans = scans
        self.denoiser = denoiser
        self.output_dir = scans.output_dir
        self.places = places_in(scans.output_dir, layout)
        self.series = series
        self.options = options or DenoiseOptions()
        self.on_step = on_step or (lambda path, step: logger.info("%s: %s", one_line(str(path)), step))

    def run(self) -> None:
        """Denoise what is not there yet, and log what becomes of each scan.

        Raises
        ------
        PETError
            If there is no scan, the output cannot be used, or, in the end, if scans were left out.
        """
        refused, n = [], 0
        for outcome in self.outcomes():
            n += 1
            name = one_line(str(outcome.path))
            if outcome.place is None:
                refused.append(outcome.refusal)
                logger.warning("left out: %s", outcome.refusal)
            elif outcome.result is None:
                logger.info("%s: is there already", name)
            else:
                for warning in outcome.result.run["warnings"]:
                    logger.warning("%s: %s", name, warning)
                logger.info("%s: written to %s", name, outcome.place.relative_to(self.output_dir))
        check_all_denoised(refused, n)

    def outcomes(self) -> Iterator[ScanOutcome]:
        """Denoise what is not there yet, scan after scan, and yield what became of each.

        Raises
        ------
        PETError
            If there is no scan, or the output cannot be used.
        """
        scans = list(self.scans)
        self.places.check()
        with locked_folder(self.output_dir, "denoising into it"):
            remove_unfinished(self.output_dir)
            for path in scans:
                try:
                    outcome = self._denoise(path)
                except Exception as error:
                    line = line_for_user(error)
                    if line is None:
                        raise
                    outcome = ScanOutcome(path, refusal=line)
                yield outcome

    def _denoise(self, path: Path) -> ScanOutcome:
        run = ScanRun(path, partial(self.on_step, path), series=self.series, options=self.options.record())
        check_elsewhere(self.output_dir, path)
        before = run.read()
        files, is_there = self._place(before)
        if is_there:
            return ScanOutcome(path, files.folder)
        with self.places.writing(files, path) as temporary:
            options = self.options
            result = denoise_into(
                temporary,
                run,
                before,
                self.denoiser,
                regions=options.regions,
                repeats=options.repeats,
                dicom=options.dicom,
                viewer=options.viewer,
                turning=options.turning,
            )
        return ScanOutcome(path, files.folder, result)

    def _place(self, series: PETSeries) -> tuple[ResultFiles, bool]:
        """Return the files of the result of a series, and whether they are there."""
        source = source_sha256(series)
        for files in self.places.candidates(series):
            record = files.record()
            if not record:
                return files, False
            if record.get("source_sha256") == source:
                break
        place = files.folder
        # Version 0.2.0 had no strength, 0.3.0 no options.
        made_by = (record.get("method"), record.get("weights_sha256"), record.get("strength", 1))
        if made_by != (self.denoiser.method, self.denoiser.weights_sha256, self.denoiser.strength):
            raise PETError(f"{place}: is by another method, strength or other weights, expected another output_dir")
        if record.get("options", {}) != self.options.record():
            raise PETError(f"{place}: was made with other options, expected another output_dir")
        return files, True


def check_all_denoised(refused: Sequence[str], n_scans: int) -> None:
    """Raise a `PETError` if scans were left out, which says how many, and why the first."""
    if refused:
        raise PETError(f"{len(refused)} of {n_scans} scans were left out, the first because of: {refused[0]}")
