"""Lesions at known places: where they lie, what they hold, and scans with and without them."""

import dataclasses

import numpy as np
import pytest
from scanners import COARSE_SCANNER

from pipeline.errors import PETError
from pipeline.pet import read_pet
from pipeline.simulation import ORGAN_LABELS, SCANNERS, Phantom, make_phantom
from pipeline.simulation.lesion_pairs import ABSENT, CONTRASTS, LesionPairs, simulate_lesion_pairs
from pipeline.simulation.lesion_places import SEPARATION, PlacedLesion, centers_seen, find_places, with_lesions

STUDY = LesionPairs(n_patients=1, scanner="coarse", dose_reduction_factors=(4.0, 20.0), axial_extent=450.0)


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return make_phantom(np.random.default_rng(3), shape=(64, 64, 128), voxel_size=(7.5, 7.5, 7.5), n_lesions=0)


@pytest.fixture(scope="module", autouse=True)
def coarse_preset():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCANNERS, "coarse", dataclasses.replace(COARSE_SCANNER, supersampling=1))
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, coarse_preset):
    return simulate_lesion_pairs(tmp_path_factory.mktemp("study"), STUDY)[0]


def test_places_lie_in_their_organ_and_apart(healthy):
    places = find_places(healthy, np.random.default_rng(0), n_per_site=6)
    assert {p.site for p in places} == set(CONTRASTS)
    centers = np.array([p.center for p in places])
    distances = np.linalg.norm(centers[:, None] - centers, axis=2) + 1e9 * np.eye(len(centers))
    assert distances.min() >= SEPARATION
    for place in places:
        assert healthy.labels[tuple(round(c / 7.5) for c in place.center)] == ORGAN_LABELS[place.site]
        assert 28.0 <= place.center[2] <= 128 * 7.5 - 28.0
    liver = [p.background for p in places if p.site == "liver"]
    assert liver == pytest.approx([healthy.uptake["liver"]] * len(liver), rel=0.25)


def test_a_lesion_adds_its_contrast_times_its_volume(healthy):
    place = find_places(healthy, np.random.default_rng(0), n_per_site=1)[0]
    for diameter in (7.0, 20.0):
        added = with_lesions(healthy, [PlacedLesion(place, diameter, 2.0)]).activity - healthy.activity
        held = added.sum(dtype=np.float64) * 7.5**3
        assert held == pytest.approx(2 * place.background * np.pi / 6 * diameter**3, rel=0.03)


def test_a_breath_moves_lesions_of_the_liver_down_and_bones_not(healthy):
    still = dataclasses.replace(healthy, breathing=dataclasses.replace(healthy.breathing, amplitude=0.0))
    moving = dataclasses.replace(healthy, breathing=dataclasses.replace(healthy.breathing, amplitude=16.0))
    places = find_places(healthy, np.random.default_rng(0), n_per_site=3)
    truth = np.array([p.center for p in places])
    np.testing.assert_allclose(centers_seen(still, places), truth, atol=0.1)
    shift = centers_seen(moving, places) - truth
    for place, moved in zip(places, shift, strict=True):
        assert np.abs(moved[:2]).max() < 0.3
        if place.site == "liver":
            assert -6.5 < moved[2] < -1


def test_scans_with_and_without_lesions_have_their_own_noise(pairs):
    absent, one, two = (read_pet(pairs.scan(name, 4.0)).suv for name in STUDY.names)
    truth = read_pet(pairs.noise_free).suv
    body = truth > 0.3
    noises = [image[body] - truth[body] for image in (absent, one, two)]
    assert np.corrcoef(noises[0], noises[1])[0, 1] < 0.2
    assert np.corrcoef(noises[1], noises[2])[0, 1] < 0.2
    assert np.std(read_pet(pairs.scan(ABSENT, 20.0)).suv[body] - truth[body]) > 1.5 * np.std(noises[0])


def test_every_place_is_scanned_empty_and_with_other_lesions_each_time(pairs):
    table = pairs.lesions()
    without = table[table["scan"] == ABSENT]
    assert without["diameter"].isna().all()
    for place, rows in table[table["scan"] != ABSENT].groupby("place"):
        assert len(without[without["place"] == place]) == 1
        assert rows[["x", "y", "z"]].drop_duplicates().shape[0] == 1
        assert rows[["diameter", "level"]].drop_duplicates().shape[0] == STUDY.n_present
        for row in rows.itertuples():
            assert row.contrast == CONTRASTS[row.site][row.diameter][("faint", "clear").index(row.level)]


def test_a_study_goes_on_and_refuses_another(pairs):
    before = {path: path.stat().st_mtime_ns for path in pairs.folder.rglob("*.nii.gz")}
    assert len(before) == 1 + 3 * 2
    simulate_lesion_pairs(pairs.folder.parent, STUDY)
    assert {path: path.stat().st_mtime_ns for path in pairs.folder.rglob("*.nii.gz")} == before
    with pytest.raises(PETError, match="was simulated with seed"):
        simulate_lesion_pairs(pairs.folder.parent, dataclasses.replace(STUDY, seed=1))


def test_the_same_seed_gives_the_same_bytes(tmp_path, pairs):
    again = simulate_lesion_pairs(tmp_path / "again", STUDY)[0]
    for path in sorted((pairs.folder / "pet").iterdir()):
        assert (again.folder / "pet" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"n_present": 0}, "expected at least 1"),
        ({"contrasts": {"brain": {10.0: (1.0, 2.0)}}}, "'brain' is no place for lesions"),
        ({"contrasts": {"liver": {40.0: (1.0, 2.0)}}}, "below 36 mm"),
        ({"scanner": "none"}, "no scanner preset is called 'none'"),
        ({"dose_reduction_factors": (1.0,)}, "above 1"),
    ],
)
def test_a_study_that_cannot_be_is_refused(tmp_path, mistake, message):
    with pytest.raises(PETError, match=message):
        simulate_lesion_pairs(tmp_path / "pairs", LesionPairs(**{"n_patients": 1, **mistake}))
    assert not list(tmp_path.rglob("sub-*"))
