"""Small simulated scans, and ten ways in which they break, for `cohort_faults.py`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.simulation import Scanner, simulate_cohort

__all__ = ["BROKEN", "make_scans", "subset"]

SCANNER = Scanner(
    name="small",
    matrix=(32, 32, 48),
    voxel_size=(16.0, 16.0, 20.0),
    n_angles=24,
    n_subsets=4,
    n_iterations=2,
    psf_in_plane=10.0,
    psf_axial=15.0,
    post_filter=15.0,
)
DOSES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150)
PER_SUBJECT = len(DOSES) + 1


def sidecar_of(path: Path) -> Path:
    """JSON file beside a volume."""
    return path.with_name(path.name.replace(".nii.gz", ".json"))


def cut(path: Path) -> None:
    """Leave the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path, **keys: object) -> None:
    """Change keys of the sidecar."""
    content = json.loads(sidecar_of(path).read_text())
    sidecar_of(path).write_text(json.dumps(content | keys))


def image(path: Path, suv: np.ndarray) -> None:
    """Replace the volume."""
    nib.save(nib.Nifti1Image(suv.astype(np.float32), np.diag([16.0, 16.0, 20.0, 1.0])), path)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut in half": (cut, "damaged or cut short"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable NIfTI file"),
    "sidecar is a list": (lambda path: sidecar_of(path).write_text("[]"), "expected an object"),
    "sidecar is cut": (lambda path: sidecar_of(path).write_text('{"Units": '), "is not JSON"),
    "units unknown": (lambda path: change(path, Units="cps"), "Units is 'cps'"),
    "no dose and no weight": (lambda path: change(path, Units="Bq/mL"), "SUV"),
    "not a positron emitter": (lambda path: change(path, TracerRadionuclide="Lu177"), "emits no positrons"),
    "two frames": (lambda path: image(path, np.ones((32, 32, 48, 2))), "expected one static volume"),
    "not finite": (lambda path: image(path, np.full((32, 32, 48), np.nan)), "not finite"),
    "one plane": (lambda path: image(path, np.ones((32, 32, 1))), "expected at least 2 voxels each way"),
}


def make_scans(work: Path, n_scans: int, *, with_dicom: bool, jobs: int) -> Path:
    """Simulate that many scans; without dose and weight in the sidecar no DICOM can be written, which saves time."""
    folder = work / "scans"
    if (folder / "complete").exists():
        return folder
    n_subjects = -(-n_scans // PER_SUBJECT)
    subjects = simulate_cohort(
        work / "simulated",
        n_subjects=n_subjects,
        seed=1,
        scanner=SCANNER,
        dose_reduction_factors=DOSES,
        references=False,
        jobs=jobs,
    )
    found = sorted(path for subject in subjects for path in subject.glob("pet/*_rec-*_pet.nii.gz"))[:n_scans]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in found:
        for file in (path, sidecar_of(path)):
            shutil.copy(file, folder / file.name)
        if not with_dicom:
            content = json.loads(sidecar_of(path).read_text())
            kept = {key: content[key] for key in ("Units", "TracerRadionuclide", "Modality") if key in content}
            sidecar_of(folder / path.name).write_text(json.dumps(kept | {"Units": "g/mL"}))
    if len(found) < n_scans:
        raise SystemExit(f"{len(found)} scans were simulated, expected {n_scans}")
    (folder / "complete").touch()
    return folder


def subset(work: Path, scans: Path, n: int, name: str) -> Path:
    """Folder of the first scans."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(scans.glob("*_pet.nii.gz"))[:n]:
        for file in (path, sidecar_of(path)):
            shutil.copy2(file, folder / file.name)
    return folder
