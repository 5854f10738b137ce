"""Transforms: inverses, units, and doses."""

import numpy as np
import pytest
import torch

from pipeline.pet import PETHeader, PETSeries
from pipeline.transforms import (
    ScaleSUVd,
    tensor_to_pet,
)


def series(shape=(5, 6, 7), seed=0) -> PETSeries:
    suv = np.random.default_rng(seed).gamma(2.0, 1.0, shape).astype(np.float32)
    affine = np.diag([4.0, 4.0, 3.0, 1.0])
    affine[:3, 3] = [-10, 20, -30]
    return PETSeries(suv=suv, affine=affine, header=PETHeader(units="GML"))


def test_scaling_inverts():
    transform = ScaleSUVd("image", suv_scale=2.0)
    x = torch.rand(1, 4, 4, 4)
    scaled = transform({"image": x})
    assert torch.equal(scaled["image"], x / 2)
    assert torch.equal(transform.inverse(scaled)["image"], x)


def test_scale_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        ScaleSUVd("image", suv_scale=0)


def test_back_to_a_series_inverts_and_adds_no_negative_activity():
    source = series()
    pred = torch.from_numpy(source.suv)[None] / 2
    same = tensor_to_pet(pred, source, suv_scale=2.0, note="n")
    np.testing.assert_array_equal(same.suv, source.suv)
    assert same.provenance[-1] == "n"
    pred[0, 0, 0, 0] = -1
    assert tensor_to_pet(pred, source, suv_scale=2.0, note="n").suv[0, 0, 0] == 0


def test_negative_voxels_of_the_source_survive_the_identity():
    source = series()
    source = source.with_suv(source.suv - 1)
    pred = torch.from_numpy(source.suv)[None] / 2
    np.testing.assert_array_equal(tensor_to_pet(pred, source, suv_scale=2.0, note="n").suv, source.suv)
