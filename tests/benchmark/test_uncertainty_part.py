"""Coverage of a method's intervals on subjects: draws that are right, too narrow, and none at all."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from pipeline.benchmark.definition import Definition, MethodEntry, Source, Uncertainty
from pipeline.benchmark.parts.uncertainty import INTERVALS, Ensemble, draws_of, uncertainty
from pipeline.benchmark.work import Work
from pipeline.comparison import Case, KeptResults
from pipeline.data import build_manifest
from pipeline.errors import PETError
from pipeline.evaluation import mean_and_sd
from pipeline.inference import Denoiser, SamplingInferer
from pipeline.inference.streaming.inferer import InfererAround
from pipeline.pet import read_pet


@dataclass(frozen=True)
class Posterior:
    """A method that knows the truth but for noise of SD 0.1, of which its draws show a part."""

    n_draws: int = 6
    narrowed: float = 1.0

    def draws(self, series):
        path = series.source_files[0]
        name = path.name.split("_")[0]
        truth = read_pet(path.parent / f"{name}_rec-noisefree_pet.nii.gz").suv
        rng = np.random.default_rng(len(path.name) + int(name[-1]))
        noise = 0.1 * rng.standard_normal((self.n_draws + 1, *truth.shape))
        drawn = [truth + noise[0] + n for n in noise[1:]]
        mean = np.mean(drawn, axis=0)
        return [series.with_suv((mean + (d - mean) * self.narrowed).astype(np.float32)) for d in drawn]

    def __call__(self, series):
        raise AssertionError("draws give the mean, and running the method again would be waste")


def halfway(series):
    """Return a scan of half the contrast: a method without draws."""
    return series.with_suv(0.5 * series.suv)


SOURCES = [Source(manifest=name) for name in ("fitting", "testing")]


@pytest.fixture
def work(tiny_cohort, tmp_path):
    root = tiny_cohort[0].parent
    # The second subject has no lesion.
    cases = [Case(subject.id, subject, root) for subject in build_manifest("simulated", root).subjects[::-1]]
    definition = Definition(
        title="tiny",
        methods={"unipet": MethodEntry()},
        uncertainty=Uncertainty(fitting=SOURCES[0], testing=SOURCES[1], n_draws=3),
    )
    found = {source.model_dump_json(): [case] for source, case in zip(SOURCES, cases, strict=True)}
    return Work(
        definition=definition, root=root, scans=None, folder=tmp_path, kept=KeptResults(tmp_path, {}), found=found
    )


def pooled(tables, *, region, origin, intervals):
    """The calibration of all doses: curve by level, factor, area."""
    (row,) = (
        row
        for row in tables["calibration"]
        if (row["dose_reduction_factor"], row["region"], row["origin"], row["intervals"])
        == (None, region, origin, intervals)
    )
    curve = {p: row[f"coverage_{round(100 * p)}"] for p in (0.5, 0.68, 0.95)}
    return curve, row.get("factor"), row.get("miscalibration_area")


def test_draws_that_are_right_are_covered_as_stated(work):
    tables = uncertainty("net", Posterior(), work)
    for region in ("body", "muscle", "lesions"):
        curve, factor, area = pooled(tables, region=region, origin="draws", intervals="as stated")
        tolerance = 0.03 if region != "lesions" else 0.25
        assert curve[0.5] == pytest.approx(0.5, abs=tolerance)
        assert curve[0.95] == pytest.approx(0.95, abs=tolerance)
        assert factor == 1
        assert area < tolerance
    rows = [row for row in tables["coverage"] if row["origin"] == "draws"]
    assert {row["subject"] for row in rows} == {"sub-0001"}
    assert {row["dose_reduction_factor"] for row in rows} == {4, 20}
    assert {row["n_draws"] for row in rows} == {6}
    body = next(r for r in rows if r["region"] == "body" and r["intervals"] == "as stated")
    assert body["rms_error"] == pytest.approx(0.1 * np.sqrt(7 / 6), rel=0.02)
    # Student's t with 5 degrees of freedom has 2.5706.
    assert body["half_width_95"] == pytest.approx(2.5706 * np.sqrt(7 / 6) * body["mean_sd"], rel=1e-4)
    assert {row["origin"] for row in tables["summary"]} == {"draws"}
    # The SD of draws is noise alone here: it does not tell where errors are large.
    assert abs(body["rank_correlation"]) < 0.05


def test_draws_half_as_wide_are_mended_by_a_factor_of_two(work):
    tables = uncertainty("net", Posterior(narrowed=0.5), work)
    curve, _, _ = pooled(tables, region="body", origin="draws", intervals="as stated")
    assert curve[0.95] < 0.85
    for intervals in INTERVALS[1:]:
        curve, factor, _ = pooled(tables, region="body", origin="draws", intervals=intervals)
        assert curve[0.95] == pytest.approx(0.95, abs=0.03)
        assert curve[0.5] == pytest.approx(0.5, abs=0.04)
        assert factor is None or factor == pytest.approx(2, rel=0.06)


def test_a_method_without_draws_has_intervals_of_what_it_took_away(work):
    tables = uncertainty("half", halfway, work)
    assert {row["origin"] for row in tables["coverage"]} == {"residual"}
    assert {row["n_draws"] for row in tables["coverage"]} == {None}
    # The factor of the region is fitted at 68 %, quantiles at each level, on the other subject.
    curve, factor, _ = pooled(tables, region="muscle", origin="residual", intervals="factor of the region")
    assert factor > 0
    assert curve[0.68] == pytest.approx(0.68, abs=0.2)


def test_subjects_that_are_fitted_and_tested_on_are_refused(work):
    work.found[SOURCES[1].model_dump_json()] = work.found[SOURCES[0].model_dump_json()]
    with pytest.raises(PETError, match="once more, expected other subjects"):
        uncertainty("half", halfway, work)


def test_an_ensemble_draws_its_members(tiny_cohort):
    series = read_pet(next(tiny_cohort[0].rglob("*drf004_pet.nii.gz")))
    ensemble = Ensemble((halfway, lambda s: s))
    drawn = draws_of(ensemble, series, n_draws=9)
    mean, sd = mean_and_sd([d.suv for d in drawn])
    np.testing.assert_allclose(mean, 0.75 * series.suv, rtol=1e-5)
    np.testing.assert_allclose(sd, 0.25 * np.sqrt(2) * np.abs(series.suv), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ensemble(series).suv, mean, rtol=1e-5)
    assert ensemble.at_dose(4) == ensemble
    with pytest.raises(ValueError, match="at least 2"):
        Ensemble((halfway,))


class Samples(SamplingInferer):
    """Its samples differ by their seed and by nothing else."""

    def __init__(self, n_samples):
        self.seed, self.n_samples = 7, n_samples

    def __call__(self, inputs, network):
        assert self.n_samples == 1
        return network(inputs) + self.seed


class Around(InfererAround):
    def __call__(self, inputs, network):
        return self.inferer(inputs, network)


def test_a_denoiser_that_samples_is_drawn_from_seed_by_seed(tiny_cohort):
    series = read_pet(next(tiny_cohort[0].rglob("*drf004_pet.nii.gz")))
    denoiser = Denoiser(
        network=torch.nn.Identity(),
        inferer=Around(Samples(5)),
        suv_scale=2.0,
        method="sampling",
        device=torch.device("cpu"),
    )
    drawn = draws_of(denoiser, series, n_draws=3)
    for seed, draw in enumerate(drawn):
        np.testing.assert_allclose(draw.suv, series.suv + 2.0 * seed, atol=1e-4)
    assert len(drawn) == 3
    assert (denoiser.inferer.inferer.seed, denoiser.inferer.inferer.n_samples) == (7, 5)
    assert draws_of(replace(denoiser, inferer=Around(lambda x, network: x)), series, n_draws=3) == []
    assert draws_of(halfway, series, n_draws=3) == []
