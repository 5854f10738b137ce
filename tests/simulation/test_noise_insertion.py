"""Noise insertion against true thinning of the same simulated patients, and on a real scan."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scanners import SLAB_SCANNER

from pipeline.images.liver import measured_liver_cov
from pipeline.pet import PETError, PETHeader, PETSeries, read_nifti, read_pet, write_nifti
from pipeline.simulation import DISCOVERY_ST, GENERIC, ORGAN_LABELS, Scanner, make_phantom, system_model, thin
from pipeline.simulation.attenuation import attenuation_from_body, attenuation_from_ct, resampled
from pipeline.simulation.field_of_view import scanner_of
from pipeline.simulation.noise_insertion import InsertionSettings, full_dose_scan, insert_noise
from pipeline.simulation.scanner.calibration import draw_counts, noise_cov
from pipeline.simulation.series_scan import low_dose_of

FACTORS = (4.0, 10.0, 20.0)
COUNTS = 2e6
LIVER = np.ones((40, 40, 12), dtype=bool)


def cylinder(scanner=SLAB_SCANNER, radius=110.0):
    """Water with SUV 2."""
    n, _, nz = scanner.matrix
    x = (np.arange(n) - (n - 1) / 2) * scanner.voxel_size[0]
    inside = np.broadcast_to((np.hypot(x[:, None], x) < radius)[..., None], (n, n, nz))
    return inside * np.float32(2), inside * np.float32(0.0096)


def insert(factors, seed=0, image=None, **kwargs):
    image, mu = (cylinder()[0] if image is None else image), cylinder()[1]
    settings = InsertionSettings(scanner=SLAB_SCANNER, attenuation=mu, **{"counts": COUNTS, **kwargs})
    return insert_noise(image, factors, settings, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def realisations():
    """Added noise of 24 insertions at two doses, far enough inside for the noise to be even."""
    image, _ = cylinder()
    inner = cylinder(radius=70.0)[0] > 0
    added = []
    for seed in range(24):
        images = insert([3.0, 12.0], seed)
        added.append([(images[d] - image)[inner] for d in (3.0, 12.0)])
    return np.array(added)


def test_variance_added_is_that_of_thinning(realisations):
    """(d - 1) v, so 11 / 2 between 12 and 3."""
    first, second = realisations.var(axis=0).mean(axis=1)
    assert second / first == pytest.approx(11 / 2, rel=0.06)


def test_doses_are_one_realisation_that_grows(realisations):
    """Counts of the higher factor are a part of those of the lower: covariance (a - 1) v, correlation sqrt(2 / 11)."""
    first, second = realisations[:, 0].ravel(), realisations[:, 1].ravel()
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(np.sqrt(2 / 11), abs=0.03)


def test_mean_is_kept(realisations):
    standard_error = realisations.mean(axis=2).std(axis=0) / np.sqrt(len(realisations))
    # OSEM of few counts has a bias of its own, below 1 % here.
    assert (np.abs(realisations.mean(axis=(0, 2))) < 4 * standard_error + 0.02).all()


def test_same_seed_same_noise_another_seed_another():
    first, again, other = (insert([4.0], seed)[4.0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_factors_close_to_one_add_next_to_nothing_and_200_stays_finite():
    image, _ = cylinder()
    images = insert([1.0001, 1.1, 200.0])
    inside = image > 0
    sd = {d: (i - image)[inside].std() for d, i in images.items()}
    assert sd[1.0001] < 0.05 * sd[1.1] < 0.05 * sd[200.0]
    assert sd[1.1] / sd[1.0001] == pytest.approx(np.sqrt(0.1 / 0.0001), rel=0.5)
    assert np.isfinite(images[200.0]).all()


def test_no_voxel_becomes_negative_that_was_not():
    image, _ = cylinder()
    image = image.copy()
    image[0, 0, 0] = image[20, 20, 6] = -0.25
    low = insert([50.0], image=image)[50.0]
    assert low[0, 0, 0] == np.float32(-0.25)
    assert low[20, 20, 6] >= -0.25
    others = np.ones(image.shape, dtype=bool)
    others[0, 0, 0] = others[20, 20, 6] = False
    assert low[others].min() == 0


def test_the_scale_follows_the_liver():
    image, mu = cylinder()
    liver = cylinder(radius=60.0)[0] > 0
    prompts = []
    for cov in (0.1, 0.2):
        settings = InsertionSettings(scanner=SLAB_SCANNER, attenuation=mu, liver=liver, liver_cov=cov)
        scan = full_dose_scan(image, settings, rng=np.random.default_rng(1))
        prompts.append(scan.prompts)
        draws = [draw_counts(scan.acquisition, scan.scale, np.random.default_rng(k)) for k in range(2)]
        a, b = (scan.model.reconstruct(c, scan.acquisition, scale=scan.scale) for c in draws)
        assert noise_cov(a, b, liver) == pytest.approx(cov, rel=0.07)
    assert prompts[0] / prompts[1] == pytest.approx(4.0, rel=1e-6)


def test_place_in_the_image_does_not_matter():
    """The field of view follows the body: shifting it by whole voxels shifts the result."""
    image, mu = (np.pad(v, ((6, 4), (2, 8), (0, 0))) for v in cylinder())
    shifted, shifted_mu = (np.roll(v, (-3, 4), axis=(0, 1)) for v in (image, mu))
    scanner = scanner_of(mu, voxel_size=SLAB_SCANNER.voxel_size, preset=SLAB_SCANNER)
    results = [
        insert_noise(
            i,
            [5.0],
            InsertionSettings(scanner=scanner, attenuation=m, counts=COUNTS),
            rng=np.random.default_rng(3),
        )[5.0]
        for i, m in ((image, mu), (shifted, shifted_mu))
    ]
    body = mu > 0
    np.testing.assert_allclose(results[1][shifted_mu > 0], results[0][body], rtol=1e-5)


@pytest.mark.parametrize("shape", [(100, 100), (128, 96)])
def test_the_field_holds_the_body_and_leaves_air(shape):
    mu = np.zeros((*shape, 3), dtype=np.float32)
    mu[30:70, 20:50] = 0.0096
    scanner = scanner_of(mu, voxel_size=(4.0, 4.0, 3.0), preset=GENERIC)
    radius = 4.0 * np.hypot(19.5, 14.5)
    assert scanner.matrix[0] == scanner.matrix[1]
    assert scanner.matrix[2] == 3
    assert 2 * radius + 70 < scanner.matrix[0] * 4.0 < 2 * radius + 100
    assert scanner.n_angles >= scanner.matrix[0]
    assert scanner.n_angles % scanner.n_subsets == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factors": [1.0]}, "above 1"),
        ({"factors": [4.0, 4.0]}, "different"),
        ({"counts": None}, "neither counts nor the liver"),
        ({"counts": -5.0}, "above 0"),
        ({"fine_liver_noise": 0.1}, "expected one of them"),
        ({"counts": None, "liver": LIVER, "liver_cov": 0.1, "fine_liver_noise": 0.1}, "one measure of its noise"),
        ({"counts": None, "liver": LIVER, "fine_liver_noise": 0.0}, "above 0"),
        ({"counts": None, "liver": LIVER, "liver_cov": 12.0}, "fraction above 0"),
        ({"counts": None, "liver": np.zeros((40, 40, 12), dtype=bool), "liver_cov": 0.1}, "field of view"),
        ({"image": np.ones((40, 40, 5), dtype=np.float32)}, "12 slices"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, message):
    with pytest.raises(PETError, match=message):
        insert(**{"factors": [4.0], **arguments})


def test_voxels_that_are_not_square_are_refused():
    with pytest.raises(PETError, match="square"):
        scanner_of(cylinder()[1], voxel_size=(4.0, 5.0, 3.0))


def test_low_dose_series_say_what_they_are(tmp_path):
    image, _ = cylinder()
    header = PETHeader(units="GML", frame_duration=120.0, radiopharmaceutical="FDG")
    series = PETSeries(suv=image, affine=np.diag([8.0, 8.0, 8.0, 1.0]), header=header, provenance=("Made up.",))
    liver = cylinder(radius=60.0)[0] > 0
    low = low_dose_of(series, [4.0, 10.0], liver=liver, liver_cov=0.1, seed=5, preset=SLAB_SCANNER).series
    assert list(low) == [4.0, 10.0]
    assert low[10.0].header.frame_duration == pytest.approx(12.0)
    assert low[4.0].provenance[0] == "Made up."
    for part in ("dose reduction factor of 4", "scanner small", "0.1000", "seed 5", "outline of the body"):
        assert part in low[4.0].provenance[1]
    np.testing.assert_array_equal(low[4.0].affine, series.affine)
    again = read_nifti(write_nifti(low[4.0], tmp_path / "low.nii.gz"))
    np.testing.assert_array_equal(again.suv, low[4.0].suv)
    assert again.header.frame_duration == pytest.approx(30.0)


def test_a_scan_without_attenuation_correction_is_refused():
    header = PETHeader(units="GML", attenuation_corrected=False)
    series = PETSeries(suv=cylinder()[0], affine=np.diag([8.0, 8.0, 8.0, 1.0]), header=header)
    with pytest.raises(PETError, match="not corrected for attenuation"):
        low_dose_of(series, [4.0], liver=series.suv > 0, liver_cov=0.1, seed=0)


def test_attenuation_from_ct_has_the_published_values():
    """Carney 2006: air and water exactly, and the two lines meet at the break."""
    mu = attenuation_from_ct(np.array([-2000.0, -1000.0, -500.0, 0.0, 1000.0]))
    np.testing.assert_allclose(mu, [0.0, 0.0, 0.0048, 0.0096, 5.10e-6 * 2000 + 4.71e-3], rtol=1e-5, atol=1e-9)
    for voltage, break_point in ((80, 50), (100, 52), (110, 43), (120, 47), (130, 37), (140, 30)):
        hu = np.array([break_point - 3.0, break_point + 3.0])
        slopes = np.diff(attenuation_from_ct(np.stack([hu - 1, hu + 1]), tube_voltage=voltage), axis=0)[0] / 2
        assert slopes[0] == pytest.approx(9.6e-6, rel=0.05)
        assert slopes[1] < 0.7 * slopes[0]
    with pytest.raises(PETError, match="tube voltage"):
        attenuation_from_ct(hu, tube_voltage=90)


def test_attenuation_from_body_is_water_in_a_filled_outline():
    image, mu = cylinder()
    image = 0.14 * image  # fat, as at the skin
    image[18:24, 18:24] = 0.0  # a lung without uptake
    found = attenuation_from_body(image, voxel_size=SLAB_SCANNER.voxel_size)
    assert set(np.unique(found)) <= {np.float32(0), np.float32(0.0096)}
    overlap = 2 * ((found > 0) & (mu > 0)).sum() / ((found > 0).sum() + (mu > 0).sum())
    assert overlap > 0.93
    assert (found[18:24, 18:24] > 0).all()
    with pytest.raises(PETError, match="expected to see the body"):
        attenuation_from_body(image * 0, voxel_size=SLAB_SCANNER.voxel_size)


def test_resampling_keeps_place_and_integral():
    """A ball on a fine, flipped and shifted grid lands where it was, as a mean over the coarse voxels."""
    fine_affine = np.array([[-1.5, 0, 0, 70], [0, 1.5, 0, -74], [0, 0, 2.0, -60], [0, 0, 0, 1.0]])
    coarse_affine = np.diag([5.0, 5.0, 4.0, 1.0])
    coarse_affine[:3, 3] = [-72, -70, -58]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (96, 98, 60)), indexing="ij"), axis=-1)
    position = index @ fine_affine[:3, :3].T + fine_affine[:3, 3]
    ball = (np.linalg.norm(position - [10.0, -5.0, 3.0], axis=-1) < 30).astype(np.float32)
    coarse = resampled(ball, fine_affine, onto_shape=(29, 29, 29), onto_affine=coarse_affine, outside=0.0)
    assert coarse.sum() * 100 == pytest.approx(ball.sum() * 4.5, rel=0.01)
    center = np.average(np.indices(coarse.shape).reshape(3, -1), axis=1, weights=coarse.ravel())
    np.testing.assert_allclose(coarse_affine[:3, :3] @ center + coarse_affine[:3, 3], [10, -5, 3], atol=0.1)


@dataclass
class Slab:
    """Transaxial planes through a patient's liver: full dose, and real thinning of the very same counts."""

    scanner: Scanner
    full: np.ndarray
    low: dict[float, np.ndarray]
    noise_cov: float
    regions: dict[str, np.ndarray]
    attenuation: np.ndarray


N_SLICES = 40


def make_slab(seed, *, preset=GENERIC, liver_counts=2.2e5):
    voxel_size = preset.voxel_size
    phantom = make_phantom(np.random.default_rng(seed), shape=preset.matrix, voxel_size=voxel_size, n_lesions=0)
    liver = phantom.labels == ORGAN_LABELS["liver"]
    middle = round(float(np.average(np.arange(preset.matrix[2]), weights=liver.sum(axis=(0, 1)))))
    part = slice(middle - N_SLICES // 2, middle + N_SLICES // 2)
    activity, attenuation, labels = (
        np.ascontiguousarray(v[..., part]) for v in (phantom.activity, phantom.attenuation, phantom.labels)
    )
    scanner = replace(preset, matrix=(*preset.matrix[:2], N_SLICES), supersampling=1)
    model = system_model(scanner)
    acquisition = model.acquire(activity, attenuation)
    scale = liver_counts * N_SLICES * voxel_size[2] / acquisition.total
    rng = np.random.default_rng(1000 + seed)
    counts, repeat = (draw_counts(acquisition, scale, rng) for _ in range(2))
    full = model.reconstruct(counts, acquisition, scale=scale)
    low, previous = {}, 1.0
    for factor in FACTORS:
        counts = [thin(c, previous / factor, rng) for c in counts]
        previous = factor
        low[factor] = model.reconstruct(counts, acquisition, scale=scale / factor)
    regions = {
        "liver": labels == ORGAN_LABELS["liver"],
        "lung": labels == ORGAN_LABELS["lung"],
        "body": attenuation > 0,
    }
    regions["ends"] = regions["body"].copy()
    regions["ends"][..., 5:-5] = False
    cov = noise_cov(full, model.reconstruct(repeat, acquisition, scale=scale), regions["liver"])
    return Slab(scanner, full, low, cov, regions, attenuation)


def insert_into(slab, seed):
    settings = InsertionSettings(
        scanner=slab.scanner,
        attenuation=slab.attenuation,
        liver=slab.regions["liver"],
        liver_cov=slab.noise_cov,
    )
    return insert_noise(slab.full, FACTORS, settings, rng=np.random.default_rng(seed))


def autocorrelation(noise, region):
    """Correlation of neighbours in plane and along Z."""
    result = []
    for axes in ((0, 1), (2,)):
        pairs = [(region & np.roll(region, 1, a), np.roll(noise, 1, a)) for a in axes]
        result.append(np.mean([np.corrcoef(noise[both], moved[both])[0, 1] for both, moved in pairs]))
    return np.array(result)


def compare(slabs, n_insertions):
    """Inserted over truly thinned: SD of the added noise, liver CoV; difference of autocorrelation."""
    sd = {(d, name): [] for d in FACTORS for name in slabs[0].regions}
    cov, correlation = {d: [] for d in FACTORS}, {d: [] for d in FACTORS}
    for k, slab in enumerate(slabs):
        liver = slab.regions["liver"]
        insertions = [insert_into(slab, 100 * k + j) for j in range(n_insertions)]
        for d in FACTORS:
            true, added = slab.low[d] - slab.full, [i[d] - slab.full for i in insertions]
            for name, region in slab.regions.items():
                sd[d, name].append(np.sqrt(np.mean([a[region].var() for a in added])) / true[region].std())
            covs = [i[d][liver].std() / i[d][liver].mean() for i in insertions]
            cov[d].append(np.mean(covs) / (slab.low[d][liver].std() / slab.low[d][liver].mean()))
            found = np.mean([autocorrelation(a, liver) for a in added], axis=0)
            correlation[d].append(found - autocorrelation(true, liver))
    return (
        {key: float(np.mean(v)) for key, v in sd.items()},
        {d: float(np.mean(v)) for d, v in cov.items()},
        {d: np.mean(v, axis=0) for d, v in correlation.items()},
    )


@pytest.mark.slow
def test_insertion_equals_true_thinning():
    """Six patients at 5 mm: every claim of the documentation about what is inserted."""
    slabs = [make_slab(seed, preset=replace(GENERIC, bed_length=200.0)) for seed in range(6)]
    sd, cov, correlation = compare(slabs, 2)
    print(sd, cov, correlation)
    for d in FACTORS:
        for name in ("liver", "body"):
            assert sd[d, name] == pytest.approx(1, abs=0.03), (d, name)
        for name in ("lung", "ends"):
            assert sd[d, name] == pytest.approx(1, abs=0.05), (d, name)
        assert cov[d] == pytest.approx(1, abs=0.05), d
        assert np.abs(correlation[d]).max() < 0.03, d


@pytest.mark.slow
def test_liver_noise_of_a_real_scan_rises_as_expected(reference_data):
    """GE Discovery ST: sqrt(d), and below it where OSEM cannot go below 0 (.97, .92 at 4, 10 for real thinning)."""
    series = read_pet(reference_data / "ge_discovery_st_whole_body" / "FDG_PET" / "image")
    found = measured_liver_cov(series)
    low = low_dose_of(
        series, [2.0, 4.0, 10.0], liver=found.region, liver_cov=found.noise_cov, seed=1, preset=DISCOVERY_ST
    ).series
    full_cov = measured_liver_cov(series, mask=found.region).cov
    for d, lowest in ((2.0, 0.94), (4.0, 0.90), (10.0, 0.86)):
        measured = measured_liver_cov(low[d], mask=found.region)
        assert lowest < measured.cov / (full_cov * np.sqrt(d)) < 1.05
        assert measured.suv_mean == pytest.approx(found.suv_mean, rel=0.06)
