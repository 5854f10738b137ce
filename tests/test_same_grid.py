"""Two images are compared only on one grid: a last slice that is off is found by whoever compares."""

import shutil
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import Case, Competitors, cases_of, evaluate_scan, reference_of
from pipeline.pet import PETError, PETHeader, PETSeries, write_nifti
from pipeline.report import write_report
from pipeline.report.noise_page import write_noise_page
from pipeline.workflow import denoise_scan

SHAPE = (12, 12, 644)


def series_of(spacing: float) -> PETSeries:
    """A warm box of 644 slices; its first slice is where that of every other one is."""
    suv = np.ones(SHAPE, dtype=np.float32)
    return PETSeries(suv=suv, affine=np.diag([20.0, 20.0, spacing, 1.0]), header=PETHeader(units="GML"))


FULL = series_of(1.65)


def denoise(other, folder):
    write_nifti(other, folder / "scan.nii")
    denoise_scan(folder / "scan.nii", folder / "out", None, reference=FULL)


def evaluate(other, folder):
    evaluate_scan(FULL, {4.0: other}, {}, competitors=Competitors())


def report_denoising(other, folder):
    write_report(folder / "r.html", title="", before=FULL, after=other, lesions=pd.DataFrame(), run={})


def report_noise(other, folder):
    region = np.ones(SHAPE, dtype=bool)
    arguments = {"full": FULL, "low": {4.0: other}, "region": region, "noise_cov": 0.1, "texture": "", "run": {}}
    write_noise_page(folder / "n.html", title="", **arguments)


@pytest.mark.parametrize("compare", [denoise, evaluate, report_denoising, report_noise])
@pytest.mark.parametrize(("spacing", "apart"), [(1.659, "5.8 mm"), (1.74, "57.9 mm")])
def test_a_last_slice_elsewhere_is_refused(compare: Callable, spacing, apart, tmp_path):
    with pytest.raises(PETError, match=f"{apart}.*expected one grid"):
        compare(series_of(spacing), tmp_path)


@pytest.fixture
def case(tiny_cohort, tmp_path) -> Case:
    """A simulated subject whose labels a test may change."""
    shutil.copytree(tiny_cohort[0], tmp_path / "cohort" / "sub-0001")
    return cases_of([tmp_path / "cohort"], split="test")[0]


@pytest.mark.parametrize("axes", ["LPS", "SPL"])
def test_labels_in_another_orientation_are_turned(case, axes):
    expected = reference_of(case)
    for file in (case.subject.lesions, case.subject.organs):
        image = nib.load(case.root / file.path)
        turned = image.as_reoriented(nib.orientations.axcodes2ornt(axes))
        nib.save(nib.Nifti1Image(turned.get_fdata().astype("u1"), turned.affine), case.root / file.path)
    found = reference_of(case)
    np.testing.assert_array_equal(found.lesions, expected.lesions)
    np.testing.assert_array_equal(found.liver, expected.liver)


def test_labels_of_another_place_are_refused(case):
    organs = case.root / case.subject.organs.path
    affine = case.full_dose().affine.copy()
    affine[0, 3] += 15
    nib.save(nib.Nifti1Image(nib.load(organs).get_fdata().astype("u1"), affine), organs)
    with pytest.raises(PETError, match=r"organs_dseg\.nii\.gz: .*15\.0 mm"):
        reference_of(case)
