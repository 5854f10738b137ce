"""What enters a benchmark: filters at the nearest dose, methods told the dose and not, real scans, and their costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.benchmark.budget import budget_of
from pipeline.benchmark.definition import MethodEntry, RealScan
from pipeline.benchmark.entrants import classical, networks_of
from pipeline.benchmark.parts.cost import _measured, cost
from pipeline.benchmark.parts.images import grey_image, real, real_case, samples
from pipeline.benchmark.work import Work
from pipeline.comparison import Case, Competitors, DoseRead, KeptResults, TunedFilter, noisy_input, with_dose
from pipeline.data import build_manifest
from pipeline.files import read_yaml
from pipeline.inference import Denoiser
from pipeline.networks import BaseDenoisingNetwork
from pipeline.pet import PETError, read_pet
from pipeline.shipped import own_bundle
from tests.benchmark.findings_by_hand import definition_of

SCANNER = "simulated tiny, 15 x 15 x 15 mm"


@pytest.fixture(scope="module")
def case(tiny_cohort):
    found = build_manifest("simulated", tiny_cohort[0].parent)
    return Case("one", found.subjects[0], tiny_cohort[0].parent)


@pytest.fixture
def work(case, tmp_path):
    """Work on one subject."""
    definition = definition_of(["unipet"], samples={"dose_reduction_factor": 20})
    found = {source.model_dump_json(): [case] for source in definition.images.values()}
    said: list[str] = []
    kept = KeptResults(tmp_path / "kept", {})
    return Work(
        definition=definition, root=tmp_path, scans=None, folder=tmp_path, kept=kept, say=said.append, found=found
    )


@pytest.mark.parametrize(
    ("scanner", "factor", "setting"),
    [
        ("A", 4, 2.0),
        ("A", 3, 2.0),  # nearer to 4 than to 20
        ("A", 200, 6.0),
        ("A", 8.9, 2.0),  # nearest by ratio: 4 x 20 = 8.94 squared
        ("A", 9, 6.0),
        ("C", 20, 7.0),  # the mean over A and B
        ("C", 4, 2.0),  # tuned on A alone
    ],
)
def test_a_filter_has_the_setting_of_its_scanner_and_the_nearest_dose(scanner, factor, setting):
    tuned = {("A", 4.0): 2.0, ("A", 20.0): 6.0, ("B", 20.0): 8.0}
    assert TunedFilter(name="gaussian", tuned=tuned).at_dose(factor).setting(scanner) == setting


def test_a_filter_without_dose_or_settings_is_refused():
    with pytest.raises(ValueError, match="no setting without a dose"):
        TunedFilter(name="gaussian", tuned={("A", 4.0): 2.0}).setting("A")
    with pytest.raises(PETError, match="filter gaussian has no settings"):
        classical(["gaussian"], Competitors(filters=("gaussian",)))


def test_input_and_filters_are_methods(case):
    tuned = Competitors(filters=("gaussian",), tuned={("gaussian", SCANNER, 20.0): 30.0})
    [first, second] = classical(["gaussian"], tuned)
    low = case.read(case.doses[20.0])
    assert with_dose(first.method, 20)(low) is low
    assert first.method is noisy_input
    assert with_dose(second.method, 20)(low).suv.std() < low.suv.std()
    assert second.facts["settings"] == [{"scanner": SCANNER, "dose_reduction_factor": 20.0, "setting": 30.0}]


CONDITIONED = """
method: conditioned
network_def: {_target_: pipeline.networks.DoseConditionedNetwork, channels: 4, n_blocks: 1, suv_scale: 2.0}
weights: null
suv_scale: 2.0
inferer: {_target_: pipeline.inference.StreamingInferer, body_threshold: 0.05}
"""


def test_a_method_that_must_know_the_dose_has_two_rows(tmp_path):
    (tmp_path / "conditioned.yaml").write_text(CONDITIONED)
    entry = MethodEntry(method=str(tmp_path / "conditioned.yaml"), weights="none", label="FiLM")
    told, read = networks_of("film", entry, weights=None, bundle=own_bundle())
    assert [(row.name, row.label, row.dose, row.is_first) for row in (told, read)] == [
        ("film", "FiLM, dose stated", "stated", True),
        ("film_dose_read", "FiLM, dose read", "read", False),
    ]
    assert told.identity != read.identity
    assert with_dose(told.method, 20).dose_reduction_factor == 20
    assert isinstance(read.method, DoseRead)
    assert with_dose(read.method, 20) is read.method


def test_weights_of_another_network_are_refused(tmp_path):
    (tmp_path / "unipet").mkdir()
    torch.save(BaseDenoisingNetwork(4, 1).state_dict(), tmp_path / "unipet" / "model.pt")
    with pytest.raises(PETError, match=r"unipet/model.pt: not weights of this network"):
        list(networks_of("unipet", MethodEntry(), weights=tmp_path, bundle=own_bundle()))


def test_the_budget_is_read_from_what_training_wrote(tmp_path):
    assert budget_of(tmp_path) == {}
    rows = ("BDN\t1\t60.0\tloss\t1", "BDN\t1\t60.0\tpsnr\t40", "BDN\t2\t120.0\tloss\t1", "UniPET\t1\t180.0\tloss\t1")
    (tmp_path / "progress.tsv").write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "config.yaml").write_text("n_patches: 500\nbatch_size: 4\nseed: 1\n")
    expected = {"epochs": 3, "hours": 0.1, "n_patches": 1500, "batch_size": 4, "seed": 1}
    assert budget_of(tmp_path) == pytest.approx(expected)


@pytest.fixture
def in_this_process(monkeypatch):
    """Let costs be measured here: a process of their own takes seconds to begin."""
    monkeypatch.setattr("pipeline.benchmark.parts.cost._in_own_process", _measured)


def test_cost_beside_the_reference(work, tmp_path, in_this_process):
    path = tmp_path / "small.yaml"
    path.write_text(
        CONDITIONED.replace("DoseConditionedNetwork", "BaseDenoisingNetwork").replace(", suv_scale: 2.0", "")
    )
    denoiser = Denoiser.from_bundle(method=str(path))
    [row] = cost("small", denoiser, work, reference=denoiser)["cost"]
    # 27 x (4 + 2 x 16 + 4) multiply-adds: first and last convolution, and two in the block.
    assert row["multiply_adds_per_pass"] == pytest.approx(27 * 40)
    assert row["n_passes"] == 1
    assert 0 < row["seconds"] < 60
    assert row["seconds_of_reference"] > 0
    assert row["peak_memory_mib"] >= row["memory_before_mib"] > 50
    assert cost("input", noisy_input, work) == {}


@pytest.mark.slow
def test_cost_is_measured_in_a_process_of_its_own(work):
    [row] = cost("identity", Denoiser.from_bundle(method="identity"), work)["cost"]
    assert row["memory_before_mib"] > 50
    assert "multiply_adds_per_pass" not in row


def test_passes_of_windows_are_counted(work, tmp_path, in_this_process):
    path = tmp_path / "small.yaml"
    windows = "{_target_: SlidingWindowInferer, roi_size: [32, 32, 32], overlap: 0.5}"
    text = CONDITIONED.replace("DoseConditionedNetwork", "BaseDenoisingNetwork").replace(", suv_scale: 2.0", "")
    path.write_text(text.replace("{_target_: pipeline.inference.StreamingInferer, body_threshold: 0.05}", windows))
    [row] = cost("small", Denoiser.from_bundle(method=str(path)), work)["cost"]
    assert row["multiply_adds_per_pass"] == pytest.approx(27 * 40)
    assert row["n_passes"] == pytest.approx(3 * 32**3 / (32 * 32 * 64))  # three windows along Z, half over each other
    assert np.isnan(row["seconds_of_reference"])


def test_steps_and_samples_of_a_diffusion_are_counted(work, tmp_path, in_this_process):
    path = tmp_path / "small.yaml"
    small = "network_def#channels: 4\nnetwork_def#n_blocks: [1, 1, 1, 1, 1]"
    path.write_text(f"based_on: ddpm3d\n{small}\nweights: null\nn_steps: 3\nn_samples: 2\n")
    [row] = cost("small", Denoiser.from_bundle(method=str(path)), work)["cost"]
    assert 3 < row["n_passes"] <= 3 * 2  # of the box around the body
    assert row["multiply_adds_per_pass"] > 100


def test_samples_are_at_one_scale(work, case):
    rows = samples("input", noisy_input, work)["samples"]
    assert [(row["image"], row["view"]) for row in rows][::2] == [
        *(("input", "projection"), ("full dose", "projection"), ("noise-free", "projection"))
    ]
    suv = case.read(case.doses[20.0]).suv
    shown = grey_image(rows[0])
    assert shown.shape == (suv.shape[2], suv.shape[0])
    # Head up, and the patient's right at the left.
    assert np.abs(shown - np.clip(suv.max(axis=1).T[::-1, ::-1], 0, 7)).max() <= 7 / 255


def test_a_real_scan_that_is_not_there_is_said(work):
    scan = RealScan(path="nowhere", scanner="mct", dose_reduction_factors=(4,), seed=1)
    away = replace(work, definition=work.definition.model_copy(update={"real": {"site": scan}}))
    assert real("input", noisy_input, away) == {"scans": [], "lesions": []}


def test_noise_is_inserted_into_a_real_scan_once(case, tmp_path, monkeypatch):
    calls = []

    def low_doses(self, full, subject_id, *, attenuation):
        calls.append(subject_id)
        yield from ((factor, full.with_suv(full.suv / factor)) for factor in self.dose_reduction_factors)

    monkeypatch.setattr("pipeline.data.store.inserted_doses.NoiseInsertion.low_doses", low_doses)
    place = case.root / case.subject.full_dose.path
    scan = RealScan(path="x", scanner="mct", dose_reduction_factors=(20, 4), seed=1)
    for _ in range(2):
        found = real_case("site", scan, place, tmp_path)
    assert calls == ["site"]
    assert list(found.doses) == [4, 20]
    np.testing.assert_allclose(found.read(found.doses[20.0]).suv, read_pet(place).suv / 20, rtol=1e-6)
    real_case("site", scan.model_copy(update={"seed": 2}), place, tmp_path)
    assert len(calls) == 2


def test_every_trained_method_of_the_shipped_benchmark_exists():
    methods = read_yaml(own_bundle() / "configs" / "benchmark.yaml")["methods"]
    for name, entry in methods.items():
        assert (own_bundle() / "configs" / "methods" / f"{entry.get('method', name)}.yaml").is_file()
