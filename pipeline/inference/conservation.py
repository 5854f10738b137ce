"""Give a denoised scan back what was taken from it at large scale, so that its SUV is that of the scan."""

from collections.abc import Callable, Iterator, Sequence
from math import inf, sqrt
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.inference.sampling import with_uncertainty
from pipeline.inference.streaming.inferer import InfererAround, check_shape, voxel_size_of
from pipeline.inference.streaming.slabs import tissue_mask_pieces
from pipeline.transforms import without_negative

__all__ = ["ConservingInferer", "give_back"]

_PLANES = 16  # along X that are worked on at once: bounds the memory
_N_SCALINGS = 4  # of the weights: factors are undone to 2 % of themselves beside hot organs, 0.3 % in the mean
_FLOOR = 0.05  # of the threshold: what counts as the uptake of a voxel of the body that has none


class ConservingInferer(InfererAround):
    """Denoise with another inferer, then give back at large scale what it took or added; see :func:`give_back`.

    Takes, above what the other inferer takes, one and a half volumes of memory: after it, not beside it.

    Parameters
    ----------
    inferer
        Denoises; inputs and result (B, 1, X, Y, Z).
    body_threshold
        Voxels of the denoised scan whose 5x5x5 mean exceeds this, in the network's scaled SUV, are the body.
    fwhm
        Width of the Gaussian [mm].
    """

    def __init__(self, inferer: Inferer, *, body_threshold: float, fwhm: float = 40.0) -> None:
        if not 0 < body_threshold < inf or not 0 < fwhm < inf:
            raise ValueError(f"body_threshold {body_threshold}, fwhm {fwhm}: expected finite numbers above 0")
        super().__init__(inferer)
        self.body_threshold = body_threshold
        self.fwhm = fwhm

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes, a plain tensor like inputs, a MetaTensor (B, 1, X, Y, Z) with the scans' affines [mm].

        Raises
        ------
        PETError
            If the inputs carry no affine with a voxel size.
        """
        return self.with_uncertainty(inputs, network, *args, **kwargs)[0]

    @torch.no_grad()
    def with_uncertainty(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Denoised volumes as of a call, and the standard deviations that the other inferer tells, if it tells any.

        Raises
        ------
        PETError
            If the inputs carry no affine with a voxel size.
        """
        check_shape(inputs)
        sizes = [voxel_size_of(inputs, i) for i in range(len(inputs))]
        pred, deviation = with_uncertainty(self.inferer, inputs, network, *args, **kwargs)
        noisy, pred = (t.as_tensor() if isinstance(t, MetaTensor) else t for t in (inputs, pred))
        for y, x, size in zip(noisy[:, 0], pred[:, 0], sizes, strict=True):
            give_back(y, x, voxel_size=size, body_threshold=self.body_threshold, fwhm=self.fwhm)
        return pred, deviation


def give_back(
    noisy: Tensor, denoised: Tensor, *, voxel_size: Sequence[float], body_threshold: float, fwhm: float = 40.0
) -> None:
    """Add to a denoised scan, in place, what it lacks at large scale of the noisy one, in proportion to its uptake.

    With the noisy scan y, the denoised x, the body m and a Gaussian G, the voxels of the body get

        p = u v G(m w (y - x)),   u = max(x, 0+) m,   w = 1 / G(u v)

    G is symmetric, so the sum of p over the body is that of y - x, whatever v > 0 is: the body's total is conserved
    exactly, and that of every region but for what crosses its border. v solves v G(u v) = 1 (Sinkhorn's scaling of a
    symmetric matrix), so that a factor common to all of the body is undone exactly, near the skin, too. A share of the
    uptake is given back: what a hot organ lacks does not spill onto its cool neighbours. Where y and x are equal, or
    outside of the body, nothing changes. Negative activity of x is taken away before, for what is taken away later
    would be missing in the sum.

    G = A'A, where A leads, axis by axis, to a grid as coarse as the Gaussian allows: a symmetric operator that is a
    Gaussian up to 1e-4, at a part of the cost.

    Parameters
    ----------
    noisy, denoised
        Scaled SUV, shape (X, Y, Z).
    voxel_size
        Along X, Y, Z [mm].
    body_threshold
        The body is where the 5x5x5 mean of the denoised scan exceeds this, in its units.
    fwhm
        Width of the Gaussian [mm].

    References
    ----------
    Sinkhorn and Knopp, Pacific J. Math. 21, 343 (1967); for symmetric matrices Knight, Ruiz and Uçar, SIAM J. Matrix
    Anal. Appl. 35, 931 (2014).
    """
    pieces = tissue_mask_pieces(denoised[None, None], threshold=body_threshold, n_planes=_PLANES)
    body = torch.cat([piece[0, 0] for piece in pieces])
    box = _bounding_box(body)
    if box is None:
        return
    y, x, m = noisy[box], denoised[box], body[box]
    gaussian = Gaussian(x, voxel_size=voxel_size, sigma=fwhm / FWHM_PER_SIGMA)
    for planes in gaussian.pieces:
        x[planes] = without_negative(x[planes], y[planes]).where(m[planes], x[planes])

    def uptake(planes: slice) -> Tensor:
        return x[planes].double().clamp_min(_FLOOR * body_threshold) * m[planes]

    v = torch.ones_like(x, dtype=torch.float32)
    for _ in range(_N_SCALINGS):
        coarse = gaussian.down(lambda planes: uptake(planes) * v[planes])
        for planes, smooth in gaussian.up(coarse):
            v[planes] = (v[planes] / smooth).sqrt().where(m[planes], 1)
    coarse = gaussian.down(lambda planes: uptake(planes) * v[planes])
    lacking = gaussian.down_pieces(
        ((y[planes].double() - x[planes]) / smooth).where(m[planes], 0) for planes, smooth in gaussian.up(coarse)
    )
    for planes, smooth in gaussian.up(lacking):
        x[planes] += (uptake(planes) * v[planes] * smooth).to(x)


class Gaussian:
    """A'A of volumes (X, Y, Z), where A integrates them against Gaussians about the points of a coarse grid."""

    def __init__(self, like: Tensor, *, voxel_size: Sequence[float], sigma: float) -> None:
        # Two Gaussians of this width in a row are one of sigma.
        width = sigma / sqrt(2)
        self.axes = [
            _to_coarse(n, size / width).to(like.device) for n, size in zip(like.shape, voxel_size, strict=True)
        ]
        n = like.shape[0]
        self.pieces = [slice(start, min(start + _PLANES, n)) for start in range(0, n, _PLANES)]

    def down(self, planes_of: Callable[[slice], Tensor]) -> Tensor:
        """A of a volume that is given plane by plane."""
        return self.down_pieces(planes_of(planes) for planes in self.pieces)

    def down_pieces(self, pieces: Iterator[Tensor]) -> Tensor:
        """A of a volume that is given in pieces along X, in order."""
        along_x, along_y, along_z = self.axes
        reduced = torch.cat([along_y @ piece @ along_z.T for piece in pieces])
        return torch.tensordot(along_x, reduced, dims=1)

    def up(self, coarse: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """A' of coarse values: pieces of the volume along X, and where they are."""
        along_x, along_y, along_z = self.axes
        reduced = torch.tensordot(along_x.T, coarse, dims=1)
        for planes in self.pieces:
            yield planes, along_y.T @ (reduced[planes] @ along_z)


def _to_coarse(n: int, step: float) -> Tensor:
    """Matrix (n_coarse, n) of one axis: Gaussians of width 1, 1 apart, at n voxels that are a step apart."""
    length = n * step
    n_coarse = int(length) + 2
    centre = torch.arange(n_coarse, dtype=torch.float64) - (n_coarse - 1) / 2
    place = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step
    return torch.exp(-0.5 * (centre[:, None] - place) ** 2)


def _bounding_box(mask: Tensor) -> tuple[slice, ...] | None:
    """Smallest box that holds all of a mask (X, Y, Z); None if it is empty."""
    box = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        where = mask.any(dim=others[1]).any(dim=others[0]).nonzero()
        if not len(where):
            return None
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return tuple(box)
