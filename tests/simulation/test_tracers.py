"""Tracers: published values, what is hottest, and where the activity goes."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.pet import PETError
from pipeline.pet.suv.nuclides import HALF_LIFE
from pipeline.simulation import (
    DOTATATE,
    FAPI,
    FDG,
    FLT,
    FLUORIDE,
    ORGAN_LABELS,
    PSMA_11,
    TRACERS,
    OrganUptake,
    make_phantom,
    tracer_named,
)
from pipeline.simulation.patient.lesions import LESION_SITES
from pipeline.simulation.patient.uptake import draw_uptake

SHAPE, VOXEL_SIZE = (60, 60, 120), (8.0, 8.0, 8.0)
EXCRETION = {"bladder", "renal_pelvis", "gallbladder"}


@pytest.fixture(scope="module", params=TRACERS, ids=lambda t: t.name)
def given(request):
    """A tracer, and a patient who was given it."""
    rng = np.random.default_rng(8)
    return request.param, make_phantom(rng, shape=SHAPE, voxel_size=VOXEL_SIZE, tracer=request.param, n_lesions=0)


def ranked(tracer):
    """Organs by mean uptake, the hottest first, without urine and bile."""
    return sorted(set(tracer.organs) - EXCRETION, key=lambda organ: -tracer.organs[organ].mean)


@pytest.mark.parametrize(
    ("name", "tracer"),
    [
        ("FDG", FDG),
        ("18F-fdg", FDG),
        ("PSMA", PSMA_11),
        ("psma-11", PSMA_11),
        ("68Ga-PSMA-11", PSMA_11),
        ("DOTATATE", DOTATATE),
        ("Ga-68 DOTATATE", DOTATATE),
        ("fapi", FAPI),
        ("FAPI-46", FAPI),
        ("18F-FLT", FLT),
        ("NaF", FLUORIDE),
        ("F-18 sodium fluoride", FLUORIDE),
    ],
)
def test_a_tracer_is_found_by_every_usual_name(name, tracer):
    assert tracer_named(name) is tracer


def test_an_unknown_tracer_is_refused_with_those_that_are_known():
    with pytest.raises(PETError, match=r"'FET'.*FDG, PSMA-11, DOTATATE, FAPI-04, FLT, NaF"):
        tracer_named("FET")


def test_hottest_organs_are_those_of_the_literature():
    assert ranked(FDG)[0] == "grey_matter"
    # Kirchner 2017: kidneys, then submandibular and parotid glands, then duodenum and lacrimal glands.
    assert ranked(PSMA_11)[:5] == ["kidney", "submandibular", "parotid", "duodenum", "lacrimal"]
    # Kuyumcu 2013 and Oezgueven 2021: spleen, kidneys, adrenals; pituitary and liver follow.
    assert ranked(DOTATATE)[:5] == ["spleen", "kidney", "adrenal", "pituitary", "liver"]
    # Mu 2022: uterus and submandibular glands; everything else is low.
    assert ranked(FAPI)[:2] == ["uterus", "submandibular"]
    assert max(FAPI.organs[organ].mean for organ in ranked(FAPI)[2:]) < 2
    # Clin Nucl Med 2024;49:722: more in marrow than in the liver; elsewhere FLT is in kidneys and urine.
    assert ranked(FLT)[:3] == ["marrow", "liver", "kidney"]
    # Fluoride goes to bone; no soft tissue but the kidneys has more than blood.
    assert ranked(FLUORIDE)[0] == "marrow"
    assert set(ranked(FLUORIDE)[1:4]) == {"cortical_bone", "kidney", "blood"}


def test_means_are_those_of_the_publications():
    assert FDG.organs["tonsil"].mean == 3.45
    assert FDG.organs["testis"].mean == 2.57
    assert 1.9 <= FDG.organs["liver"].mean <= 2.3
    assert 30 <= PSMA_11.organs["kidney"].mean <= 45
    assert 12 <= PSMA_11.organs["parotid"].mean <= 16
    assert DOTATATE.organs["spleen"].mean == pytest.approx(16, rel=0.1)
    assert DOTATATE.organs["liver"].mean == pytest.approx(4.8, rel=0.2)
    assert 0.9 <= FAPI.organs["muscle"].mean <= 1.5
    assert (FLT.organs["liver"].mean, FLT.organs["marrow"].mean) == (4.86, 7.67)
    # SUVmax of normal vertebrae is below 21, of normal shafts below 8.4 (Radiol Bras 2016;49:12).
    assert FLUORIDE.organs["marrow"].range[1] / 0.6 < 21
    assert FLUORIDE.organs["cortical_bone"].range[1] / 0.6 < 8.4


@pytest.mark.parametrize("tracer", TRACERS, ids=lambda t: t.name)
def test_every_table_is_complete_and_names_its_sources(tracer):
    assert set(tracer.organs) == set(FDG.organs)
    assert tracer.radionuclide in HALF_LIFE
    for organ, uptake in tracer.organs.items():
        assert uptake.source, organ
        assert 0 < uptake.sd < uptake.mean, organ
        assert uptake.follows is None or tracer.organs[uptake.follows].follows is None
    assert set(tracer.lesion_sites) <= set(LESION_SITES)
    assert sum(site.share for site in tracer.lesion_sites.values()) == pytest.approx(1)
    for name, site in tracer.lesion_sites.items():
        assert site.source
        assert site.highest > 2 * site.lowest
        # Brighter than the organ that it grows in.
        background = tracer.organs[{"lung": "lung", "liver": "liver", "bone": "marrow"}.get(name, "muscle")]
        assert site.lowest > background.mean


def test_injected_activity_goes_with_the_weight_up_to_the_largest():
    assert FDG.injected_activity(80.0) == pytest.approx(280e6)
    # Prescribing information of Ga-68 dotatate: 2 MBq/kg, at most 200 MBq.
    assert DOTATATE.injected_activity(60.0) == pytest.approx(120e6)
    assert DOTATATE.injected_activity(130.0) == pytest.approx(200e6)


def test_draws_have_the_mean_and_spread_of_the_table():
    organs = {"plain": OrganUptake(2.0, 0.4, "test"), "skewed": OrganUptake(19.0, 12.5, "test", skewed=True)}
    rng = np.random.default_rng(0)
    draws = [draw_uptake(rng, organs) for _ in range(20000)]
    for organ, uptake in organs.items():
        values = np.array([d[organ] for d in draws])
        assert values.mean() == pytest.approx(uptake.mean, rel=0.03)
        # Without the patients beyond 2.5 standard deviations the spread is a little smaller.
        assert values.std() == pytest.approx(uptake.sd, rel=0.12)
        low, high = uptake.range
        assert low <= values.min() < values.max() <= high


def test_organs_that_follow_share_the_deviation():
    draws = [draw_uptake(np.random.default_rng(seed), FDG.organs) for seed in range(200)]
    grey, cerebellum, spleen = (np.array([d[o] for d in draws]) for o in ("grey_matter", "cerebellum", "spleen"))
    assert np.corrcoef(grey, cerebellum)[0, 1] > 0.99
    assert abs(np.corrcoef(grey, spleen)[0, 1]) < 0.2


def test_what_is_hottest_in_the_table_is_hottest_in_the_volume(given):
    tracer, p = given
    means = {
        organ: p.activity[p.labels == value].mean()
        for organ, value in ORGAN_LABELS.items()
        if (p.labels == value).any()
    }
    solid = sorted(set(means) - EXCRETION, key=lambda organ: -means[organ])
    if tracer is FAPI:
        assert solid[0] in {"uterus", "submandibular"}
        assert means[solid[0]] < 6
    else:
        hottest = {"FDG": "brain", "PSMA-11": "kidney", "DOTATATE": "spleen", "FLT": "bone", "NaF": "bone"}
        assert solid[0] == hottest[tracer.name]
    if tracer is PSMA_11:
        # In one patient of several, liver or spleen lies among them.
        assert len(set(solid[1:4]) & {"parotid", "submandibular", "lacrimal", "duodenum"}) >= 2
        assert means["brain"] < 0.5 < means["liver"]


def test_organs_far_above_average_hold_no_more_than_was_injected():
    # Of these, seed 10 draws kidneys, bladder and bowel that together would.
    for seed in (9, 10):
        p = make_phantom(
            np.random.default_rng(seed), shape=(60, 60, 120), voxel_size=(8.0,) * 3, tracer=PSMA_11, n_lesions=0
        )
        assert p.activity.sum(dtype=np.float64) * 512e-6 < 0.9 * p.body_weight
        liver = ndimage.binary_erosion(p.labels == ORGAN_LABELS["liver"])
        assert p.activity[liver].mean() == pytest.approx(p.uptake["liver"], rel=0.06)


def test_no_more_activity_is_in_the_patient_than_was_injected(given):
    _, p = given
    litre = float(np.prod(VOXEL_SIZE)) * 1e-6
    # SUV is concentration over injected activity per mass: its integral in kg is the mass that holds all of it.
    mass = p.activity.sum(dtype=np.float64) * litre
    assert 0.4 * p.body_weight < mass < 0.9 * p.body_weight


def test_psma_is_for_men():
    sexes = {
        make_phantom(
            np.random.default_rng(s), shape=(16, 16, 32), voxel_size=(30.0,) * 3, n_lesions=0, tracer=PSMA_11
        ).physique.sex
        for s in range(5)
    }
    assert sexes == {"M"}


def test_psma_lesions_grow_in_prostate_nodes_and_bone():
    p = make_phantom(np.random.default_rng(4), shape=SHAPE, voxel_size=VOXEL_SIZE, tracer=PSMA_11, n_lesions=60)
    sites = p.lesions["site"].value_counts()
    assert set(sites.index) <= set(PSMA_11.lesion_sites)
    # Each has 36 % of the table; of 50 lesions together at least 45 % with a probability of 0.9999.
    assert sites["bone"] + sites["node"] > 0.45 * len(p.lesions)
    assert sites["prostate"] >= 1
    prostate = p.lesions[p.lesions["site"] == "prostate"].iloc[0]
    assert p.labels[tuple(round(prostate[axis] / 8.0) for axis in "xyz")] == ORGAN_LABELS["prostate"]
