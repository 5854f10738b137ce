"""A BIDS app: the participants of a BIDS data set denoised into a BIDS derivative."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PETError
from pipeline.pet.derived_files import pet_images
from pipeline.workflow.scan_state import NamedScan

__all__ = ["ParticipantScans", "participant_scans"]

_SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)")
MOST_NAMED = 20
"""Participants that one message names."""


@dataclass(frozen=True)
class ParticipantScans:
    """PET images of participants, under the names that they have in the data set, wherever that is mounted."""

    bids_dir: Path
    """Root of the data set."""
    paths: Sequence[Path]
    """The images, see `participant_scans`."""
    output_dir: Path
    """BIDS derivative."""

    def __iter__(self) -> Iterator[NamedScan]:
        """Yield the scans."""
        return (NamedScan(path=path, name=path.relative_to(self.bids_dir).as_posix()) for path in self.paths)


def participant_scans(bids_dir: Path, labels: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Return the PET images of participants of a BIDS data set, sorted, and the labels of those that have none.

    Images are ``sub-LABEL/[ses-*/]pet/*_pet.nii[.gz]``; their sidecars may lie anywhere that the inheritance principle
    allows, see :func:`pipeline.pet.nifti.read_sidecar`.

    Parameters
    ----------
    bids_dir
        Root of the data set.
    labels
        Participants, with or without ``sub-``; all if there are none.

    Raises
    ------
    PETError
        If it is no BIDS data set, a participant does not exist, or there is no PET image. One that was asked for must
        have one.
    """
    if not bids_dir.is_dir():
        raise PETError(f"{bids_dir}: no such folder, expected a BIDS data set")
    if not (bids_dir / "dataset_description.json").is_file():
        raise PETError(f"{bids_dir}: has no dataset_description.json, expected a BIDS data set")
    there = {match[1]: path for path in sorted(bids_dir.iterdir()) if (match := _SUBJECT.fullmatch(path.name))}
    asked = list(dict.fromkeys(label.removeprefix("sub-") for label in labels))
    if unknown := [label for label in asked if label not in there]:
        shown = [*list(there)[:MOST_NAMED], *(["..."] if len(there) > MOST_NAMED else [])]
        raise PETError(
            f"{bids_dir}: has no participant {', '.join(unknown)}, expected some of {', '.join(shown) or 'none'}"
        )
    images = {label: pet_images(there[label]) for label in asked or there}
    without = [label for label, found in images.items() if not found]
    if missing := [label for label in without if label in asked]:
        raise PETError(f"{bids_dir}: no PET image (pet/*_pet.nii.gz) of participant {', '.join(missing)}")
    if not any(images.values()):
        raise PETError(f"{bids_dir}: holds no PET image (sub-*/[ses-*/]pet/*_pet.nii.gz), expected some")
    return [path for found in images.values() for path in found], without
