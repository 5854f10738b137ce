"""One scan of many: into a place of its own, on the same road as one scan; what is there already is kept."""

import errno
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import BusyError, PETError, causes_of, line_for_user, naming, one_line, reason_of
from pipeline.files import locked_folder
from pipeline.inference import Denoiser
from pipeline.pet import DicomOptions, PETSeries
from pipeline.workflow.denoise import denoise_into
from pipeline.workflow.places import Layout, ResultFiles, files_of_state, places_in
from pipeline.workflow.region_rule import RegionRule
from pipeline.workflow.repeat import RepeatRule
from pipeline.workflow.scan_run import ScanRun, check_elsewhere, source_sha256
from pipeline.workflow.scan_state import STATES, NamedScan, ScanState, StateFiles, digest_of

__all__ = ["DenoiseOptions", "ScanOutcome", "ScanTask", "identity_of"]

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a folder of results that can take nothing more, whatever the scan is."""

_LATER = ("method_sha256", "suv_scale")


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
    """What is done alike to every scan; see `denoise_scan`."""

    regions: RegionRule = field(default_factory=RegionRule)
    """How the regions of the lesion table are drawn."""
    repeats: RepeatRule | None = None
    """How often, and as on which scanner, a scan is repeated by simulation."""
    dicom: DicomOptions | None = None
    """Units, private attributes and de-identification of the DICOM series."""
    report: bool = True
    """Whether a page is written for each scan."""
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
        differing |= {} if self.report else {"report": False}
        differing |= {"viewer": True} if self.viewer else {}
        differing |= {"turning": True} if self.turning else {}
        usual, dicom = DicomOptions(), self.dicom or DicomOptions()
        names = ("units", "keep_private", "deidentify")
        return differing | {n: getattr(dicom, n) for n in names if getattr(dicom, n) != getattr(usual, n)}


@dataclass(frozen=True, kw_only=True)
class ScanOutcome:
    """What became of one of several scans."""

    scan: NamedScan
    """The scan."""
    status: Literal["made", "made anew", "there", "failed", "elsewhere", "no room"]
    """What was done: a result was made, in place of an older one or not, or was there already; or there is none. It is
    done ``"elsewhere"`` if another process works on it, and has ``"no room"`` if the folder of results takes no more.
    """
    files: ResultFiles | None = None
    """The result's; None if there is none."""
    refusal: str = ""
    """Why there is none, in one line."""

    @property
    def is_done(self) -> bool:
        """Return whether there is a result."""
        return self.files is not None


@dataclass(frozen=True, kw_only=True)
class ScanTask:
    """Denoise one scan of many, as `denoise_scan` does, unless its result is there, and remember what became of it.

    A result by another method, of other weights or options, or of what the source was before, is made anew, and takes
    the place of the older one when it is complete. What somebody else put beside it is never removed: such a scan is
    refused.
    """

    scan: NamedScan
    """The scan."""
    output_dir: Path
    """Folder of all results."""
    layout: Layout
    """How they lie in it."""
    denoiser: Callable[[], Denoiser]
    """Returns the method; once a process, since it is cached."""
    options: DenoiseOptions
    """The same for every scan."""
    made: str
    """Digest of method, weights and options."""
    series: str | int | None = None
    """What of the scan :func:`pipeline.read_pet` reads."""
    takes_name: bool = True
    """Whether the scan may have its plain name; another of the same name has it otherwise, and this one is named apart
    by a digest of its voxels."""
    on_step: Callable[[Path, str], None] | None = None
    """Is told the name of each step as it starts, where all runs in one process."""

    @property
    def state(self) -> StateFiles:
        """Return the files of what is known of the scan."""
        return StateFiles(self.output_dir, self.scan.key)

    def known(self, *, retry_failed: bool) -> ScanOutcome | None:
        """Return what became of the scan earlier, if neither source, method nor options changed since; else None.

        Nothing is read but names, sizes, times and the record of the run. A scan that failed has to be worked on again
        if `retry_failed` says so.
        """
        state = self.state.read()
        try:
            if state is None or (state.made, state.signature) != (self.made, self.scan.signature(self.series)):
                return None
        except OSError:
            return None
        if state.outcome == "failed":
            return None if retry_failed else ScanOutcome(scan=self.scan, status="failed", refusal=state.reason)
        files = files_of_state(self.output_dir, state, self.layout)
        if files.record().get("source_sha256") != state.source_sha256 or not files.is_complete():
            return None
        return ScanOutcome(scan=self.scan, status="there", files=files)

    def fail(self, reason: str) -> ScanOutcome:
        """Remember that the scan has no result, and why; return that."""
        try:
            signature = self.scan.signature(self.series)
        except OSError:
            signature = ""
        state = ScanState(
            outcome="failed",
            name=self.scan.name,
            source=self._source,
            made=self.made,
            signature=signature,
            reason=one_line(reason),
            nameless=one_line(self.scan.nameless(reason)),
        )
        self.state.write(state)
        return ScanOutcome(scan=self.scan, status="failed", refusal=state.reason)

    def __call__(self) -> ScanOutcome:
        """Do the task; whatever is wrong with the scan is the outcome, and no error."""
        try:
            with self.state.locked():
                return self._logged()
        except BusyError:
            return ScanOutcome(
                scan=self.scan, status="elsewhere", refusal=f"{self.scan.path}: is being denoised by another run"
            )
        except (OSError, PETError) as error:
            return self._refused(error)

    def _logged(self) -> ScanOutcome:
        name = one_line(self.scan.name)
        try:
            outcome = self._denoise()
        except Exception as error:  # noqa: BLE001 - one scan must not stop the others, whatever is wrong with it
            if line_for_user(error) is None:
                logger.info("%s", "".join(traceback.format_exception(error)))
            outcome = self._refused(error)
        if outcome.files is None:
            logger.info("%s: left out: %s", name, outcome.refusal)
        else:
            logger.info("%s: %s, %s", name, outcome.files.scan, outcome.status)
        return outcome

    def _refused(self, error: Exception) -> ScanOutcome:
        reason = line_for_user(error) or one_line(f"unexpected {type(error).__name__}: {reason_of(error)}")
        if any(isinstance(cause, OSError) and cause.errno in _NO_ROOM for cause in causes_of(error)):
            return ScanOutcome(scan=self.scan, status="no room", refusal=reason)
        try:
            return self.fail(reason)
        except PETError:  # which may be for want of room, and then the scan is not to blame
            return ScanOutcome(scan=self.scan, status="no room", refusal=reason)

    def _denoise(self) -> ScanOutcome:
        path, denoiser = self.scan.path, self.denoiser()
        with naming(path):
            signature = self.scan.signature(self.series)
        run = ScanRun(
            path,
            self._say,
            series=self.series,
            sidecar=self.scan.sidecar,
            options=self.options.record(),
        )
        check_elsewhere(self.output_dir, path)
        before = run.read()
        source = source_sha256(before)
        places = places_in(self.output_dir, self.layout)
        files, old = self._place(before, source)
        # Scans of the same voxels have one place, and whoever comes second finds the result there.
        with locked_folder(self.output_dir / STATES / f"result-{files.scan}", "denoising the same scan", wait=True):
            files, old = self._place(before, source)
            is_there = files.record().get("source_sha256") == source and self._agrees(files, denoiser)
            is_there = is_there and files.is_complete()
            if not is_there:
                with places.writing(files, path, within=self.state.folder, replacing=old) as temporary:
                    options = self.options
                    denoise_into(
                        temporary,
                        run,
                        before,
                        denoiser,
                        regions=options.regions,
                        repeats=options.repeats,
                        dicom=options.dicom,
                        report=options.report,
                        viewer=options.viewer,
                        turning=options.turning,
                    )
        state = ScanState(
            outcome="done",
            name=self.scan.name,
            source=self._source,
            made=self.made,
            signature=signature,
            folder=files.folder.relative_to(self.output_dir).as_posix(),
            file_name=files.name,
            scan=files.scan,
            source_sha256=source,
        )
        self.state.write(state)
        status: Literal["made", "made anew", "there"] = "there" if is_there else "made" if old is None else "made anew"
        return ScanOutcome(scan=self.scan, status=status, files=files)

    @property
    def _source(self) -> str:
        return str(self.scan.path.absolute())

    def _say(self, step: str) -> None:
        logger.info("%s: %s", one_line(str(self.scan.path)), step)
        if self.on_step is not None:
            self.on_step(self.scan.path, step)

    def _place(self, series: PETSeries, source: str) -> tuple[ResultFiles, ResultFiles | None]:
        """Return the files of the result of a series, and those of the older result that they replace."""
        places = list(places_in(self.output_dir, self.layout).candidates(series))
        taken = {files.scan: files.record() for files in places}
        for files in places:
            if taken[files.scan].get("source_sha256") == source:
                return files, files
        old = self._older()
        if old is not None and any(files.folder == old.folder and files.name == old.name for files in places[:1]):
            return old, old
        free = places if self.takes_name else places[1:]
        return next((files for files in free if not taken[files.scan]), places[-1]), old

    def _older(self) -> ResultFiles | None:
        """Return the result of what the source was earlier; None if there is none."""
        state = self.state.read()
        if state is None or state.outcome != "done" or state.source != self._source:
            return None
        files = files_of_state(self.output_dir, state, self.layout)
        return files if files.record().get("source_sha256") == state.source_sha256 else None

    def _agrees(self, files: ResultFiles, denoiser: Denoiser) -> bool:
        """Return whether a result is by this method, of these weights and options."""
        record = files.record()
        wanted = denoiser.identity | {"options": self.options.record()}
        # Version 0.2.0 had no strength, 0.3.0 no options.
        usual = {"strength": 1, "options": {}}
        differing = [key for key, value in wanted.items() if record.get(key, usual.get(key)) != value]
        # Neither told the definition of a method, and a method that was built by hand has none.
        return not [k for k in differing if k not in _LATER or None not in (record.get(k), wanted[k])]


def identity_of(denoiser: Denoiser, options: DenoiseOptions) -> str:
    """Return a digest of all that a result depends on beside its source."""
    return digest_of(denoiser.identity | {"options": options.record()})
