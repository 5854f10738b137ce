"""From a site's full doses to pairs in a store: who is held out, and noise inserted by two independent draws."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.adaptation.scans import SiteScan, patients_of
from pipeline.data import NoiseInsertion, Preparation, Store, prepare_store
from pipeline.data.manifest import Image, Manifest, Split, Subject, other_files
from pipeline.errors import PETError
from pipeline.files import new_folder
from pipeline.images import body_mask, measured_liver_cov
from pipeline.pet import PETSeries, write_nifti

__all__ = ["Pairs", "held_out_of", "make_pairs", "scan_ids"]

HELD_OUT_FRACTION = 0.3
MOST_HELD_OUT = 8  # each is denoised at every dose, before and after
_GAP = 20.0  # [mm] between the two parts of a single scan, beyond the reach of the noise's correlation
_SECOND = "-second"  # of the ids with the draw that judges

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Pairs:
    """What training reads: a store, and the manifest that it was made from."""

    manifest: Path
    """Splits: train; validation chooses the epoch; test, the same scans with another draw of the noise, judges."""
    root: Path
    """Folder of the manifest's paths."""
    store: Path


def scan_ids(scans: Sequence[SiteScan]) -> list[str]:
    """Return names of the scans that tell nothing of a patient: scan-01, scan-02, ..."""
    return [f"scan-{number:02d}" for number in range(1, len(scans) + 1)]


def held_out_of(patients: Sequence[int], *, seed: int) -> list[bool]:
    """Return which scans are kept out of training: about three in ten, all of a patient's or none.

    Of a single patient's scans single scans are held out. A single scan is held out itself, for it will be cut in two.
    """
    n = len(patients)
    units = list(patients) if len(set(patients)) > 1 else list(range(n))
    wanted = min(MOST_HELD_OUT, max(1, round(HELD_OUT_FRACTION * n)))
    order = np.random.default_rng(seed).permutation(sorted(set(units))).tolist()
    held: set[int] = set()
    for unit in order[: max(len(order) - 1, 1)]:
        if sum(u in held for u in units) < wanted:
            held.add(unit)
    return [unit in held for unit in units]


def make_pairs(
    scans: Sequence[SiteScan],
    work: Path,
    *,
    insertion: NoiseInsertion,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Pairs:
    """Insert noise into the scans and write them into a store below `work`; what is there already is kept.

    A scan of which the manifest has lower doses keeps those. A single scan is cut across into the part with the liver,
    to train on, and the rest, to judge by.

    Raises
    ------
    PETError
        If noise cannot be inserted into one of the scans.
    """
    root, subjects = _subjects(scans, held_out_of(patients_of(scans), seed=seed))
    if len(scans) > 1:
        manifest = _manifest(subjects)
        path = manifest.write(work / "manifest.yaml")
        done = prepare_store(manifest, work / "store", root=root, jobs=jobs, insertion=insertion, progress=progress)
        _check(done, scans)
        return Pairs(path, root, work / "store")
    whole = work / "whole"
    done = prepare_store(_manifest(subjects), whole, root=root, jobs=jobs, insertion=insertion, progress=progress)
    _check(done, scans)
    halves = work / "halves"
    if not halves.exists():
        with new_folder(halves) as folder:
            _write_halves(Store(whole), folder)
    manifest = Manifest.from_file(halves / "manifest.yaml")
    _check(prepare_store(manifest, work / "store", root=halves, jobs=jobs), scans)
    shutil.rmtree(whole, ignore_errors=True)
    return Pairs(halves / "manifest.yaml", halves, work / "store")


def _check(done: Preparation, scans: Sequence[SiteScan]) -> None:
    if failed := done.of_status("failed"):
        names = dict(zip(scan_ids(scans), scans, strict=True))
        raise PETError(f"{names[failed[0].subject[:7]].name}: noise cannot be inserted ({failed[0].reason})")


def _manifest(subjects: Sequence[Subject]) -> Manifest:
    return Manifest(name="site", title="Scans of one site", layout="bids_pet", subjects=tuple(subjects))


def _subjects(scans: Sequence[SiteScan], held_out: Sequence[bool]) -> tuple[Path, list[Subject]]:
    """Return the folder that all files lie below, and the subjects: held-out scans twice, with two draws of noise."""
    try:
        root = Path(os.path.commonpath([scan.root.resolve() for scan in scans]))
    except ValueError as error:
        raise PETError("the scans lie on several drives, expected them on one") from error
    subjects = []
    for id_, scan, patient, is_held in zip(scan_ids(scans), scans, patients_of(scans), held_out, strict=True):
        draws: list[tuple[str, Split]] = [(id_, "train")]
        if is_held:
            draws = [(id_, "validation"), (id_ + _SECOND, "test")]
        for name, split in draws:
            subjects.append(_below(root, scan, id=name, patient=f"patient-{patient + 1:02d}", split=split))
    return root, subjects


def _below(root: Path, scan: SiteScan, *, id: str, patient: str, split: Split) -> Subject:
    """Return the subject of a scan with paths relative to another folder."""
    above = scan.root.resolve().relative_to(root).as_posix()
    subject = scan.subject
    moved = {
        name: file.model_copy(update={"path": f"{above}/{file.path}"}) for name, file in other_files(subject).items()
    }
    images = tuple(image.model_copy(update={"path": f"{above}/{image.path}"}) for image in subject.images)
    content = {**subject.model_dump(), "id": id, "patient": patient, "split": split}
    others = {name: file.model_dump() for name, file in moved.items()}
    return Subject.model_validate({**content, **others, "images": [image.model_dump() for image in images]})


def _write_halves(store: Store, folder: Path) -> None:
    """Cut the one scan of a store across, and write the parts with a manifest."""
    first, second = sorted(store.subjects)
    full = store.series(first)
    with_liver, rest = _parts(full)
    plan: list[tuple[str, Split, slice]] = [(first, "train", with_liver), (first, "validation", rest)]
    plan.append((second, "test", rest))
    subjects = []
    for source, split, part in plan:
        (folder / split).mkdir()
        images = []
        for factor, name in store.subjects[source].doses.items():
            path = folder / split / f"{name}_pet.nii.gz"
            write_nifti(_cut(store.series(source, name), part), path, extra={"DoseReductionFactor": factor})
            images.append(Image(path=f"{split}/{path.name}", dose_reduction_factor=factor))
        id_ = f"scan-01-{split}"
        subjects.append(Subject(id=id_, patient="patient-01", split=split, images=tuple(images)))
    _manifest(subjects).write(folder / "manifest.yaml")


def _parts(full: PETSeries) -> tuple[slice, slice]:
    """Return the slices of the part with the liver, and those of the other: half of the body's volume each."""
    n = full.suv.shape[2]
    body = body_mask(full.suv, voxel_size=full.voxel_size).sum(axis=(0, 1))
    middle = int(np.searchsorted(np.cumsum(body), body.sum() / 2))
    half_gap = int(np.ceil(_GAP / 2 / full.voxel_size[2]))
    lower, upper = slice(0, max(middle - half_gap, 1)), slice(min(middle + half_gap, n - 1), n)
    liver = np.flatnonzero(measured_liver_cov(full).region.any(axis=(0, 1)))
    return (lower, upper) if liver.mean() < middle else (upper, lower)


def _cut(series: PETSeries, part: slice) -> PETSeries:
    shift = np.eye(4)
    shift[2, 3] = part.start
    return replace(series, suv=series.suv[:, :, part], affine=series.affine @ shift)
