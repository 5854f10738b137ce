"""The phantom against anatomy: sizes, sides, heights, arms; and its lesion table against its voxels."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.pet import PETError
from pipeline.simulation import ORGAN_LABELS, make_phantom
from pipeline.simulation.patient.lesions import LESION_SITES
from pipeline.simulation.patient.phantom import block_mean, majority_labels, reduce_lesion_labels
from pipeline.simulation.patient.physique import Physique, body_mass

SHAPE, VOXEL_SIZE = (60, 60, 120), (8.0, 8.0, 8.0)
VOXEL_VOLUME = 8.0**3 * 1e-6  # [L]
SEEDS = range(5)

# Ranges of adult volumes [L].
# Brain and liver: the project's specification. Spleen, kidneys (both), lungs (both, quiet breathing), bladder,
# pancreas: usual CT volumetry of adults.
LITERATURE = {
    "brain": (1.1, 1.7),
    "liver": (1.0, 2.2),
    "spleen": (0.08, 0.35),
    "kidney": (0.2, 0.45),
    "lung": (2.5, 7.0),
    "bladder": (0.05, 0.5),
    "pancreas": (0.03, 0.15),
}


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(np.random.default_rng(s), shape=SHAPE, voxel_size=VOXEL_SIZE, n_lesions=25) for s in SEEDS]


@pytest.fixture(scope="module")
def population():
    """Fifty patients on a coarse grid: volumes [L] by organ, and what is known of each."""
    patients = []
    for seed in range(50):
        p = make_phantom(np.random.default_rng(seed), shape=(32, 32, 64), voxel_size=(15.0,) * 3, n_lesions=0)
        volumes = {organ: (p.labels == value).sum() * 1.5**3 * 1e-3 for organ, value in ORGAN_LABELS.items()}
        patients.append((volumes, p))
    return patients


def centroid(phantom, organ):
    """Mean position of an organ [mm]: right, anterior, superior of the lower left back corner."""
    voxels = np.argwhere(phantom.labels == ORGAN_LABELS[organ])
    return (voxels.mean(axis=0) if len(voxels) else np.full(3, np.nan)) * phantom.voxel_size


REMOVED = {"spleen": "no spleen", "kidney": "one kidney"}


@pytest.mark.parametrize("organ", LITERATURE)
def test_organs_of_fifty_patients_have_the_volumes_of_the_literature(population, organ):
    low, high = LITERATURE[organ]
    volumes = [v[organ] for v, p in population if REMOVED.get(organ) not in p.findings]
    assert low <= min(volumes)
    assert max(volumes) <= high
    # A population, not one organ fifty times.
    assert np.std(volumes) > 0.04 * np.mean(volumes)


def test_brain_and_liver_are_as_large_as_drawn_whatever_the_girth(phantoms):
    for p in phantoms:
        brain, liver = ((p.labels == ORGAN_LABELS[o]).sum() * VOXEL_VOLUME for o in ("brain", "liver"))
        assert brain == pytest.approx(p.physique.brain_volume, rel=0.15)
        assert liver == pytest.approx(p.physique.liver_volume, rel=0.06)


def test_organs_are_on_their_sides(phantoms):
    for p in phantoms:
        middle = np.argwhere(p.labels > 0).mean(axis=0) * p.voxel_size
        names = ["brain", "parotid", "lung", "myocardium", "liver", "spleen", "kidney", "gallbladder", "bladder"]
        where = {organ: centroid(p, organ) for organ in names}
        if "no gallbladder" in p.findings:
            assert np.isnan(where.pop("gallbladder")).all()
        # Right is +x, anterior +y, superior +z.
        assert where["liver"][0] > middle[0] + 20
        assert where.get("gallbladder", [np.inf])[0] > middle[0] + 10
        assert where["spleen"][0] < middle[0] - 50
        assert where["myocardium"][0] < middle[0]
        assert where["myocardium"][1] > where["kidney"][1] + 40
        order = ["brain", "parotid", "lung", "liver", "kidney", "bladder"]
        heights = [where[organ][2] for organ in order]
        assert heights == sorted(heights, reverse=True)
        assert where["brain"][2] > 0.85 * SHAPE[2] * VOXEL_SIZE[2]


def test_prostate_and_uterus_go_with_the_sex(population):
    assert {p.physique.sex for _, p in population} == {"F", "M"}
    for volumes, p in population:
        assert (volumes["prostate"] > 0, volumes["uterus"] > 0) == ((p.physique.sex == "M"), (p.physique.sex == "F"))


def test_arms_are_up_or_down_in_ordinary_patients(population):
    ordinary = [p for _, p in population if 20 <= p.physique.mass / p.physique.height**2 <= 28]
    down = np.mean([p.arms == "down" for p in ordinary])
    assert len(ordinary) > 20
    assert 0.2 < down < 0.7


def test_arms_lie_where_they_are_said_to(population):
    for _, p in population:
        body = p.labels > 0
        # All of the patient is in a field of view of 480 mm.
        assert body[[0, -1]].sum() + body[:, [0, -1]].sum() < 0.002 * body.sum()
        # Beside the vertex only arms that are up.
        at_vertex = ndimage.label(body[:, :, -4])[1]
        assert at_vertex == (3 if p.arms == "up" else 1)


def test_weight_follows_the_build(population):
    for _, p in population:
        assert p.body_weight == pytest.approx(p.physique.mass, rel=0.15)


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
        assert p.attenuation.min() >= 0
        has_metal = bool({"hip prosthesis", "dental metal"} & p.findings)
        assert p.attenuation.max() <= (0.0361 if has_metal else 0.0131)


@pytest.mark.parametrize("organ", ["liver", "spleen", "lung", "bladder"])
def test_organs_hold_the_uptake_that_was_drawn(phantoms, organ):
    for p in phantoms:
        core = ndimage.binary_erosion((p.labels == ORGAN_LABELS[organ]) & (p.lesion_labels == 0))
        low, high = p.tracer.organs[organ].range
        assert low <= p.uptake[organ] <= high
        assert p.activity[core].mean() == pytest.approx(p.uptake[organ], rel=0.06)


def test_the_same_seed_makes_the_same_patient():
    def make():
        return make_phantom(np.random.default_rng(3), shape=(40, 40, 80), voxel_size=(12.0,) * 3)

    first, second = make(), make()
    np.testing.assert_array_equal(first.activity, second.activity)
    np.testing.assert_array_equal(first.lesion_labels, second.lesion_labels)


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


def test_lesions_lie_at_their_sites_and_apart(phantoms):
    for p in phantoms:
        assert (p.labels[p.lesion_labels > 0] > 0).all()
        # Each is measured alone: no two touch.
        assert ndimage.label(p.lesion_labels > 0, np.ones((3, 3, 3)))[1] == len(p.lesions)
        for row in p.lesions[p.lesions["site"].isin(["lung", "liver"])].itertuples():
            nearest = tuple(np.round(np.array([row.x, row.y, row.z]) / VOXEL_SIZE).astype(int))
            around = p.labels[tuple(slice(i - 2, i + 3) for i in nearest)]
            assert np.isin(around, LESION_SITES[row.site].labels).any()


def test_lesion_diameters_are_log_uniform_from_4_to_60_mm(phantoms):
    diameters = np.concatenate([p.lesions["diameter"] for p in phantoms])
    assert len(diameters) >= 0.9 * 25 * len(phantoms)
    assert diameters.max() < 70
    # Quartiles of a log-uniform distribution; voxels of 6 mm blur the smallest, so those are left out.
    expected = np.exp(np.log(4) + np.array([0.5, 0.75]) * np.log(60 / 4))
    np.testing.assert_allclose(np.quantile(diameters, [0.5, 0.75]), expected, rtol=0.2)


def test_lesions_are_of_every_site_and_of_all_uptakes(phantoms):
    sites = np.concatenate([p.lesions["site"] for p in phantoms])
    uptake = np.concatenate([p.lesions["suv_max"] for p in phantoms])
    assert set(sites) == {"lung", "liver", "bone", "node", "soft"}
    assert np.quantile(uptake, 0.9) / np.quantile(uptake, 0.1) > 3


def test_no_lesions_when_none_are_asked_for(population):
    for _, p in population:
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
