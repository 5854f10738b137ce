"""A folder of one DICOM series in; the derived series and ``result.json`` out, as DICOM routers run modules."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from pipeline import __version__
from pipeline.errors import PETError, line_for_user
from pipeline.files import UNFINISHED, new_folder, remove_unfinished, sha256_of, write_json
from pipeline.workflow.scan_run import check_elsewhere

if TYPE_CHECKING:
    from pipeline.workflow import ScanResult

__all__ = ["RESULT", "run_module"]

RESULT = "result.json"
"""File that says what became of the series, in every case."""


def run_module(
    source: Path, output: Path, denoise: "Callable[[Path], ScanResult]", *, send_regions: bool = False
) -> dict[str, Any]:
    """Denoise the series in a folder; return what ``result.json`` says.

    If it succeeds, the output holds the derived slices, ``report.html`` and ``result.json``, all of them at once. If
    not, it holds ``result.json`` alone, with the reason in one line, and the error is raised.

    Parameters
    ----------
    source
        Folder of one DICOM series, or of a study of which one PET series can be chosen, see :func:`pipeline.read_pet`.
    output
        Folder that is absent, empty, or holds what a failed or killed run left.
    denoise
        Denoises the source into a new folder as :func:`pipeline.workflow.denoise_scan` does. It builds the method, too:
        weights that are missing are a failure like any other.
    send_regions
        Whether the regions are put beside the slices, too: a DICOM SEG and the report of their measurements.

    Raises
    ------
    PETError
        If the series cannot be read, denoised or written as DICOM, or the output holds something else, to which
        nothing is then added.
    """
    check_elsewhere(output, source)
    _check_output(output)
    with _failures_told(output):
        _check_source(source)
        if output.is_dir():
            remove_unfinished(output)
            (output / RESULT).unlink(missing_ok=True)
        with new_folder(output) as folder:
            work = folder / "work"
            result = denoise(work)
            if (said := result.run["dicom"]) != "written":
                raise PETError(f"{source}: DICOM was {said}")
            sent = [work / "dicom", *([work / "dicom_regions"] if send_regions else [])]
            for path in [path for part in sent if part.is_dir() for path in sorted(part.iterdir())]:
                path.rename(folder / path.name)
            (work / "report.html").rename(folder / "report.html")
            shutil.rmtree(work)
            told = _result("done", series=_series_in(folder), run=result.run)
            write_json(folder / RESULT, told)
    return told


def _check_source(source: Path) -> None:
    if not source.is_dir():
        raise PETError(f"{source}: is no folder, expected one with a DICOM series")
    if not any(path.is_file() for path in source.rglob("*")):
        raise PETError(f"{source}: holds no file, expected a DICOM series")


def _check_output(output: Path) -> None:
    """Refuse a folder that holds anything but what a failed or killed run left."""
    if not output.exists():
        return
    if not output.is_dir():
        raise PETError(f"{output}: is a file, expected an empty folder")
    for path in sorted(output.iterdir()):
        if not path.name.startswith(UNFINISHED) and not (path.name == RESULT and _status(path) in ("failed", "ended")):
            raise PETError(f"{output}: holds {path.name}, expected an empty folder")


def _status(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("status") if isinstance(content, dict) else None


@contextmanager
def _failures_told(output: Path) -> Iterator[None]:
    """Write ``result.json`` with the reason if the block fails or is ended."""
    try:
        yield
    except BaseException as error:
        status = "failed" if isinstance(error, Exception) else "ended"
        reason = line_for_user(error) or (
            f"an error of the program, {type(error).__name__}" if status == "failed" else "ended from outside"
        )
        # Where even this cannot be written, the exit code and the line in the log remain.
        with suppress(PETError, OSError):
            output.mkdir(parents=True, exist_ok=True)
            write_json(output / RESULT, _result(status, reason=reason))
        raise


def _result(status: str, **content: Any) -> dict[str, Any]:
    return {"status": status, "unipet_3d": __version__, **content}


def _series_in(folder: Path) -> list[dict[str, Any]]:
    """Return, of each derived series of a folder, UID, modality, and the files with their digests."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.dcm")):
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "Modality"])
        uid = str(dataset.SeriesInstanceUID)
        series = found.setdefault(uid, {"series_instance_uid": uid, "modality": str(dataset.Modality), "files": {}})
        series["files"][path.name] = sha256_of(path)
    return list(found.values())
