"""Which scans of a folder are still to be denoised; one that cannot be read does not stop the others."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PETError
from pipeline.pet import read_pet
from pipeline.pet.derived_files import denoised_name, denoising_fields, scan_name
from pipeline.pet.sidecar_files import sidecar_path_of

__all__ = ["PendingScans"]

logger = logging.getLogger(__name__)


class PendingScans(list[dict[str, str]]):
    """Items ``{"image": path}`` of the scans that can be read and whose result is not there yet.

    Parameters
    ----------
    paths
        Scans. Each is read once to see whether it can be.
    output_dir
        Where results go. What is there already is kept, so that an interrupted run goes on; unless its sidecar tells of
        another method or other weights: then the scan is refused.
    method, weights_sha256
        What denoises now.
    """

    def __init__(
        self, paths: Iterable[str | Path], output_dir: str | Path, *, method: str, weights_sha256: str | None = None
    ) -> None:
        super().__init__()
        fields = denoising_fields(method, weights_sha256)
        self.refused: list[str] = []
        """Why scans were left out, a line for each."""
        for path in paths:
            try:
                result = Path(output_dir) / denoised_name(scan_name(read_pet(path)))
                if not result.exists():
                    self.append({"image": str(path)})
                elif not fields.items() <= _sidecar(result).items():
                    raise PETError(f"{result}: is by another method or other weights, expected another output_dir")
                else:
                    logger.info("%s: %s is there already", path, result.name)
            except PETError as error:
                self.refused.append(str(error))
                logger.warning("left out: %s", error)

    def exit_if_refused(self) -> None:
        """End the program with a line and exit code 1 if a scan was refused; to be called when the others are done.

        Raises
        ------
        SystemExit
            Which MONAI hands on, where it would wrap any other error in a page of its own.
        """
        if self.refused:
            raise SystemExit(f"{len(self.refused)} scans were left out, the first because of: {self.refused[0]}")


def _sidecar(image: Path) -> dict[str, object]:
    try:
        return dict(json.loads(sidecar_path_of(image).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # missing or not JSON: then it says nothing
        return {}
