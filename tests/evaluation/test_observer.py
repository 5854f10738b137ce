"""The observer answers as the formula says for Gaussian noise, and no voxel grid changes that."""

import itertools

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.special import ndtr

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation import (
    Answers,
    Channels,
    ask_observer,
    hotelling_template,
    jackknife_interval,
    pooled_area,
)

VOXEL = (4.0, 4.0, 4.0)
SHAPE = (17, 17, 17)
CENTER = np.full((1, 3), 8 * 4.0)


def gaussian_image(sd: float) -> np.ndarray:
    """How much of a Gaussian [mm] around the middle each voxel holds."""
    held = np.diff(ndtr((np.arange(18) - 8.5) * 4.0 / sd))
    return np.einsum("i,j,k->ijk", held, held, held)


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    """Weight of each voxel in each channel, shape (3, X, Y, Z): bands of 0.02, 0.04, 0.08 and 0.16 cycles/mm."""
    gaussians = [gaussian_image(1 / (2 * np.pi * edge)) for edge in (0.02, 0.04, 0.08, 0.16)]
    return np.stack([narrow - wide for wide, narrow in itertools.pairwise(gaussians)])


def test_a_response_is_the_product_with_the_channel(weights):
    image = np.random.default_rng(0).random(SHAPE)
    found = Channels().responses(image, CENTER, voxel_size=VOXEL)[0]
    np.testing.assert_allclose(found, np.tensordot(weights, image, 3), atol=5e-4)


def sphere_image(contrast: float) -> np.ndarray:
    """A lesion as a scanner shows it: a Gaussian of 12 mm full width."""
    grid = np.stack(np.meshgrid(*[np.arange(n) * 4.0 - 32 for n in SHAPE], indexing="ij"))
    return contrast * np.exp(-np.square(grid).sum(axis=0) / (2 * (12 / 2.355) ** 2))


def drawn_answers(weights: np.ndarray, signal: np.ndarray, covariance: np.ndarray, *, n=40_000, seed=0) -> Answers:
    """Let the observer see many scans of 20 patients, drawn in the space of the channels."""
    rng = np.random.default_rng(seed)
    absent, present = (rng.multivariate_normal(np.zeros(len(weights)), covariance, size=n) for _ in range(2))
    present += weights.reshape(len(weights), -1) @ signal.ravel()
    patients = np.arange(n) % 20
    return ask_observer(present, absent, patients_present=patients, patients_absent=patients)


def area_by_formula(weights: np.ndarray, signal: np.ndarray, covariance: np.ndarray) -> float:
    """AUC = Phi(d' / sqrt 2), d'^2 = s' C^-1 s in the space of the channels."""
    s = weights.reshape(len(weights), -1) @ signal.ravel()
    return float(ndtr(np.sqrt(s @ np.linalg.solve(covariance, s)) / np.sqrt(2)))


@pytest.mark.parametrize(("blur", "contrast"), [(0.0, 0.3), (0.0, 1.0), (1.2, 0.05), (1.2, 0.15)])
def test_area_is_that_of_the_formula_for_white_and_filtered_noise(weights, blur, contrast):
    # A filter F of white noise: the channels of it are the channels filtered by F' = F, of white noise.
    filtered = np.stack([ndimage.gaussian_filter(w, blur, mode="constant") if blur else w for w in weights])
    filtered = filtered.reshape(len(weights), -1)
    covariance = filtered @ filtered.T
    signal = sphere_image(contrast)

    answers = drawn_answers(weights, signal, covariance)

    expected = area_by_formula(weights, signal, covariance)
    assert 0.55 < expected < 0.99
    assert answers.area == pytest.approx(expected, rel=0.01)
    assert answers.gaussian_area == pytest.approx(expected, rel=0.01)


def test_images_of_noise_give_the_area_of_the_formula(weights):
    """From voxels to area: places 17 voxels apart in filtered noise, the lesion in half of the images."""
    rng = np.random.default_rng(1)
    blur, n = 1.2, 7
    signal = sphere_image(0.35)
    filtered = np.stack([ndimage.gaussian_filter(w, blur, mode="constant") for w in weights])
    flat = filtered.reshape(len(weights), -1)
    centers = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3) * 17 + 8) * 4.0
    responses = []
    for has_lesion in (True, False):
        noise = ndimage.gaussian_filter(rng.standard_normal((17 * n,) * 3), blur)
        image = noise + np.tile(signal, (n,) * 3) * has_lesion
        responses.append(Channels().responses(image, centers, voxel_size=VOXEL))
    patients = np.arange(n**3) % 20

    answers = ask_observer(*responses, patients_present=patients, patients_absent=patients)

    expected = area_by_formula(weights, signal, flat @ flat.T)
    assert answers.area == pytest.approx(expected, abs=0.04)


def test_nothing_to_detect_gives_a_half():
    rng = np.random.default_rng(2)
    areas = []
    for _ in range(40):
        present, absent = rng.standard_normal((2, 128, 3))
        patients = np.arange(128) // 8
        answers = ask_observer(present, absent, patients_present=patients, patients_absent=patients)
        areas.append(answers.area)
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * np.std(areas) / np.sqrt(40))


def test_a_template_that_saw_the_patient_would_flatter():
    """The same data judged by a template of all of them: the bias that leaving patients out avoids."""
    rng = np.random.default_rng(3)
    biased, fair = [], []
    for _ in range(20):
        present, absent = rng.standard_normal((2, 48, 6))
        patients = np.arange(48) // 3
        fair.append(ask_observer(present, absent, patients_present=patients, patients_absent=patients).area)
        template, _ = hotelling_template(present, absent)
        biased.append(np.mean((present @ template)[:, None] > absent @ template))
    assert np.mean(biased) > 0.55
    assert np.mean(fair) < 0.53


def test_template_is_the_inverse_covariance_times_the_difference():
    rng = np.random.default_rng(4)
    mixing = np.array([[1.0, 0.0], [0.8, 0.6]])
    present, absent = (rng.standard_normal((200_000, 2)) @ mixing.T + shift for shift in ([1.0, 0.0], [0.0, 0.0]))
    expected = np.linalg.solve(mixing @ mixing.T, [1.0, 0.0])

    template, threshold = hotelling_template(present, absent)

    np.testing.assert_allclose(template / np.linalg.norm(template), expected / np.linalg.norm(expected), atol=0.01)
    assert np.var(absent @ template) == pytest.approx(1, rel=0.02)
    assert threshold == pytest.approx(float(template @ [0.5, 0.0]), abs=0.01)


def test_a_channel_is_the_difference_of_two_gaussians_in_frequency():
    """A wave of any direction is passed as C(f) says."""
    channels = Channels()
    x = np.arange(64) * 2.0
    grid = np.stack(np.meshgrid(x, x, x, indexing="ij"))
    direction = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    center = np.array([[63.0, 64.5, 61.0]])
    for frequency in (0.02, 0.04, 0.08):
        along = np.tensordot(direction, grid - center[0, :, None, None, None], 1)
        wave = np.cos(2 * np.pi * frequency * along)
        edges = 0.02 * 2.0 ** np.arange(3)
        expected = np.exp(-0.5 * (frequency / (2 * edges)) ** 2) - np.exp(-0.5 * (frequency / edges) ** 2)
        found = channels.responses(wave, center, voxel_size=(2, 2, 2))[0]
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_channels_are_blind_to_a_constant_even_at_the_border():
    responses = Channels().responses(np.full((9, 8, 7), 3.0), [[0, 0, 0], [16, 14, 12]], voxel_size=VOXEL)
    np.testing.assert_allclose(responses, 0, atol=1e-12)


def test_voxel_size_and_turns_do_not_matter():
    rng = np.random.default_rng(5)
    image = rng.random((16, 18, 20))
    center = np.array([[31.0, 35.0, 42.0]])
    reference = Channels().responses(image, center, voxel_size=(4, 4, 4))

    # The same image on voxels of half and a third the size: its first voxel's centre moves.
    finer = image.repeat(2, 0).repeat(2, 1).repeat(3, 2)
    moved = center + (np.full(3, 4.0) - [2, 2, 4 / 3]) / 2
    np.testing.assert_allclose(Channels().responses(finer, moved, voxel_size=(2, 2, 4 / 3)), reference, rtol=1e-3)

    turned = np.rot90(image, axes=(0, 1))
    place = [[17 * 4 - center[0, 1], center[0, 0], center[0, 2]]]
    np.testing.assert_allclose(Channels().responses(turned, place, voxel_size=(4, 4, 4)), reference, rtol=1e-9)


def test_internal_noise_lowers_the_area_as_the_formula_says():
    rng = np.random.default_rng(6)
    present, absent = rng.standard_normal((2, 50_000, 2)) + np.array([[[1.0, 1.0]], [[0.0, 0.0]]])
    patients = np.arange(50_000) % 50
    answers = ask_observer(present, absent, patients_present=patients, patients_absent=patients, internal_noise=1.0)
    assert answers.detectability == pytest.approx(np.sqrt(2) / np.sqrt(2), rel=0.02)


def test_pairs_and_ties_are_counted():
    answers = Answers(np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    assert (answers.n_right, answers.n_pairs) == (2.5, 4)
    assert answers.area == pytest.approx(2.5 / 4)
    easy = Answers(np.array([5.0]), np.array([1.0, 0.0]))
    assert pooled_area([answers, easy]) == pytest.approx((2.5 + 2) / (4 + 2))
    assert answers.to(np.array([True, False])).area == 1


def test_jackknife_of_a_mean_is_the_interval_of_student():
    values = np.random.default_rng(7).normal(3, 2, 16)
    without_each = [np.delete(values, i).mean() for i in range(16)]
    expected = stats.t.interval(0.95, 15, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(jackknife_interval(values.mean(), without_each), expected)


def test_intervals_hold_the_area_where_there_is_nothing_to_detect():
    """With templates learnt anew; a tenth of intervals may miss here, of 95 % ones."""
    rng = np.random.default_rng(8)
    of_present, of_absent = np.arange(10).repeat(4), np.arange(10).repeat(6)
    n_held = 0
    for _ in range(40):
        present, absent = rng.standard_normal((40, 3)), rng.standard_normal((60, 3))

        def area(kept, present=present, absent=absent):
            p, a = np.isin(of_present, kept), np.isin(of_absent, kept)
            return ask_observer(
                present[p], absent[a], patients_present=of_present[p], patients_absent=of_absent[a]
            ).area

        without_each = [area(np.delete(np.arange(10), i)) for i in range(10)]
        low, high = jackknife_interval(area(np.arange(10)), without_each)
        n_held += low < 0.5 < high
    assert n_held >= 36


def test_what_cannot_be_asked_is_refused():
    vectors = np.zeros((4, 3))
    with pytest.raises(UndefinedMeasureError, match="expected more than 3 channels"):
        hotelling_template(vectors[:3], vectors)
    with pytest.raises(UndefinedMeasureError, match="expected more than 3 channels"):
        ask_observer(vectors, vectors, patients_present=[0] * 4, patients_absent=[0] * 4)
    with pytest.raises(ValueError, match="one length"):
        ask_observer(vectors, vectors, patients_present=[0, 1], patients_absent=[0] * 4)
