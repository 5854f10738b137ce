"""A scan repeated by physics: against independent simulated scans of the same patient, and by its identities."""

import weakref
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PETError
from pipeline.pet import PETHeader, PETSeries
from pipeline.simulation import InsertionSettings, full_dose_scan, system_model
from pipeline.simulation.scanner.calibration import draw_counts
from pipeline.trust.calibration import read_calibration
from pipeline.trust.noise_model import scan_noise
from pipeline.trust.repeats import QUANTITIES, VoxelRepeats, repeat_scan, repeatable_scan
from tests.simulation.scanners import SLAB_SCANNER

SCANNER = replace(SLAB_SCANNER, name="thimble", matrix=(32, 32, 12), n_angles=32)
COUNTS = 2e6
N = 16


def disc(radius):
    x = (np.arange(32) - 15.5) * 8.0
    return np.broadcast_to((np.hypot(x[:, None], x) < radius)[..., None], SCANNER.matrix)


BODY, LESION = disc(90), disc(12)
LIVER = disc(70) & ~disc(36)
IMAGE = (2 * BODY + 4 * LESION).astype(np.float32)
MU = BODY * np.float32(0.0096)


def scan_of(image=IMAGE, device=None):
    settings = InsertionSettings(scanner=SCANNER, attenuation=MU, counts=COUNTS, device=device)
    return full_dose_scan(image, settings, rng=np.random.default_rng(0))


def series(suv, **kwargs):
    header = PETHeader(units="GML", frame_duration=120.0, radiopharmaceutical="FDG", **kwargs)
    return PETSeries(suv=suv, affine=np.diag([8.0, 8.0, 8.0, 1.0]), header=header)


def reconstructed(seed=None):
    """An independent scan of the patient; without a seed, one without noise."""
    model = system_model(SCANNER)
    acquisition = model.acquire(IMAGE, MU, supersampling=1, blurred=False)
    scale = COUNTS / acquisition.total
    counts = [acquisition.expected(k) * scale for k in range(SCANNER.n_subsets)]
    if seed is not None:
        counts = draw_counts(acquisition, scale, np.random.default_rng(seed))
    return model.reconstruct(counts, acquisition, scale=scale)


@pytest.fixture(scope="module")
def independent():
    noise_free = reconstructed()
    return np.array([reconstructed(seed) - noise_free for seed in range(N)])


@pytest.fixture(scope="module")
def repeated():
    return np.array(list(scan_of().repeats(N, np.random.default_rng(1)))) - IMAGE


@pytest.fixture(scope="module")
def fitted():
    noisy = series(reconstructed(seed=100))
    return repeatable_scan(noisy, series(reconstructed()), seed=1, liver=LIVER, preset=SCANNER, attenuation=MU)


def test_noise_of_repeats_has_mean_zero(repeated):
    inside = repeated[:, LIVER].mean(axis=1)
    assert abs(inside.mean()) < 4 * inside.std(ddof=1) / np.sqrt(N)


def test_noise_of_repeats_is_that_of_independent_scans(repeated, independent):
    for region in (LIVER, BODY & ~LIVER, LESION):
        assert repeated[:, region].std() == pytest.approx(independent[:, region].std(), rel=0.05)


def test_repeats_are_independent_of_each_other(repeated):
    assert np.abs(np.corrcoef(repeated[:, LIVER]) - np.eye(N)).max() < 0.2


def test_a_repeat_does_not_depend_on_how_many_there_are():
    scan, rng = scan_of(), np.random.default_rng(7)
    three = list(scan.repeats(3, np.random.default_rng(7)))
    np.testing.assert_array_equal(list(scan.repeats(2, rng)), three[:2])
    np.testing.assert_array_equal(next(scan.repeats(1, rng)), three[2])  # the same generator goes on
    assert not np.array_equal(next(scan.repeats(1, np.random.default_rng(8))), three[0])


def test_no_repeat_is_below_zero_where_the_image_is_not():
    image = IMAGE.copy()
    image[0, 0, 0] = image[16, 16, 6] = -0.25
    repeat = next(scan_of(image).repeats(1, np.random.default_rng(0)))
    assert repeat[0, 0, 0] == np.float32(-0.25)
    assert repeat[image >= 0].min() == 0


def test_torch_repeats_as_numpy_does():
    pytest.importorskip("torch")
    mine, theirs = (next(scan_of(device=d).repeats(1, np.random.default_rng(3))) for d in ("cpu", None))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * theirs.max())


def test_the_fit_finds_the_noise_of_the_scan(fitted, independent):
    assert fitted.noise[0] < fitted.noise[1]
    (noise,) = (image - fitted.denoised.suv for image in fitted.fitted.scan.repeats(1, np.random.default_rng(1)))
    for region in (LIVER, BODY & ~LIVER):
        assert noise[region].std() == pytest.approx(independent[:, region].std(), rel=0.1)


@pytest.fixture(scope="module")
def shrunk(fitted):
    """Three repeats and a denoiser that takes a tenth away."""
    labels = np.zeros(SCANNER.matrix, dtype=np.uint8)
    labels[LESION], labels[16, 24, 6] = 2, 5
    told = []
    made = repeat_scan(fitted, 3, seed=4, denoise=shrink, labels=labels, on_repeat=told.append)
    return made, told


def shrink(noisy):
    return noisy.with_suv(np.float32(0.9) * noisy.suv)


def test_what_a_denoiser_takes_away_is_its_bias(shrunk, fitted):
    made, _ = shrunk
    x = fitted.denoised.suv
    np.testing.assert_allclose(made.denoised.mean, 0.9 * made.noisy.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.denoised.sd, 0.9 * made.noisy.sd, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(made.denoised.bias, made.denoised.mean - x, atol=1e-6)
    np.testing.assert_allclose(made.denoised.corrected, np.maximum(2 * x - made.denoised.mean, 0), atol=1e-5)


def test_moments_are_those_of_the_single_repeats(shrunk, fitted):
    made, told = shrunk
    single = np.array(list(fitted.fitted.scan.repeats(3, np.random.default_rng(4))), dtype=np.float64)
    np.testing.assert_allclose(made.noisy.mean, single.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.noisy.sd, single.std(axis=0, ddof=1), rtol=1e-3, atol=1e-5)
    assert told == [1, 2, 3]


def test_regions_are_measured_in_every_repeat(shrunk, fitted):
    made, _ = shrunk
    assert made.regions.regions == (2, 5)
    assert made.regions.measured.shape == made.regions.denoised.shape == (3, 2, len(QUANTITIES))
    table = made.regions.table().set_index(["region", "quantity"])
    single = [image[LESION].mean() for image in fitted.fitted.scan.repeats(3, np.random.default_rng(4))]
    row, x = table.loc[2, "suv_mean"], fitted.denoised.suv[LESION].mean()
    assert row.measured == pytest.approx(fitted.noisy.suv[LESION].mean(), rel=1e-5)
    assert row.measured_sd == pytest.approx(np.std(single, ddof=1), rel=1e-4)
    assert row.denoised_sd == pytest.approx(0.9 * row.measured_sd, rel=1e-4)
    assert row.denoised_bias == pytest.approx(0.9 * np.mean(single) - x, abs=1e-5)
    assert row.corrected == pytest.approx(x - row.denoised_bias, rel=1e-5)
    volume = LESION.sum() * 0.512
    assert table.loc[2, "tlg"].corrected == pytest.approx(volume * row.corrected, rel=1e-5)


def test_without_a_denoiser_nothing_is_said_of_one(fitted):
    made = repeat_scan(fitted, 2, seed=0, labels=LESION.astype(int))
    assert made.denoised is None
    assert made.regions.table()[["denoised_sd", "denoised_bias", "corrected"]].isna().all(axis=None)


def test_one_repeat_is_in_memory_at_a_time(fitted):
    seen, most = [], []

    def watched(noisy):
        seen.append(weakref.ref(noisy))
        most.append(sum(ref() is not None for ref in seen))
        return shrink(noisy)

    repeat_scan(fitted, 5, seed=0, denoise=watched)
    assert len(most) == 5
    assert max(most) == 1


def test_limits_hold_the_truth_as_often_as_they_say():
    """A denoiser of known noise and bias: in 95 of 100 voxels, and never below 0."""
    rng = np.random.default_rng(0)
    truth = np.full((60, 60, 20), 5.0)
    image = truth + rng.normal(0.4, 0.5, truth.shape)
    repeats = image + rng.normal(0.4, 0.5, (6, *truth.shape))
    found = VoxelRepeats(6, *(a.astype(np.float32) for a in (image, repeats.mean(axis=0), repeats.std(axis=0, ddof=1))))
    low, high = found.limits(0.95)
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.004)
    assert found.corrected.mean() == pytest.approx(5.0, abs=0.01)
    assert replace(found, sd=np.full(truth.shape, 9.0, dtype=np.float32)).limits()[0].min() == 0


@pytest.mark.parametrize(
    ("suv", "options", "message"),
    [
        (IMAGE[..., :1], {}, "one slice"),
        (0 * IMAGE, {"liver": None}, "no liver was found"),
        (0 * IMAGE, {}, "liver mask is 0"),
        (IMAGE, {"liver": LIVER[..., :3]}, "liver mask has shape"),
        (IMAGE, {"attenuation": 0 * MU}, "attenuation map is empty"),
    ],
)
def test_what_cannot_be_repeated_says_what_is_not_stated(suv, options, message):
    noisy = series(suv + np.random.default_rng(0).random(suv.shape, dtype=np.float32))
    with pytest.raises(PETError, match=f"{message}.*intervals by repeats are not stated") as error:
        repeatable_scan(noisy, series(suv), seed=0, preset=SCANNER, **{"liver": LIVER, **options})
    assert "\n" not in str(error.value)


def test_scans_that_do_not_say_their_noise_are_refused():
    noisy = series(reconstructed(seed=1))
    with pytest.raises(PETError, match="as noisy as the scan in the liver"):
        repeatable_scan(noisy, noisy, seed=0, liver=LIVER, preset=SCANNER)
    with pytest.raises(PETError, match=r"shape \(32, 32, 11\)"):
        repeatable_scan(noisy, series(IMAGE[..., 1:]), seed=0, liver=LIVER)
    bare = series(noisy.suv, attenuation_corrected=False)
    with pytest.raises(PETError, match="not corrected for attenuation"):
        repeatable_scan(bare, series(IMAGE), seed=0, liver=LIVER)


def test_what_a_call_gets_wrong_is_refused(fitted):
    with pytest.raises(PETError, match="at least 2"):
        repeat_scan(fitted, 1, seed=0)
    with pytest.raises(PETError, match="labels of"):
        repeat_scan(fitted, 2, seed=0, labels=np.ones((2, 2, 2), dtype=int))


def test_the_fast_noise_model_agrees_with_the_repeats(repeated):
    coefficients = read_calibration().noise
    predicted, found = [], []
    for x, y, z in ((10, 16, 6), (22, 16, 6), (16, 10, 4), (16, 22, 8), (12, 12, 6)):  # cubes of 24 mm in the tissue
        mask = np.zeros(IMAGE.shape, dtype=bool)
        mask[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = True
        assert LIVER[mask].all() or BODY[mask].all()
        found.append(repeated[:, mask].mean(axis=1).std(ddof=1))
        models = [
            scan_noise(IMAGE + noise, voxel_size=(8.0, 8.0, 8.0), coefficients=coefficients) for noise in repeated[:4]
        ]
        predicted.append(np.mean([model.sd_of_mean(mask) for model in models]))
    # A scanner of 8 mm voxels is far from those of the fit, on which the model is off by .6 to 1.4 (docs/trust.md).
    assert 0.5 < np.sqrt(np.mean(np.square(predicted)) / np.mean(np.square(found))) < 2
