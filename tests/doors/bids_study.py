"""A BIDS data set of four subjects with sidecars on every level that inheritance allows, and whose SUV is known."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.series import AFFINE, F18, TRUE_SUV

__all__ = ["WEIGHTS", "write_study"]

WEIGHTS = {"01": 70.0, "02": 55.5, "03": 92.0, "04": 64.0}
"""Body weight [kg] of each subject, in participants.tsv alone."""

UPTAKE = {"01": 3600.0, "02": 3600.0, "03": 3600.0, "04": 5400.0}
"""From injection to scan [s]: that of the root, but for subject 04."""

DOSES = {"01": 350.0, "02": 280.0, "03": 300.0, "04": 310.0}
"""Injected activity [MBq], beside the image."""

ROOT = {
    "Modality": "PT",
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Biograph128",
    "Units": "Bq/mL",
    "BodyPart": "whole body",
    "TracerName": "FDG",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 999.0,
    "InjectedRadioactivityUnits": "MBq",
    "InjectedMass": "n/a",
    "InjectedMassUnits": "n/a",
    "SpecificRadioactivity": "n/a",
    "SpecificRadioactivityUnits": "n/a",
    "ModeOfAdministration": "bolus",
    "TimeZero": "10:00:00",
    "ScanStart": 0,
    "InjectionStart": -3600,
    "FrameTimesStart": [0],
    "FrameDuration": [120],
    "AcquisitionMode": "static",
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 0,
    "ReconMethodName": "OSEM",
    "ReconMethodParameterLabels": ["subsets", "iterations"],
    "ReconMethodParameterUnits": ["none", "none"],
    "ReconMethodParameterValues": [4, 2],
    "ReconFilterType": "Gaussian",
    "ReconFilterSize": 5,
    "AttenuationCorrection": "CT-based",
}
"""What all images share; its dose is that of none, so that the nearest must win."""


def write_study(root: Path, labels: Sequence[str] = tuple(WEIGHTS)) -> Path:
    """Write subjects, of 01 to 04, the last with two sessions; every image has the SUV of `tests.series.TRUE_SUV`."""
    _write(root / "dataset_description.json", {"Name": "Simulated", "BIDSVersion": "1.10.0", "DatasetType": "raw"})
    (root / "README").write_text("Simulated subjects.\n" * 8)
    rows = [f"sub-{label}\t{WEIGHTS[label]:g}\tF\n" for label in labels]
    (root / "participants.tsv").write_text("participant_id\tweight\tsex\n" + "".join(rows))
    weight = {"Description": "Body weight", "Units": "kg"}
    sex = {"Description": "Sex", "Levels": {"F": "female"}}
    _write(root / "participants.json", {"weight": weight, "sex": sex})
    _write(root / "pet.json", ROOT)
    for label in labels:
        sessions = [""] if label != "04" else ["ses-1", "ses-2"]
        if label == "04":  # a level between
            _write(root / "sub-04" / "sub-04_pet.json", {"InjectionStart": -UPTAKE[label]})
        for session in sessions:
            folder = root / f"sub-{label}" / session / "pet"
            stem = "_".join(part for part in (f"sub-{label}", session, "pet") if part)
            _write(folder / f"{stem}.json", {"InjectedRadioactivity": DOSES[label]})
            # SUV = activity concentration [Bq/mL] * weight [g] / activity at the time of the scan [Bq].
            left = DOSES[label] * 1e6 * 2 ** (-UPTAKE[label] / F18)
            image = nib.Nifti1Image((TRUE_SUV * left / (WEIGHTS[label] * 1e3)).astype(np.float32), AFFINE)
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, folder / f"{stem}.nii.gz")
    return root


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
