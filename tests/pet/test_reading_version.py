"""What SUV a file gives has a number, which goes into the keys of everything that is cached from it."""

import hashlib
import json

import numpy as np

from pipeline.pet import READING_VERSION, read_pet, write_nifti
from tests.pet.scans import BQML, Scan, write_multi_frame, write_slices
from tests.pet.test_branches import SCANS

GOLDEN = {2: "bfde12a27eb3e345"}
"""For each version a digest of the SUV that it gives to the files below.

If this test fails, a file gives another SUV than before: raise READING_VERSION, add its digest here, and say why in the
message of the commit. If that was not intended, the change is wrong.
"""

DATE_TIME = "RadiopharmaceuticalStartDateTime"

FURTHER_SCANS = {
    "uptake of four hours": Scan(injection={DATE_TIME: "20250101070000", "RadiopharmaceuticalStartTime": "070000"}),
    "uptake that is told in UTC": Scan(injection={DATE_TIME: "20250101090000+0000"}),
    "date alone": Scan(injection={DATE_TIME: "20250101000000"}),
    "date-time of another year": Scan(injection={DATE_TIME: "19990101100000"}),
    "weight in g": Scan(attributes={"PatientWeight": "70000"}),
    "padding": Scan(attributes={"PixelPaddingValue": 5000, "PixelPaddingRangeLimit": 19000}),
}


def line_of(name, path, **options):
    read = read_pet(path, **options)
    # Seven digits are the same on every machine.
    numbers = [read.suvbw_factor or 0.0, read.header.uptake_time or 0.0, *(read.affine @ np.ones(4))]
    numbers += [float(value) for value in (read.suv.mean(), read.suv.max(), read.suv[1, 2, 3], read.suv[0, 0, -1])]
    return f"{name}: {' '.join(f'{number:.6e}' for number in numbers)}"


def test_an_suv_that_changes_raises_the_version(series, tmp_path):
    scans = enumerate((SCANS | FURTHER_SCANS).items())
    lines = [line_of(name, write_slices(scan, tmp_path / str(k))) for k, (name, scan) in scans]
    lines.append(line_of("multi-frame", write_multi_frame(tmp_path / "frames.dcm", units={"kBq/ml": BQML / 1000})))
    path = write_nifti(series, tmp_path / "scan.nii.gz")
    written = json.loads((tmp_path / "scan.json").read_text())
    for name, change in {"SUV": {}, "activity": {"Units": "kBq/mL"}, "Bq/mL": {"Units": "Bq/mL"}}.items():
        lines.append(line_of(f"NIfTI in {name}", path, sidecar=written | change))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert GOLDEN.get(READING_VERSION) == digest, "\n".join(lines)
