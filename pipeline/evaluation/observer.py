"""Detection: a channelized Hotelling observer that is asked whether a lesion lies at a known place.

Three-dimensional difference-of-Gaussians channels (Abbey & Barrett 2001, J Opt Soc Am A 18:473, in two), a Hotelling
template that never saw the patient that it is asked about, and the area under the ROC of what it answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from pipeline.errors import UndefinedMeasureError

__all__ = ["Answers", "Channels", "ask_observer", "hotelling_template", "jackknife_interval", "pooled_area"]

_REACH = 4.0  # standard deviations, where a Gaussian ends


@dataclass(frozen=True)
class Channels:
    """Isotropic band-pass channels of a point: C_j(f) = exp(-(f / (Q s_j))^2 / 2) - exp(-(f / s_j)^2 / 2).

    s_j = s_1 a^(j - 1). The sparse set of Abbey and Barrett: Q = 2, a = 2, three channels. They give s_1 for a grid of
    pixels; here it is in mm, so that voxels do not matter. The default bands reach from 0.02 to 0.16 cycles/mm: what a
    lesion of 6 to 14 mm is behind the blur of a scanner, and nothing of another lesion 35 mm away.
    """

    lowest: float = 0.02
    """s_1 [cycles/mm]."""
    ratio: float = 2.0
    """a, from one channel to the next."""
    width: float = 2.0
    """Q, from the lower to the upper edge of a channel."""
    n_channels: int = 3

    def responses(self, suv: ArrayLike, centers: ArrayLike, *, voxel_size: Sequence[float]) -> NDArray[np.float64]:
        """Return what each channel holds at each place [g/mL], shape (n, n_channels).

        A channel is the mean under a narrow Gaussian less that under a wide one, of standard deviations 1 / (2 pi Q s)
        and 1 / (2 pi s) [mm]; each voxel weighs as much as the Gaussian holds in it, so a constant image gives 0. At
        the border a Gaussian ends with the image.

        `suv` has shape (X, Y, Z) [g/mL]; `centers` are in mm from the centre of voxel (0, 0, 0), shape (n, 3).
        """
        image = np.asarray(suv, dtype=np.float64)
        places = np.asarray(centers, dtype=np.float64).reshape(-1, 3)
        edges = self.lowest * self.ratio ** np.arange(self.n_channels)
        found = np.empty((len(places), self.n_channels))
        for i, place in enumerate(places):
            for j, edge in enumerate(edges):
                narrow, wide = 1 / (2 * np.pi * self.width * edge), 1 / (2 * np.pi * edge)
                found[i, j] = _mean_around(image, place, narrow, voxel_size) - _mean_around(
                    image, place, wide, voxel_size
                )
        return found


def _mean_around(
    image: NDArray[np.float64], center: NDArray[np.float64], sd: float, voxel_size: Sequence[float]
) -> float:
    """Return the mean under a Gaussian [mm] at a place [mm], exact for an image that is constant in each voxel."""
    weights, box = [], []
    for n, middle, size in zip(image.shape, center, voxel_size, strict=True):
        first = int(np.clip(np.floor((middle - _REACH * sd) / size), 0, n - 1))
        last = int(np.clip(np.ceil((middle + _REACH * sd) / size), first, n - 1))
        borders = ndtr(((np.arange(first, last + 2) - 0.5) * size - middle) / sd)
        held = np.diff(borders)
        weights.append(held / held.sum())
        box.append(slice(first, last + 1))
    x, y, z = weights
    return float(x @ (image[tuple(box)] @ z) @ y)


def hotelling_template(present: ArrayLike, absent: ArrayLike) -> tuple[NDArray[np.float64], float]:
    """Return the Hotelling template and the threshold halfway between both classes, in units of the template's noise.

    w = S^-1 (mean of present - mean of absent), S the mean of both covariances, divided by the square root of w' S w:
    what the template answers to the training data, w . v - threshold, has variance 1 in the mean of both classes.

    `present` and `absent` hold the channels' responses, shapes (n, n_channels) and (m, n_channels).

    Raises
    ------
    UndefinedMeasureError
        There are too few of one class to know their covariance by: no more than channels.
    """
    with_lesion, without = np.asarray(present, dtype=np.float64), np.asarray(absent, dtype=np.float64)
    fewest = min(len(with_lesion), len(without))
    if fewest <= with_lesion.shape[1]:
        n_channels = with_lesion.shape[1]
        raise UndefinedMeasureError(
            f"observer: {fewest} places to learn from, expected more than {n_channels} channels"
        )
    difference = with_lesion.mean(axis=0) - without.mean(axis=0)
    covariance = np.atleast_2d(np.cov(with_lesion, rowvar=False) + np.cov(without, rowvar=False)) / 2
    weights = np.linalg.solve(covariance, difference)
    noise = np.sqrt(weights @ covariance @ weights)
    weights = weights / noise if noise > 0 else weights
    return weights, float(weights @ (with_lesion.mean(axis=0) + without.mean(axis=0)) / 2)


@dataclass(frozen=True)
class Answers:
    """What the observer answered: the higher, the more it believes in a lesion. In units of the template's noise."""

    present: NDArray[np.float64]
    """At places with a lesion, shape (n,)."""
    absent: NDArray[np.float64]
    """At places without, shape (m,)."""

    def to(self, chosen: NDArray[np.bool_]) -> "Answers":
        """Return the answers to some of the lesions, shape (n,), and to all places without."""
        return Answers(self.present[chosen], self.absent)

    @property
    def n_pairs(self) -> int:
        """Number of comparisons of a lesion with a place without."""
        return len(self.present) * len(self.absent)

    @property
    def n_right(self) -> float:
        """In how many of them the lesion has the higher answer, the statistic of Mann and Whitney; ties half."""
        without = np.sort(self.absent)
        ranks = np.searchsorted(without, self.present) + np.searchsorted(without, self.present, side="right")
        return float(ranks.sum() / 2)

    @property
    def area(self) -> float:
        """Area under the ROC."""
        return self.n_right / self.n_pairs

    @property
    def detectability(self) -> float:
        """d': difference of the means over the root of the mean variance."""
        spread = np.sqrt((self.present.var(ddof=1) + self.absent.var(ddof=1)) / 2)
        return float((self.present.mean() - self.absent.mean()) / spread)

    @property
    def gaussian_area(self) -> float:
        """Area under the ROC of two Gaussians of this d': Phi(d' / sqrt 2)."""
        return float(ndtr(self.detectability / np.sqrt(2)))


def pooled_area(kinds: Sequence[Answers]) -> float:
    """Return the area under the ROC of several kinds of places, none of which is compared with another kind."""
    return sum(kind.n_right for kind in kinds) / sum(kind.n_pairs for kind in kinds)


def jackknife_interval(value: float, without_each: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a figure of n patients, from what it is without each of them (Efron & Tibshirani 1993).

    Value -+ t SE, SE^2 = (n - 1) / n sum (v_i - mean v)^2, t of n - 1 degrees of freedom. For areas of `ask_observer`
    the templates are learnt anew without the patient: in simulations of 16 patients 95 % intervals held the mean area
    in 95 to 99 % of cases, and those of a bootstrap of the answers in 79 to 94 %, for it takes the templates for given.
    """
    values = np.asarray(without_each, dtype=np.float64)
    n = len(values)
    error = np.sqrt((n - 1) / n * np.square(values - values.mean()).sum())
    half = float(stdtrit(n - 1, (1 + level) / 2) * error)
    return value - half, value + half


def ask_observer(
    present: ArrayLike,
    absent: ArrayLike,
    *,
    patients_present: ArrayLike,
    patients_absent: ArrayLike,
    internal_noise: float = 0.0,
    seed: int = 0,
) -> Answers:
    """Ask the observer about each patient with a template of all others, so that none is judged by itself.

    Parameters
    ----------
    present, absent
        Responses of the channels at places with and without a lesion, shapes (n, n_channels) and (m, n_channels).
    patients_present, patients_absent
        Number of the patient of each place, shapes (n,) and (m,).
    internal_noise
        Standard deviation of what the observer adds to each answer, relative to the template's own; 0 adds none.
    seed
        Decides the internal noise.

    Raises
    ------
    ValueError
        Lengths differ.
    UndefinedMeasureError
        The patients but one have too few places for a template.
    """
    vectors = [np.asarray(v, dtype=np.float64) for v in (present, absent)]
    numbers = [np.asarray(n, dtype=np.intp) for n in (patients_present, patients_absent)]
    if any(v.ndim != 2 or len(v) != len(n) for v, n in zip(vectors, numbers, strict=True)):
        raise ValueError("ask_observer: responses and patients must have one length")
    answers = [np.empty(len(v)) for v in vectors]
    for patient in np.unique(np.concatenate(numbers)):
        template, threshold = hotelling_template(*(v[of != patient] for v, of in zip(vectors, numbers, strict=True)))
        for answer, vector, of in zip(answers, vectors, numbers, strict=True):
            answer[of == patient] = vector[of == patient] @ template - threshold
    if internal_noise:
        rng = np.random.default_rng(seed)
        answers = [a + internal_noise * rng.standard_normal(len(a)) for a in answers]
    return Answers(*answers)
