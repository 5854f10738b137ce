"""A label map as a phantom: known geometry in, the same geometry, uptake and lesions out."""

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.simulation import FDG, ORGAN_LABELS, PSMA_11, LabelTissue, make_phantom, phantom_from_labels
from pipeline.simulation.patient.canvas import ATTENUATION
from pipeline.simulation.patient.physique import TOP_MARGIN

TABLE = {1: "muscle", 2: "liver", 3: "lung", 4: LabelTissue(2.5, attenuation="bone", organ="bone"), 5: 1.25}
GRID = {"shape": (60, 50, 100), "voxel_size": (5.0, 5.0, 5.0)}


def body_map():
    """A box of muscle, 200 x 140 x 400 mm, with organs in it; 4 mm voxels, RAS+."""
    labels = np.zeros((60, 50, 110), dtype=np.uint8)
    labels[5:55, 5:40, 5:105] = 1
    labels[32:52, 10:35, 30:60] = 2
    labels[10:28, 10:35, 60:95] = 3
    labels[26:34, 8:14, 10:100] = 4
    labels[40:44, 24:28, 80:84] = 5
    return labels, np.diag([4.0, 4.0, 4.0, 1.0])


def make(labels, affine, table=TABLE, *, seed=1, **options):
    keywords = {**GRID, "body_weight": 70.0, "n_lesions": 0, **options}
    return phantom_from_labels(labels, table, affine=affine, rng=np.random.default_rng(seed), **keywords)


def volume(p, organ):
    """[mL]."""
    return (p.labels == ORGAN_LABELS[organ]).sum() * np.prod(p.voxel_size) * 1e-3


def test_organs_keep_their_volume_and_uptake():
    labels, affine = body_map()
    p = make(labels, affine)
    for value, organ in ((2, "liver"), (3, "lung"), (4, "bone")):
        here = p.labels == ORGAN_LABELS[organ]
        assert volume(p, organ) == pytest.approx((labels == value).sum() * 0.064, rel=0.05)
        suv = p.uptake[organ] if organ != "bone" else 2.5
        assert np.median(p.activity[here]) == pytest.approx(suv, rel=0.05)
        assert np.median(p.attenuation[here]) == pytest.approx(ATTENUATION[{"liver": "soft"}.get(organ, organ)])
    assert set(p.uptake) == {"muscle", "liver", "lung"}
    assert p.physique is None
    assert p.body_weight == 70.0


def test_nothing_is_lost_or_gained():
    labels, affine = body_map()
    p = make(labels, affine, {1: 1.0, 2: 2.0, 3: 0.5, 4: 3.0, 5: 8.0}, texture=0.0)
    suv = np.array([0.0, 1.0, 2.0, 0.5, 3.0, 8.0])
    assert p.activity.sum() * 0.125 == pytest.approx(suv[labels].sum() * 0.064, rel=0.02)
    assert set(np.unique(p.activity[p.labels == 0])) <= set(np.unique(p.activity))
    # A voxel inside one label has exactly that label's uptake.
    assert (p.activity == 2.0).sum() > 0.7 * (labels == 2).sum() * 0.064 / 0.125


def test_equal_grids_return_the_map_itself():
    labels, affine = body_map()
    names = {1: "soft_tissue", 2: "liver", 3: "lung", 4: "bone", 5: "spleen"}
    table = {value: LabelTissue(float(value), organ=organ) for value, organ in names.items()}
    table[1] = LabelTissue(1.0)
    # TOP_MARGIN is a whole number of voxels, and the body is centred between them.
    p = make(labels, affine, table, shape=(60, 51, 130), voxel_size=(4.0, 4.0, 4.0), texture=0.0)
    body = labels[5:55, 5:40, 5:105]
    margin = round(TOP_MARGIN / 4.0)
    found = p.activity[5:55, 8:43, 130 - margin - 100 : 130 - margin]
    np.testing.assert_array_equal(found, body.astype(np.float32))
    assert p.activity.sum() == found.sum()


def test_orientation_of_the_map_does_not_matter():
    labels, affine = body_map()
    upright = make(labels, affine)
    # The same body stored as left, superior, posterior.
    turned = labels[::-1, ::-1, :].transpose(0, 2, 1)
    axes = np.array([[-4.0, 0, 0, 100.0], [0, 0, -4.0, -30.0], [0, 4.0, 0, 500.0], [0, 0, 0, 1.0]])
    again = make(turned, axes)
    np.testing.assert_array_equal(again.labels, upright.labels)
    np.testing.assert_allclose(again.activity, upright.activity, atol=1e-5)


def test_lesions_grow_in_the_organs_that_exist():
    labels, affine = body_map()
    p = make(labels, affine, n_lesions=15)
    assert len(p.lesions) >= 8
    assert set(p.lesions["site"]) <= {"liver", "lung", "bone", "node", "soft"}
    for row in p.lesions.itertuples():
        inside = p.lesion_labels == row.id
        assert p.activity[inside].mean() == pytest.approx(row.suv_mean, rel=1e-3)
        assert inside.sum() * 0.125 == pytest.approx(row.volume, abs=1e-3)
    assert (p.labels[p.lesion_labels > 0] > 0).all()


def test_a_phantom_read_back_as_a_label_map_is_the_same_patient():
    voxel_size = (8.0, 8.0, 8.0)
    first = make_phantom(np.random.default_rng(2), shape=(60, 60, 120), voxel_size=voxel_size, n_lesions=0)
    organs = {
        "soft_tissue": "muscle",
        "brain": "grey_matter",
        "blood_pool": "blood",
        "bone": "marrow",
        "bowel": "colon",
    }
    table = {value: organs.get(organ, organ) for organ, value in ORGAN_LABELS.items()}
    again = phantom_from_labels(
        first.labels,
        table,
        affine=np.diag([*voxel_size, 1.0]),
        rng=np.random.default_rng(3),
        shape=(60, 60, 120),
        voxel_size=voxel_size,
        n_lesions=0,
        height=first.height,
        sex=first.sex,
        arms=first.arms,
    )
    for organ in ("brain", "liver", "lung", "kidney", "spleen"):
        assert volume(again, organ) == pytest.approx(volume(first, organ), rel=0.01), organ
    assert again.body_weight == pytest.approx(first.body_weight, rel=0.06)
    assert (again.sex, again.arms, again.height) == (first.sex, first.arms, first.height)


def test_the_tracer_is_looked_up_by_organ():
    labels, affine = body_map()
    p = make(labels, affine, {**TABLE, 5: "kidney"}, tracer=PSMA_11)
    low, high = PSMA_11.organs["kidney"].range
    assert p.tracer is PSMA_11
    assert low <= p.uptake["kidney"] <= high
    assert FDG.organs["kidney"].range[1] < low


def _wrong(**change):
    labels, affine = body_map()
    return {"labels": labels, "affine": affine, "table": TABLE, **change}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (_wrong(table={1: "muscle"}), r"holds \[2, 3, 4, 5\]"),
        (_wrong(table={**TABLE, 0: 1.0}), "0 is air"),
        (_wrong(table={**TABLE, 2: "livre"}), "label 2: FDG has no organ 'livre'"),
        (_wrong(table={**TABLE, 2: -1.0}), "label 2: SUV is -1.0"),
        (_wrong(table={**TABLE, 2: LabelTissue(1.0, attenuation="iron")}), "'iron'"),
        (_wrong(table={**TABLE, 2: LabelTissue(1.0, attenuation=0.096)}), r"label 2: attenuation is 0.096 1/mm"),
        (_wrong(table={**TABLE, 2: LabelTissue(1.0, organ="heart")}), "organ 'heart'"),
        (_wrong(labels=body_map()[0] * 0.5), "whole numbers"),
        (_wrong(labels=body_map()[0] * 0), "empty"),
        (_wrong(labels=body_map()[0][0]), "three axes"),
        (_wrong(affine=np.diag([4.0, 4.0, 0.0, 1.0])), "invertible"),
        (_wrong(affine=np.diag([8.0, 4.0, 4.0, 1.0])), r"400 mm wide, expected at most the 300 mm"),
        (_wrong(body_weight=None), "body_weight, or height"),
        (_wrong(body_weight=-3.0), "-3.0 kg"),
        (_wrong(n_lesions=-2), "n_lesions is -2"),
    ],
)
def test_a_map_that_says_too_little_is_refused(arguments, message):
    options = {key: value for key, value in arguments.items() if key not in ("labels", "affine", "table")}
    with pytest.raises(PETError, match=message):
        make(arguments["labels"], arguments["affine"], arguments["table"], **options)


def test_lesions_without_a_place_are_refused():
    labels = np.zeros((20, 20, 20), dtype=np.int16)
    labels[2:18, 2:18, 2:18] = 1
    with pytest.raises(PETError, match="no place for lesions"):
        make(labels, np.diag([4.0, 4.0, 4.0, 1.0]), {1: "spleen"}, n_lesions=3)
