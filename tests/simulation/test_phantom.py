"""The phantom against anatomy: sizes, sides, heights; and its lesion table against its voxels."""

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.simulation import FDG, ORGAN_LABELS, make_phantom
from pipeline.simulation.phantom import block_mean, majority_labels, reduce_lesion_labels
from pipeline.simulation.physique import Physique, body_mass

SHAPE, VOXEL_SIZE = (80, 80, 160), (6.0, 6.0, 6.0)
VOXEL_VOLUME = 6.0**3 * 1e-6  # [L]
SEEDS = range(6)


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(np.random.default_rng(s), shape=SHAPE, voxel_size=VOXEL_SIZE, n_lesions=25) for s in SEEDS]


def centroid(phantom, organ):
    """Mean position of an organ [mm]: right, anterior, superior of the lower left back corner."""
    return np.argwhere(phantom.labels == ORGAN_LABELS[organ]).mean(axis=0) * phantom.voxel_size


def test_brain_and_liver_have_human_volumes(phantoms):
    for p in phantoms:
        brain, liver = ((p.labels == ORGAN_LABELS[o]).sum() * VOXEL_VOLUME for o in ("brain", "liver"))
        assert 1.0 <= brain <= 1.7
        assert 1.0 <= liver <= 2.2
        # As drawn, whatever the girth.
        assert brain == pytest.approx(p.physique.brain_volume, rel=0.15)
        assert liver == pytest.approx(p.physique.liver_volume, rel=0.06)


def test_other_organs_have_human_volumes(phantoms):
    ranges = {"lung": (2.5, 9.0), "spleen": (0.08, 0.4), "kidney": (0.2, 0.5), "bladder": (0.04, 0.5)}
    for p in phantoms:
        for organ, (low, high) in ranges.items():
            assert low <= (p.labels == ORGAN_LABELS[organ]).sum() * VOXEL_VOLUME <= high, organ


def test_organs_are_on_their_sides(phantoms):
    for p in phantoms:
        middle = np.argwhere(p.labels > 0).mean(axis=0) * p.voxel_size
        where = {organ: centroid(p, organ) for organ in ORGAN_LABELS}
        # Right is +x, anterior +y, superior +z.
        assert where["liver"][0] > middle[0] + 20
        assert where["spleen"][0] < middle[0] - 50
        assert where["myocardium"][0] < middle[0]
        assert where["myocardium"][1] > where["kidney"][1] + 40
        order = ["brain", "lung", "liver", "kidney", "bladder"]
        heights = [where[organ][2] for organ in order]
        assert heights == sorted(heights, reverse=True)
        assert where["brain"][2] > 0.85 * SHAPE[2] * VOXEL_SIZE[2]


def test_weight_follows_the_build(phantoms):
    for p in phantoms:
        assert p.body_weight == pytest.approx(p.physique.mass, rel=0.2)


def test_body_mass_of_a_water_column_is_its_volume():
    water = np.zeros((20, 20, 200))
    water[5:15, 5:15] = 0.0096
    # All of a patient of 1.5 m lies in a field of view of 2 m: 0.1 x 0.1 x 2 m of water.
    assert body_mass(water, (10.0, 10.0, 10.0), height=1.5) == pytest.approx(20.0, rel=1e-6)


def test_head_does_not_grow_with_girth():
    def build(mass):
        return Physique(
            sex="M", height=1.75, mass=mass, brain_volume=1.4, liver_volume=1.5, depth_ratio=1.0, fat_thickness=15.0
        )

    thin_patient, heavy_patient = build(55.0), build(95.0)
    head, chest = np.array([100.0]), np.array([500.0])
    assert thin_patient.stretch(head)[0] == pytest.approx(heavy_patient.stretch(head)[0])
    ratio = heavy_patient.stretch(chest)[0] / thin_patient.stretch(chest)[0]
    # Mass per height goes with the cross-section.
    assert ratio**2 == pytest.approx(95 / 55)


def test_depth_map_is_continuous_and_rises():
    physique = Physique(
        sex="F", height=1.6, mass=60.0, brain_volume=1.2, liver_volume=1.4, depth_ratio=1.0, fat_thickness=20.0
    )
    depth = np.arange(0.0, 1500.0, 0.5)
    steps = np.diff(physique.reference_depth(depth))
    assert steps.min() > 0.4
    assert steps.max() < 0.6


def test_uptake_and_attenuation_are_physical(phantoms):
    for p in phantoms:
        assert np.isfinite(p.activity).all()
        assert p.activity.min() >= 0
        assert (p.activity[p.labels == 0] == 0).mean() > 0.9
        lesion_free = p.lesion_labels == 0
        liver = p.activity[(p.labels == ORGAN_LABELS["liver"]) & lesion_free]
        assert liver.mean() == pytest.approx(p.uptake["liver"], rel=0.06)
        assert p.attenuation.min() >= 0
        assert p.attenuation.max() <= 0.0131


def test_every_uptake_names_its_source():
    for organ, uptake in FDG.items():
        assert uptake.source, organ
        assert 0 < uptake.sd < uptake.mean
        assert uptake.follows is None or FDG[uptake.follows].follows is None


def test_lesion_table_is_what_the_voxels_hold(phantoms):
    for p in phantoms:
        assert list(p.lesions["id"]) == list(range(1, len(p.lesions) + 1))
        assert p.lesion_labels.max() == len(p.lesions)
        for row in p.lesions.itertuples():
            inside = p.lesion_labels == row.id
            assert inside.sum() * VOXEL_VOLUME * 1e3 == pytest.approx(row.volume, abs=1e-3)
            assert p.activity[inside].mean() == pytest.approx(row.suv_mean, rel=1e-3)
            assert p.activity[inside].max() == pytest.approx(row.suv_max, rel=1e-3)
            assert np.pi / 6 * row.diameter**3 * 1e-3 == pytest.approx(row.volume, rel=1e-2)
            center = np.argwhere(inside).mean(axis=0) * p.voxel_size
            np.testing.assert_allclose(center, [row.x, row.y, row.z], atol=0.01)


def test_lesions_are_many_and_diverse(phantoms):
    diameters = np.concatenate([p.lesions["diameter"] for p in phantoms])
    sites = np.concatenate([p.lesions["site"] for p in phantoms])
    uptake = np.concatenate([p.lesions["suv_mean"] for p in phantoms])
    assert len(sites) >= 0.85 * 25 * len(phantoms)
    assert set(sites) == {"lung", "liver", "bone", "node", "soft"}
    assert diameters.min() < 10
    assert 30 < diameters.max() < 70
    assert np.quantile(uptake, 0.9) / np.quantile(uptake, 0.1) > 3


def test_no_lesions_when_none_are_asked_for():
    p = make_phantom(np.random.default_rng(1), shape=(40, 40, 80), voxel_size=(12.0,) * 3, n_lesions=0)
    assert len(p.lesions) == 0
    assert p.lesion_labels.max() == 0


def test_a_negative_number_of_lesions_is_refused():
    with pytest.raises(PETError, match="-1"):
        make_phantom(np.random.default_rng(1), shape=(40, 40, 80), voxel_size=(12.0,) * 3, n_lesions=-1)


def test_coarser_grids_keep_means_majorities_and_small_lesions():
    rng = np.random.default_rng(0)
    volume = rng.random((8, 6, 4)).astype(np.float32)
    assert block_mean(volume, 2)[1, 2, 0] == pytest.approx(volume[2:4, 4:6, 0:2].mean())
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[:2, :2, :2] = 7
    labels[0, 0, 0] = 3
    np.testing.assert_array_equal(np.argwhere(majority_labels(labels, 2) == 7), [[0, 0, 0]])
    lesions = np.zeros((4, 4, 4), dtype=np.uint16)
    lesions[3, 3, 2] = 1
    lesions[:2, :2, :2] = 2
    lesions[2, 0, 0] = 2
    reduced = reduce_lesion_labels(lesions, 2)
    np.testing.assert_array_equal(np.argwhere(reduced == 1), [[1, 1, 1]])
    np.testing.assert_array_equal(np.argwhere(reduced == 2), [[0, 0, 0]])
