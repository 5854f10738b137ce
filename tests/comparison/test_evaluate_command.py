"""`unipet evaluate`: several cohorts, a real scan, a gate that closes, documents, and mistakes in one line."""

import shutil
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline.cli import app

METHOD = ("--method", "identity")


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def cohorts(tiny_cohort, tmp_path_factory) -> tuple[Path, Path, Path]:
    """Two cohorts to measure on, of one subject each, and one for tuning."""
    folder = tmp_path_factory.mktemp("cohorts")
    for name, k in (("one", 0), ("two", 1), ("tuning", 1)):
        shutil.copytree(tiny_cohort[k], folder / name / tiny_cohort[k].name)
    return folder / "one", folder / "two", folder / "tuning"


DEMAND = "psnr_gain: {measures: [psnr_full], competitors: [input], gain_db: {4: %s, 20: 0}}"


def test_several_cohorts_tables_files_and_a_gate_that_is_met(cohorts, tmp_path):
    one, two, tuning = cohorts
    (tmp_path / "gate.yaml").write_text(DEMAND % 0)
    done = evaluate(
        *(one, two, "--tuning", tuning, *METHOD),
        *("--output", tmp_path / "rows.tsv", "--markdown", tmp_path / "tables.md"),
        *("--gate", tmp_path / "gate.yaml"),
    )
    assert done.exit_code == 0, done.stderr
    assert "met     DRF 4, PSNR against full dose" in done.stdout
    assert "+0.00 dB over input" in done.stdout
    rows = pd.read_csv(tmp_path / "rows.tsv", sep="\t")
    assert set(rows["subject"].str.split("/").str[0]) == {"one", "two"}
    assert set(rows["method"]) == {"input", "gaussian", "nonlocal_means", "identity"}
    lesions = pd.read_csv(tmp_path / "rows_lesions.tsv", sep="\t")
    assert len(lesions) == 8 * len(lesions[["subject", "region"]].drop_duplicates())
    mean = rows.groupby(["method", "dose_reduction_factor"])["psnr_full"].mean()
    assert mean["identity", 4] == mean["input", 4]
    assert mean["input", 20] < mean["input", 4]
    assert mean["gaussian", 20] >= mean["input", 20]
    text = (tmp_path / "tables.md").read_text()
    assert text.startswith("2 subjects (one, two); Gaussian width")
    # What stands in the document is the mean of what stands in the rows.
    own = rows[rows["method"] == "identity"].groupby("dose_reduction_factor")["psnr_full"].mean()
    assert f"| identity | {own[4]:.2f} | {own[20]:.2f} |" in text
    for title in ("PSNR against full dose", "SUVpeak bias of lesions", "identity minus the best of input and filters"):
        assert title in text
        assert title in " ".join(done.stdout.split())


def test_a_gate_that_is_missed_exits_1(cohorts, tmp_path):
    gate = tmp_path / "gate.yaml"
    gate.write_text(DEMAND % 1)
    failed = evaluate(cohorts[0], "--tuning", cohorts[2], *METHOD, "--gate", gate)
    assert failed.exit_code == 1
    assert "MISSED  DRF 4" in failed.stdout
    assert "1 of 2 demands missed by identity" in failed.stderr


def test_a_real_scan_gives_the_same_tables(cohorts, tmp_path):
    pet = next(cohorts[0].glob("sub-*")) / "pet"
    full, low = (next(pet.glob(f"*rec-{dose}_pet.nii.gz")) for dose in ("full", "drf004"))
    done = evaluate(
        *("--scan", full, "--low", f"4={low}", "--tuning", cohorts[2], *METHOD), "--output", tmp_path / "rows.tsv"
    )
    assert done.exit_code == 0, done.stderr
    assert "hot regions of the full-dose scan" in " ".join(done.stdout.split())
    assert "noise-free" not in done.stdout
    assert set(pd.read_csv(tmp_path / "rows.tsv", sep="\t")["dose_reduction_factor"]) == {4}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no cohort was given"),
        (("{one}", "--low", "4=x.nii.gz"), "--low was given without --scan"),
        (("--scan", "x.nii.gz"), "--scan was given without --low"),
        (("{one}", "--scan", "x.nii.gz", "--low", "4=y.nii.gz"), "expected it alone"),
        (("--scan", "x.nii.gz", "--low", "four=y.nii.gz"), "--low four=y.nii.gz: expected DRF=SCAN"),
        (("--scan", "x.nii.gz", "--low", "4=a", "--low", "4=b"), "DRF 4 was given twice"),
        (("--scan", "x.nii.gz", "--low", "7=y.nii.gz"), "has no DRF 7, expected every dose of --low"),
        (("{one}", "{one}"), "expected different cohorts"),
        (("{one}", "{tuning}"), "expected other subjects for tuning"),
        (("{one}", "--gate", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("{one}", "--markdown", "nowhere/tables.md"), "nowhere/tables.md: folder"),
        (("{one}", "--markdown", "{one}"), "one: is a folder"),
        (("{one}", "--output", "{one}"), "one: "),
        (("{one}", "--output", "rows.xls"), "rows.xls: "),
        (("{one}", "--output", "/proc/rows.tsv"), "/proc/rows.tsv: "),
        (("nosuch",), "nosuch: no such file or folder"),
    ],
)
def test_mistakes_end_in_one_line(cohorts, arguments, said):
    names = {"one": cohorts[0], "tuning": cohorts[2]}
    done = evaluate(*(a.format(**names) for a in arguments), "--tuning", cohorts[2], *METHOD)
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda test, tuning: next(tuning.rglob("*drf020_pet.nii.gz")).unlink(), "tuning: has no drf020"),
        (lambda test, tuning: next(test.rglob("*_mask.nii.gz")).write_bytes(b"x"), "mask.nii.gz: not a readable"),
        (lambda test, tuning: shutil.rmtree(test / "sub-0001"), "one: no simulated subjects"),
    ],
)
def test_a_damaged_cohort_ends_in_one_line(cohorts, tmp_path, damage, said):
    one, _, tuning = (shutil.copytree(folder, tmp_path / folder.name) for folder in cohorts)
    damage(one, tuning)
    done = evaluate(one, "--tuning", tuning, *METHOD)
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unusable_output_is_found_before_the_first_scan(cohorts, monkeypatch):
    monkeypatch.setattr("pipeline.inference.Denoiser.from_bundle", lambda *a, **k: pytest.fail("work had begun"))
    done = evaluate(cohorts[0], "--tuning", cohorts[2], *METHOD, "--output", "rows.xls")
    assert done.exit_code == 1
    assert "rows.xls" in done.stderr


def test_a_fractional_lesion_mask_ends_in_one_line(cohorts, tmp_path):
    shutil.copytree(cohorts[0], tmp_path / "one")
    path = next((tmp_path / "one").glob("sub-*/pet/*_desc-lesions_mask.nii.gz"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata() * 0.5, image.affine), path)
    done = evaluate(tmp_path / "one", "--tuning", cohorts[2], *METHOD)
    assert done.exit_code == 1
    assert "expected whole numbers from 0 up" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
