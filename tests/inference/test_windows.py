"""Sliding windows: blended without a trace, air skipped."""

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from pipeline.evaluation import seam_ratio
from pipeline.inference import WindowInferer
from pipeline.pet import PETError


class Counting(nn.Module):
    """Doubles what it is given, counts windows, and remembers the precision of its layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.constant_(self.layer.weight, 2.0)
        self.n_windows = 0

    def forward(self, x):
        self.n_windows += len(x)
        y = self.layer(x)
        self.dtype = y.dtype
        return y


@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_of_a_local_network_add_up_to_the_whole(volume, batch_size):
    x, network = volume(30, 20, 25), Counting()
    result = WindowInferer(roi_size=(16, 16, 16), batch_size=batch_size)(x, network)
    torch.testing.assert_close(result, 2 * x, rtol=1e-6, atol=0)
    assert network.n_windows > 4


def test_blending_is_in_float32_whatever_the_network_runs_in(volume):
    x, network = (volume(30, 20, 25) * 16).round() / 16, Counting()  # values that bfloat16 holds
    result = WindowInferer(roi_size=(16, 16, 16), dtype=torch.bfloat16)(x, network)
    assert network.dtype == torch.bfloat16
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, 2 * x, rtol=1e-6, atol=1e-6)


def test_windows_of_air_are_zero_and_not_computed(body):
    x = body((64, 16, 16), (slice(0, 10), slice(4, 12), slice(4, 12)))
    every, skipping = Counting(), Counting()
    full = WindowInferer(roi_size=(16, 16, 16), overlap=0)(x, every)
    result = WindowInferer(roi_size=(16, 16, 16), overlap=0, body_threshold=0.05)(x, skipping)
    assert (every.n_windows, skipping.n_windows) == (4, 1)
    assert torch.equal(result[:, :, :16], full[:, :, :16])
    assert not result[:, :, 16:].any()


def test_what_is_not_finite_is_refused_by_name(volume):
    x = volume(5, 5, 5)
    x[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(PETError, match=r"scan\.nii: 1 of 125"):
        WindowInferer(roi_size=(8, 8, 8))(MetaTensor(x, meta={"filename_or_obj": "scan.nii"}), Counting())


def test_windows_of_a_network_that_depends_on_its_border_seam_less_with_blending_than_pasted(volume):
    class Mean(nn.Module):
        def forward(self, x):
            return x + x.mean(dim=(2, 3, 4), keepdim=True)

    x = volume(48, 24, 24) * torch.linspace(0, 1, 48)[:, None, None]
    blended = WindowInferer(roi_size=(24, 24, 24), overlap=0.5)(x, Mean())
    pasted = torch.cat([Mean()(piece) for piece in x.split(24, dim=2)], dim=2)
    borders = [[24], [], []]
    assert seam_ratio(pasted[0, 0], borders) > 1.2 > seam_ratio(blended[0, 0], borders)


def test_a_window_that_catches_the_rim_of_the_body_is_computed():
    x = torch.zeros(1, 1, 48, 48, 48)
    x[..., 33:, 33:, 33:] = 0.15
    boxed = WindowInferer(roi_size=(32, 32, 32), overlap=0.25, body_threshold=0.1)(x, nn.Identity())
    assert torch.allclose(boxed[..., 34:46, 34:46, 34:46], x[..., 34:46, 34:46, 34:46])


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="body_threshold is nan"):
        WindowInferer(body_threshold=float("nan"))
