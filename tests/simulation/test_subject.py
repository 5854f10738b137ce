"""A whole simulated patient: reproducible, calibrated, and true to its phantom."""

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.simulation import ORGAN_LABELS, simulate_subject


def images(subject):
    return {
        "truth": subject.truth.activity,
        "noise_free": subject.noise_free,
        "full": subject.full_dose,
        "repeat": subject.full_dose_repeat,
        "labels": subject.truth.labels,
        "lesions": subject.truth.lesion_labels,
        "attenuation": subject.truth.attenuation,
        **subject.low_dose,
    }


def test_same_seed_gives_the_same_bytes(patient, coarse_scanner):
    again = simulate_subject(11, scanner=coarse_scanner, n_lesions=20)
    for name, image in images(patient).items():
        assert image.tobytes() == images(again)[name].tobytes(), name
    assert patient.lesions.equals(again.lesions)
    assert patient.parameters == again.parameters


def test_another_seed_gives_another_patient(patient, coarse_scanner):
    other = simulate_subject(12, scanner=coarse_scanner, dose_reduction_factors=(4,), n_lesions=20)
    assert not np.array_equal(patient.truth.activity, other.truth.activity)
    assert not np.array_equal(patient.full_dose, other.full_dose)


def test_the_full_dose_does_not_depend_on_the_factors(patient, coarse_scanner):
    fewer = simulate_subject(11, scanner=coarse_scanner, dose_reduction_factors=(4,), n_lesions=20)
    np.testing.assert_array_equal(fewer.full_dose, patient.full_dose)
    np.testing.assert_array_equal(fewer.low_dose[4.0], patient.low_dose[4.0])


def test_images_share_one_grid(patient):
    for image in images(patient).values():
        assert image.shape == patient.scanner.matrix
    for image in (patient.truth.activity, patient.full_dose, *patient.low_dose.values()):
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
    np.testing.assert_allclose(np.diag(patient.scanner.affine)[:3], patient.scanner.voxel_size)


def test_reconstruction_is_in_suv(patient):
    body = patient.truth.labels > 0
    for image in (patient.noise_free, patient.full_dose, patient.full_dose_repeat):
        assert image[body].sum() == pytest.approx(patient.truth.activity[body].sum(), rel=0.05)


def test_counts_are_set_by_the_liver(patient):
    target = patient.parameters["liver_cov_target"]
    low, high = patient.scanner.liver_cov
    assert low <= target <= high
    # A coarse liver has few independent voxels to measure noise in.
    assert patient.parameters["liver_cov_full_dose"] == pytest.approx(target, rel=0.25)


def test_noise_grows_with_the_square_root_of_the_factor(patient):
    liver = (patient.truth.labels == ORGAN_LABELS["liver"]) & (patient.truth.lesion_labels == 0)
    full = (patient.full_dose - patient.noise_free)[liver].std()
    for factor in (4.0, 10.0, 20.0):
        low = (patient.low_dose[factor] - patient.noise_free)[liver].std()
        assert low / full == pytest.approx(np.sqrt(factor), rel=0.15)


def test_lesions_lie_where_the_table_says(patient):
    to_voxel = np.linalg.inv(patient.scanner.affine)
    large = patient.lesions[patient.lesions["diameter"] > 30]
    assert len(large) > 0
    for row in large.itertuples():
        inside = patient.truth.lesion_labels == row.id
        center = (to_voxel @ [row.x, row.y, row.z, 1.0])[:3]
        np.testing.assert_allclose(center, np.argwhere(inside).mean(axis=0), atol=0.5)
        # Voxels at least half in the lesion: the mean lies between the background and the lesion's own.
        assert 0.4 * row.suv_mean < patient.truth.activity[inside].mean() < 1.02 * row.suv_max


def test_every_lesion_keeps_a_voxel(patient):
    assert set(np.unique(patient.truth.lesion_labels)) - {0} == set(patient.lesions["id"])


def test_less_activity_loses_randoms_with_the_square(coarse_scanner, patient):
    subject = simulate_subject(
        11, scanner=coarse_scanner, dose_reduction_factors=(4, 7.5, 100), dose_mode="less_activity", n_lesions=20
    )
    np.testing.assert_array_equal(subject.full_dose, patient.full_dose)
    r, full = coarse_scanner.randoms_fraction, subject.parameters["prompts_full_dose"]
    for factor, prompts in zip((4, 7.5, 100), subject.parameters["prompts_low_dose"], strict=True):
        expected = full * ((1 - r) / factor + r / factor**2)
        assert abs(prompts - expected) < 3 * np.sqrt(expected)
    # The reconstruction knows of it: nothing is lost or gained.
    body = patient.truth.labels > 0
    for factor, image in subject.low_dose.items():
        assert image[body].sum() == pytest.approx(patient.truth.activity[body].sum(), rel=0.05 if factor < 10 else 0.15)


@pytest.mark.parametrize("factors", [(1,), (4, 4), (0.5, 4), (-2,)])
def test_impossible_factors_are_refused(coarse_scanner, factors):
    with pytest.raises(PETError, match="above 1"):
        simulate_subject(1, scanner=coarse_scanner, dose_reduction_factors=factors)


def test_the_full_dose_does_not_depend_on_the_references(patient, coarse_scanner):
    fewer = simulate_subject(11, scanner=coarse_scanner, dose_reduction_factors=(4,), n_lesions=20, references=False)
    assert fewer.noise_free is None
    assert fewer.full_dose_repeat is None
    np.testing.assert_array_equal(fewer.full_dose, patient.full_dose)


def test_a_part_of_the_body_is_that_part_of_the_same_patient(patient, coarse_scanner):
    part = simulate_subject(11, scanner=coarse_scanner, dose_reduction_factors=(4,), n_lesions=20, axial_extent=450)
    assert part.full_dose.shape == (32, 32, 30)
    assert part.truth.uptake == patient.truth.uptake
    n = patient.truth.activity.shape[2]
    starts = [k for k in range(n - 29) if np.array_equal(patient.truth.activity[:, :, k : k + 30], part.truth.activity)]
    assert len(starts) == 1
    liver = np.flatnonzero((part.truth.labels == ORGAN_LABELS["liver"]).any(axis=(0, 1)))
    assert 60 <= (liver.mean() + 0.5) * 15 <= 450 - 60 + 15
    body = part.truth.labels > 0
    assert part.full_dose[body].sum() == pytest.approx(part.truth.activity[body].sum(), rel=0.1)


def test_a_lesion_that_an_end_cuts_is_no_lesion_of_the_part(patient):
    truth = patient.truth
    whole = truth.slices(slice(0, truth.labels.shape[2]))
    assert whole.lesions.equals(truth.lesions.reset_index(drop=True))
    through = int(np.flatnonzero((truth.lesion_labels == 1).any(axis=(0, 1)))[1])
    parts = [truth.slices(slice(0, through)), truth.slices(slice(through, None))]
    for part, start in zip(parts, (0, through), strict=True):
        assert set(part.lesions["id"]) == set(np.unique(part.lesion_labels)) - {0}
        for row in part.lesions.itertuples():
            assert (part.lesion_labels == row.id).sum() == (truth.lesion_labels == row.id).sum()
            assert row.z + start * truth.voxel_size[2] == pytest.approx(float(truth.lesions.set_index("id").z[row.id]))
    kept = set(parts[0].lesions["id"]) | set(parts[1].lesions["id"])
    assert 1 not in kept
    assert len(kept) > 10
