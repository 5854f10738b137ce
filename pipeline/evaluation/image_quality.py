"""How close one SUV image is to another, voxel by voxel: PSNR, SSIM, NRMSE, bias, and the noise of one image.

No function infers a data range: the peak of a PET image is its hottest voxel, often bladder or noise, and a
range taken from the image makes figures of different images incomparable.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import UndefinedMeasureError

__all__ = ["PEAK_SUV", "bias", "body_change", "noise_level", "noise_sd", "nrmse", "psnr", "ssim"]

PEAK_SUV = 20.0
"""Peak of PSNR and range of SSIM that this project states its figures with [g/mL]."""

SSIM_TAPS = 11  # what scikit-image takes for this sigma
SSIM_SIGMA = 1.5
_SLAB = 32  # planes per step of SSIM: bounds its memory to a few slabs in double precision


def psnr(pred: ArrayLike, target: ArrayLike, *, data_range: float, mask: NDArray[np.bool_] | None = None) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(data_range^2 / MSE) [dB]; infinite for identical images.

    The images are SUV [g/mL] of one shape. `data_range` is the peak, in their unit: state it wherever the number goes.
    If `mask` is None, all voxels are compared.

    Raises
    ------
    ValueError
        Shapes differ or the range is not positive.
    UndefinedMeasureError
        The mask is empty.
    """
    x, y = _pair(pred, target, mask)
    _check_range(data_range)
    mse = np.mean((x - y) ** 2)
    return float(np.inf) if mse == 0 else float(10 * np.log10(data_range**2 / mse))


def ssim(pred: ArrayLike, target: ArrayLike, *, data_range: float) -> float:
    """Return the mean structural similarity with a three-dimensional Gaussian window [dimensionless].

    Window of 11 taps and sigma 1.5 voxels a side, K1 = 0.01, K2 = 0.03, population weights, averaged over the positions
    at which the whole window lies inside the image (Wang et al., IEEE TIP 2004, Eq. 13). The images are SUV [g/mL] of
    one shape (X, Y, Z), every side at least 11 voxels; `data_range` is the range in the constants (K data_range)^2, in
    their unit.

    Raises
    ------
    ValueError
        Shapes differ or the range is not positive.
    UndefinedMeasureError
        The image is not 3D or smaller than the window.
    """
    x, y = np.asarray(pred), np.asarray(target)
    if x.shape != y.shape:
        raise ValueError(f"ssim: shapes {x.shape} and {y.shape} differ")
    if x.ndim != 3 or min(x.shape) < SSIM_TAPS:
        raise UndefinedMeasureError(f"SSIM needs three sides of at least {SSIM_TAPS} voxels, found {x.shape}")
    _check_range(data_range)
    # Imported here, for most users of this module need no SSIM and the import takes 0.2 s.
    from skimage.metrics import structural_similarity

    half, n_planes = SSIM_TAPS // 2, x.shape[2] - SSIM_TAPS + 1
    total = 0.0
    for start in range(0, n_planes, _SLAB):
        planes = slice(start, min(start + _SLAB, n_planes) + SSIM_TAPS - 1)
        _, values = structural_similarity(
            x[..., planes].astype(np.float64),
            y[..., planes].astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
            full=True,
        )
        total += values[half:-half, half:-half, half:-half].sum()
    return float(total / ((x.shape[0] - 2 * half) * (x.shape[1] - 2 * half) * n_planes))


def nrmse(pred: ArrayLike, target: ArrayLike, *, mask: NDArray[np.bool_] | None = None) -> float:
    """Return the root mean square error divided by the root mean square of the target [dimensionless].

    Also called the relative l2 error, ||pred - target|| / ||target||. Other programs divide by the target's
    mean or range: name the normalisation when you quote it.

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        The mask is empty, or the target is zero everywhere.
    """
    x, y = _pair(pred, target, mask)
    norm = np.sqrt(np.mean(y**2))
    if norm == 0:
        raise UndefinedMeasureError("NRMSE needs a target that is not zero everywhere")
    return float(np.sqrt(np.mean((x - y) ** 2)) / norm)


def bias(pred: ArrayLike, target: ArrayLike, *, mask: NDArray[np.bool_] | None = None) -> float:
    """Return the relative difference of the mean values, 100 (mean(pred) - mean(target)) / mean(target) [%].

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        The mask is empty, or the target's mean is zero.
    """
    x, y = _pair(pred, target, mask)
    mean = np.mean(y)
    if mean == 0:
        raise UndefinedMeasureError("bias needs a target whose mean is not zero")
    return float(100 * (np.mean(x) - mean) / mean)


def noise_sd(image: ArrayLike, *, mask: NDArray[np.bool_]) -> float:
    """Return the voxel noise of one image (X, Y, Z) in a mask, the body, in its own unit, without a reference image.

    The in-plane mixed second difference (x[i, j] - x[i+1, j] - x[i, j+1] + x[i+1, j+1]) / 2 removes everything that is
    linear in the plane and has the noise's own SD where neighbours are independent. Its SD is estimated as 1.4826 times
    the median absolute value over the mask, which edges hardly move. Correlated noise (any post-filter) reads lower:
    compare images of one scan and one grid only.

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        The mask has no voxel with its three neighbours.
    """
    x = np.asarray(image)
    if x.shape != mask.shape or x.ndim != 3:
        raise ValueError(f"noise_sd: image {x.shape} and mask {mask.shape} must be 3D and equal")
    inside = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    if not inside.any():
        raise UndefinedMeasureError("no voxel of the body has its neighbours in the plane in it")
    difference = (x[:-1, :-1] - x[1:, :-1] - x[:-1, 1:] + x[1:, 1:])[inside] / 2
    return float(1.4826 * np.median(np.abs(difference)))


def noise_level(suv: ArrayLike, *, mask: NDArray[np.bool_]) -> float:
    """Return the noise of an SUV image (X, Y, Z), see :func:`noise_sd`, relative to its mean in the mask, the body [%].

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        The mask has no voxel with its three neighbours, or no activity.
    """
    sd = noise_sd(suv, mask=mask)
    mean = np.asarray(suv)[mask].mean(dtype=np.float64)
    if mean <= 0:
        raise UndefinedMeasureError("the mean of the body is not above 0")
    return float(100 * sd / mean)


def body_change(before: ArrayLike, after: ArrayLike, *, body: NDArray[np.bool_]) -> tuple[dict[str, float], str]:
    """Return mean and noise of the body in two images of it, and why if they are not defined.

    Keys are ``mean_before``, ``mean_after`` [g/mL] and ``mean_change`` [%], ``noise_before``, ``noise_after`` (see
    :func:`noise_level`) and ``noise_change`` [%]; what is not defined is NaN.
    """
    names = [f"{measure}_{when}" for measure in ("mean", "noise") for when in ("before", "after", "change")]
    found = dict.fromkeys(names, float("nan"))
    if not body.any():
        return found, "no body was found"
    images = {"before": np.asarray(before), "after": np.asarray(after)}
    found |= {f"mean_{when}": float(image[body].mean(dtype=np.float64)) for when, image in images.items()}
    try:
        found["mean_change"] = bias(after, before, mask=body)
        found |= {f"noise_{when}": noise_level(image, mask=body) for when, image in images.items()}
    except UndefinedMeasureError as error:
        return found, str(error)
    if found["noise_before"]:
        found["noise_change"] = 100 * (found["noise_after"] / found["noise_before"] - 1)
    return found, ""


def _pair(
    pred: ArrayLike, target: ArrayLike, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(pred), np.asarray(target)
    if x.shape != y.shape:
        raise ValueError(f"images of one shape are needed, found {x.shape} and {y.shape}")
    if mask is not None:
        if mask.shape != x.shape:
            raise ValueError(f"the mask has shape {mask.shape}, the images {x.shape}")
        x, y = x[mask], y[mask]
    if x.size == 0:
        raise UndefinedMeasureError("there is no voxel to compare")
    return x.astype(np.float64), y.astype(np.float64)


def _check_range(data_range: float) -> None:
    if not data_range > 0:
        raise ValueError(f"data_range must be positive, found {data_range}")
