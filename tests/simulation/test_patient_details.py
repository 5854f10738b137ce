"""Uneven tissue, findings, and breathing: known statistics, shares, and what must not change."""

import numpy as np
import pytest

from pipeline.simulation import ORGAN_LABELS, make_phantom
from pipeline.simulation.patient.details.breathing import Breathing, Motion, draw_breathing
from pipeline.simulation.patient.details.findings import FINDINGS, draw_findings
from pipeline.simulation.patient.physique import draw_physique
from pipeline.simulation.patient.texture import Texture

VOXEL_SIZE = (4.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def moving_column():
    """A column of tissue with a liver from plane 10 to 29 of 60, in the middle of the field of view."""
    labels = np.zeros((40, 40, 60), dtype=np.uint8)
    labels[5:35, 5:35] = ORGAN_LABELS["lung"]
    labels[5:35, 5:35, 10:30] = ORGAN_LABELS["liver"]
    activity = np.where(labels == ORGAN_LABELS["liver"], 2.0, 0.5).astype(np.float32)
    moving = (ORGAN_LABELS["lung"], ORGAN_LABELS["liver"])
    return activity, Motion.of(labels, VOXEL_SIZE, moving=moving, liver=ORGAN_LABELS["liver"])


def test_texture_has_the_variance_and_the_spectrum_that_it_states():
    texture = Texture(np.random.default_rng(0), VOXEL_SIZE)
    field = texture.field((64, 64, 64), length=20.0)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=0.05)
    power = np.abs(np.fft.rfftn(field)) ** 2
    k = 2 * np.pi * np.fft.fftfreq(64, 4.0)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + np.abs(k[:33]) ** 2)
    low, high = ((radius > r) & (radius < 1.2 * r) for r in (0.15, 0.45))
    expected = ((1 + (20 * 0.495) ** 2) / (1 + (20 * 0.165) ** 2)) ** 1.9
    assert power[low].mean() / power[high].mean() == pytest.approx(expected, rel=0.25)


def test_stretched_texture_is_longer_along_z():
    field = Texture(np.random.default_rng(0), VOXEL_SIZE).field((64, 64, 64), length=15.0, stretch=3.0)
    across, along = (np.diff(field, axis=axis).std() for axis in (0, 2))
    assert along < 0.75 * across


def test_findings_are_as_frequent_as_stated_and_go_with_sex_and_tracer():
    rng = np.random.default_rng(0)
    drawn = [draw_findings(rng, sex="F", tracer="FDG") for _ in range(4000)]
    for name, finding in FINDINGS.items():
        assert finding.source, name
        assert np.mean([name in d for d in drawn]) == pytest.approx(finding.share, abs=4 * np.sqrt(0.25 / 4000))
    others = [draw_findings(rng, sex="M", tracer="PSMA-11") for _ in range(500)]
    assert not {"mastectomy", "brown fat", "laryngeal muscles"} & frozenset().union(*others)


def test_thick_and_thin_patients_are_drawn_and_fit_the_field_of_view():
    rng = np.random.default_rng(0)
    wide = [draw_physique(rng, field_of_view=700.0) for _ in range(3000)]
    index = np.array([p.mass / p.height**2 for p in wide])
    assert index.max() > 40
    assert index.min() < 18
    narrow = [draw_physique(rng, field_of_view=480.0) for _ in range(3000)]
    assert max(p.mass / p.height for p in narrow) <= 54.0 + 1e-9


def test_a_breath_begins_and_stays_longest_at_expiration():
    displacement = Breathing(12.0, 0.0, (0.0, 0.0, 0.0)).displacements
    assert displacement.min() >= 0
    assert displacement.max() <= 12
    # Mean of cos^4.
    assert displacement.mean() == pytest.approx(0.375 * 12, rel=0.01)


def test_breathing_blurs_the_dome_and_leaves_what_is_far_away(moving_column):
    activity, motion = moving_column
    mean = Breathing(16.0, 0.0, (0.0, 0.0, 0.0)).averaged(activity, motion)
    line, moved = activity[20, 20], mean[20, 20]
    # The dome of plane 29 comes down; the uptake of both organs stays what it was.
    assert line[29] == 2.0
    assert moved[29] < 1.9
    np.testing.assert_allclose(moved[33:], 0.5, rtol=1e-5)
    np.testing.assert_allclose(moved[14:24], 2.0, rtol=1e-5)
    assert mean.min() >= activity.min()
    assert mean.max() <= activity.max()
    np.testing.assert_array_equal(mean[0, 0], activity[0, 0])


def test_no_breathing_is_no_change(moving_column):
    activity, motion = moving_column
    still = Breathing(0.0, 0.0, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(still.averaged(activity, motion), activity, rtol=1e-6)
    attenuation = 0.004 * activity
    np.testing.assert_allclose(still.correction_map(attenuation, motion), attenuation, rtol=1e-6)


def test_a_map_in_inspiration_has_a_lower_dome(moving_column):
    activity, motion = moving_column
    attenuation = np.float32(0.005) * activity / 2
    taken = Breathing(5.0, 16.0, (0.0, 0.0, 0.0)).correction_map(attenuation, motion)
    # 16 mm are four planes: what holds liver in truth is lung in the map.
    assert attenuation[20, 20, 27] == pytest.approx(0.005)
    assert taken[20, 20, 27] < 0.002


def test_breathing_is_drawn_within_what_is_published():
    rng = np.random.default_rng(0)
    drawn = [draw_breathing(rng) for _ in range(2000)]
    amplitude = np.array([b.amplitude for b in drawn])
    assert amplitude.min() >= 3
    assert amplitude.max() <= 16
    beyond = np.mean([b.map_displacement > b.amplitude * 0.375 + 3 for b in drawn])
    assert beyond == pytest.approx(0.2, abs=0.04)


def test_breathing_keeps_the_uptake_of_liver_and_brain():
    p = make_phantom(np.random.default_rng(2), shape=(60, 60, 120), voxel_size=(8.0,) * 3, n_lesions=0)
    activity, attenuation = p.averaged_over_a_breath()
    brain = p.labels == ORGAN_LABELS["brain"]
    np.testing.assert_array_equal(activity[brain], p.activity[brain])
    assert activity.sum() == pytest.approx(p.activity.sum(), rel=0.02)
    assert attenuation.sum() == pytest.approx(p.attenuation.sum(), rel=0.02)
