"""All scans of a folder: the run of the bundle, on the same road as one scan."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from pipeline.data import find_scans
from pipeline.errors import PETError, line_for_user, one_line
from pipeline.files import locked_folder, new_folder, remove_unfinished
from pipeline.inference import Denoiser
from pipeline.pet import PETSeries
from pipeline.pet.derived_files import scan_name
from pipeline.workflow.denoise import denoise_into
from pipeline.workflow.scan_run import ScanRun, check_elsewhere, source_sha256

__all__ = ["FolderDenoiser", "ScanFolder"]

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


class FolderDenoiser:
    """Denoise every scan of a folder into a folder of its own, ``OUTPUT/NAME``, as `denoise_scan` does.

    What is there already is kept, so that an interrupted run goes on. A scan that cannot be denoised does not stop the
    others. A scan whose name belongs to another scan is named apart by a digest of its voxels.
    """

    def __init__(self, scans: ScanFolder, denoiser: Denoiser) -> None:
        self.scans = scans
        self.denoiser = denoiser
        self.output_dir = scans.output_dir

    def run(self) -> None:
        """Denoise what is not there yet.

        Raises
        ------
        PETError
            If there is no scan, the output cannot be used, or, in the end, if scans were left out.
        """
        scans = list(self.scans)
        refused = []
        with locked_folder(self.output_dir, "denoising into it"):
            remove_unfinished(self.output_dir)
            for path in scans:
                try:
                    self._denoise(path)
                except Exception as error:
                    line = line_for_user(error)
                    if line is None:
                        raise
                    refused.append(line)
                    logger.warning("left out: %s", line)
        if refused:
            raise PETError(f"{len(refused)} of {len(scans)} scans were left out, the first because of: {refused[0]}")

    def _denoise(self, path: Path) -> None:
        run = ScanRun(path, lambda step: logger.info("%s: %s", one_line(str(path)), step))
        check_elsewhere(self.output_dir, path)
        before = run.read()
        place = self._place(before)
        if place is None:
            logger.info("%s: is there already", one_line(str(path)))
            return
        with new_folder(place) as folder:
            result = denoise_into(folder, run, before, self.denoiser)
        for warning in result.run["warnings"]:
            logger.warning("%s: %s", one_line(str(path)), warning)
        logger.info("%s: written to %s", one_line(str(path)), place.name)

    def _place(self, series: PETSeries) -> Path | None:
        """Folder for the result of a series; None if the result is there."""
        name, source = scan_name(series), source_sha256(series)
        for place in (self.output_dir / name, self.output_dir / f"{name}_{source[:8]}"):
            record = _record(place)
            if not record:
                return place
            if record.get("source_sha256") == source:
                break
        # Version 0.2.0 had no strength.
        made_by = (record.get("method"), record.get("weights_sha256"), record.get("strength", 1))
        if made_by == (self.denoiser.method, self.denoiser.weights_sha256, self.denoiser.strength):
            return None
        raise PETError(f"{place}: is by another method, strength or other weights, expected another output_dir")


def _record(place: Path) -> dict[str, object]:
    try:
        return dict(json.loads((place / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # missing or not JSON: it is no result of this program
        return {}
