"""A network on two grids: what joins them is exact, and what a coarser grid shows comes from there."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from pipeline.errors import PETError
from pipeline.inference import TwoScaleInferer
from pipeline.inference.two_scales import coarser


def scan(*shape: int, side: float = 2.0, seed: int = 0, **kinds) -> MetaTensor:
    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed), **kinds)
    return MetaTensor(x, affine=torch.diag(torch.tensor([side, side, side, 1.0])), meta={"filename_or_obj": "a.nii"})


class Recorded(nn.Module):
    """Subtracts a constant, and keeps what it was given."""

    def __init__(self, taken: float) -> None:
        super().__init__()
        self.taken = taken
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x - self.taken


@pytest.mark.parametrize("shape", [(9, 12, 15), (1, 7, 30), (5, 5, 5)])
def test_a_network_that_changes_nothing_returns_the_scan_to_the_bit(shape):
    x = scan(*shape)
    found = TwoScaleInferer(SimpleInferer(), voxel_size=5.0)(x, nn.Identity())
    assert type(found) is torch.Tensor
    assert torch.equal(found, x.as_tensor())


def test_a_change_that_is_the_same_everywhere_is_made_once():
    x = scan(10, 11, 21, dtype=torch.float64)
    found = TwoScaleInferer(SimpleInferer(), voxel_size=5.0)(x, Recorded(0.25))
    torch.testing.assert_close(found, x.as_tensor() - 0.25)


def test_what_the_coarser_grid_shows_comes_from_there():
    class CoarseOnly(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.shape[2] > 20 else torch.full_like(x, 3.0)

    x = scan(31, 31, 31, dtype=torch.float64)
    x = x * 0 + 1
    x[:, :, 12:18, 12:18, 12:18] += 1  # detail, which stays
    found = TwoScaleInferer(SimpleInferer(), voxel_size=4.0)(x, CoarseOnly())
    torch.testing.assert_close(found[0, 0, :8], torch.full((8, 31, 31), 3.0, dtype=torch.float64))
    assert coarser(found, [16, 16, 16])[0, 0, 7, 7, 7] == pytest.approx(3, abs=0.2)


def test_the_coarser_scan_has_the_asked_voxels_and_is_named():
    network = Recorded(0.0)
    x = scan(21, 21, 41)
    TwoScaleInferer(SimpleInferer(), voxel_size=5.0)(x, network)
    assert [tuple(seen.shape[2:]) for seen in network.seen] == [(21, 21, 41), (9, 9, 17)]
    assert network.seen[1].affine.diag()[:3].tolist() == pytest.approx([5.0, 5.0, 5.0])
    assert network.seen[1].meta["filename_or_obj"] == "a.nii"


@pytest.mark.parametrize("side", [5.0, 4.5, 6.0])
def test_coarse_scans_are_run_once(side):
    network = Recorded(0.0)
    TwoScaleInferer(SimpleInferer(), voxel_size=5.0)(scan(9, 9, 9, side=side), network)
    assert len(network.seen) == 1


def test_longer_sides_stay():
    network = Recorded(0.0)
    x = scan(21, 21, 9)
    x.affine[2, 2] = 7.0
    TwoScaleInferer(SimpleInferer(), voxel_size=4.0)(x, network)
    assert tuple(network.seen[1].shape[2:]) == (11, 11, 9)


def test_means_are_those_of_interpolation_and_keep_a_line():
    line = torch.arange(13.0, dtype=torch.float64).view(1, 1, 13, 1, 1)
    means = coarser(line, [5, 1, 1])[0, 0, :, 0, 0]
    # Inside, the weights are even about each coarse voxel; at an end they reach to one side only.
    torch.testing.assert_close(means[1:-1], torch.tensor([3.0, 6.0, 9.0], dtype=torch.float64))
    assert 0 < means[0] < 1


def test_several_scans_and_one_without_a_voxel_size():
    x = MetaTensor(torch.rand(2, 1, 9, 9, 9), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    found = TwoScaleInferer(SimpleInferer(), voxel_size=5.0)(x, Recorded(0.5))
    torch.testing.assert_close(found, x.as_tensor() - 0.5)
    with pytest.raises(PETError, match="voxel size is unknown"):
        TwoScaleInferer(SimpleInferer(), voxel_size=5.0)(torch.rand(1, 1, 4, 4, 4), Recorded(0.0))


@pytest.mark.parametrize("size", [0.0, -1.0, float("inf"), float("nan")])
def test_a_voxel_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="voxel_size"):
        TwoScaleInferer(SimpleInferer(), voxel_size=size)
