"""`unipet adapt` from scans to a bundle: gained or kept, from DICOM and NIfTI, and what it leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import read_pet
from pipeline.adaptation import adapt
from pipeline.errors import PETError
from pipeline.files import sha256_of
from pipeline.inference import Denoiser
from pipeline.pet import write_dicom_series


@pytest.fixture(scope="module")
def adapted(site, settings, tmp_path_factory):
    """Adapt to three scans: the bundle, and what it was told to be."""
    output = tmp_path_factory.mktemp("adapted") / "out"
    return output, adapt([site], output, settings)


@pytest.mark.slow
def test_spoilt_weights_gain_and_the_new_ones_are_kept(adapted, settings):
    output, result = adapted
    record = json.loads((output / "adaptation.json").read_text())
    assert result.record == record
    assert record["fine_tuned_weights_kept"], [c for c in record["criteria"] if not c["met"]]
    assert record["gain_db"] > 0.05
    assert record["weights_sha256_before"] == sha256_of(settings.bundle / "models" / "model.pt")
    assert record["weights_sha256_after"] == sha256_of(output / "models" / "model.pt")
    assert record["weights_sha256_after"] != record["weights_sha256_before"]
    assert not output.with_name("out.work").exists()


@pytest.mark.slow
def test_the_bundle_denoises_by_the_weights_that_its_record_names(adapted, settings, site):
    output, result = adapted
    series = read_pet(site / "scan1.nii.gz")
    old, new = (Denoiser.from_bundle(bundle)(series) for bundle in (settings.bundle, output))
    assert np.abs(old.suv - new.suv).max() > 1e-3
    assert Denoiser.from_bundle(output).weights_sha256 == result.record["weights_sha256_after"]


@pytest.mark.slow
def test_page_card_and_record_name_no_file_and_say_what_was_used(adapted, site):
    output, result = adapted
    card, page = (output / "docs" / "README.md").read_text(), (output / "adaptation.html").read_text()
    for text in (card, page, (output / "adaptation.json").read_text()):
        assert str(site) not in text
        assert "scan1.nii" not in text
    for text in (card, page):
        assert "scan-01" in text
        assert result.record["weights_sha256_after"] in text
        assert "False hot spots per scan" in text
        assert "7.50 x 7.50 x 7.50 mm" in text
    assert (output / "docs" / "model_card_before.md").is_file()
    assert "fine-tuned on 3 scans of one site" in (output / "configs" / "metadata.json").read_text()


@pytest.mark.slow
def test_done_once_it_is_not_done_again_and_other_scans_need_another_folder(adapted, settings, site):
    output, result = adapted
    before = sha256_of(output / "models" / "model.pt")
    again = adapt([site], output, settings, on_step=lambda step: pytest.fail(step))
    assert again.was_finished
    assert again.record == result.record
    with pytest.raises(PETError, match="is an adaptation of other scans or settings, expected a new folder"):
        adapt([site / "scan1.nii.gz"], output, settings)
    assert sha256_of(output / "models" / "model.pt") == before


@pytest.mark.slow
def test_weights_that_gain_nothing_leave_the_old_ones_byte_for_byte(site, settings, tmp_path):
    idle = tuple(("train#optimizer#params#0#lr", 0.0) if "#0#lr" in key else (key, v) for key, v in settings.overrides)
    short = (*idle, ("train#optimizer#params#1#lr", 0.0))
    result = adapt([site], tmp_path / "out", replace(settings, overrides=short))
    assert not result.record["fine_tuned_weights_kept"]
    assert result.record["outcome"].startswith("The old weights are kept, byte for byte.")
    old, kept = (bundle / "models" / "model.pt" for bundle in (settings.bundle, tmp_path / "out"))
    assert old.read_bytes() == kept.read_bytes()
    assert result.record["weights_sha256_after"] == result.record["weights_sha256_before"]


def test_one_scan_as_dicom_is_cut_in_two_and_says_what_it_cannot_show(full_doses, settings, tmp_path):
    write_dicom_series(full_doses[0], tmp_path / "dicom", description="PET")
    one_epoch = tuple(item for item in settings.overrides if item[0] != "train#max_epochs")
    result = adapt(
        [tmp_path / "dicom"], tmp_path / "out", replace(settings, overrides=(*one_epoch, ("train#max_epochs", 1)))
    )
    assert any("One scan alone" in sentence for sentence in result.record["limits"])
    assert [scan["role"] for scan in result.record["scans"]] == ["train with one part, hold out the other"]
    assert result.record["gain_interval_db"] is None
    assert torch.load(tmp_path / "out" / "models" / "model.pt", weights_only=True)
