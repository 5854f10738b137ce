"""`unipet evaluate`: several cohorts, a real scan, a gate that closes, documents, and mistakes in one line."""

import shutil
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.data import Manifest, build_manifest
from pipeline.data.manifest import Cohort, Exclusion, Recipe
from tests.described_tables import check_dictionaries

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
    check_dictionaries(tmp_path, n_tables=2)
    text = (tmp_path / "tables.md").read_text()
    assert text.startswith("2 subjects (one, two); settings of the filters (gaussian, nonlocal_means) chosen on other")
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
        ((), "nothing to measure on was given"),
        (("{one}", "--low", "4=x.nii.gz"), "--low was given without --scan"),
        (("--scan", "x.nii.gz"), "--scan was given without --low"),
        (("{one}", "--scan", "x.nii.gz", "--low", "4=y.nii.gz"), "expected it alone"),
        (("--scan", "x.nii.gz", "--low", "four=y.nii.gz"), "--low four=y.nii.gz: expected DRF=SCAN"),
        (("--scan", "x.nii.gz", "--low", "4=a", "--low", "4=b"), "DRF 4 was given twice"),
        (("{one}", "--filter", "median"), "filter 'median' is not known, expected gaussian"),
        (("{one}", "--drf", "7"), "one: no subject has a scan of DRF 7"),
        (("--scan", "x.nii.gz", "--low", "4=y.nii.gz", "--keep", "k"), "expected it alone"),
        (("{one}", "--keep", "{full}"), "cannot be used"),
        (("{one}", "{one}"), "expected data sets with different names"),
        (("{one}", "{tuning}"), "expected other subjects to measure and to tune on"),
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
    full = next(cohorts[0].glob("sub-*/pet/*rec-full_pet.nii.gz"))
    names = {"one": cohorts[0], "tuning": cohorts[2], "full": full}
    done = evaluate(*(a.format(**names) for a in arguments), "--tuning", cohorts[2], *METHOD)
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda test, tuning: next(test.rglob("*_mask.nii.gz")).write_bytes(b"x"), "mask.nii.gz: not a readable"),
        (lambda test, tuning: shutil.rmtree(test / "sub-0001"), "one: no session of layout simulated found"),
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


@pytest.fixture(scope="module")
def manifest(cohorts) -> Path:
    """The cohort "one" for testing and "tuning" for validation, as a manifest beside them."""
    found = build_manifest("simulated", cohorts[0].parent)
    splits = {"one": "test", "two": "train", "tuning": "validation"}
    subjects = tuple(s.model_copy(update={"split": splits[s.id.split("_")[0]]}) for s in found.subjects)
    return found.model_copy(update={"subjects": subjects}).write(cohorts[0].parent / "m.yaml")


def rows_of(*arguments, to: Path) -> tuple[pd.DataFrame, str]:
    done = evaluate(*arguments, *METHOD, "--output", to)
    assert done.exit_code == 0, done.stderr
    return pd.read_csv(to, sep="\t"), done.stdout


def test_a_manifest_gives_the_figures_of_its_folders(cohorts, manifest, tmp_path):
    rows, said = rows_of(manifest, to=tmp_path / "a.tsv")
    assert said.strip().startswith("1 subjects (m, split test); each filter (gaussian, nonlocal_means) has its best")
    folders, _ = rows_of(cohorts[0], to=tmp_path / "b.tsv")
    assert set(rows["subject"]) == {"one_sub-0001"}
    pd.testing.assert_frame_equal(rows.drop(columns="subject"), folders.drop(columns="subject"))


def test_any_split_can_be_measured_on_and_exclusions_hold(cohorts, manifest, tmp_path):
    described = Manifest.from_file(manifest)
    gone = Exclusion(subject="two_sub-0002", dose_reduction_factor=20, reason="cut off")
    changed = described.model_copy(update={"exclusions": (gone,)}).write(tmp_path / "m.yaml")
    options = ("--root", cohorts[0].parent, "--split", "train")
    rows, _ = rows_of(changed, *options, to=tmp_path / "rows.tsv")
    assert set(zip(rows["subject"], rows["dose_reduction_factor"], strict=True)) == {("two_sub-0002", 4)}
    whole = Exclusion(subject="two_sub-0002", reason="another patient")
    described.model_copy(update={"exclusions": (whole,)}).write(tmp_path / "m.yaml")
    done = evaluate(changed, *options, *METHOD)
    assert "m.yaml: has no subject of split train" in done.stderr


def test_real_scans_of_a_manifest_are_measured_against_their_full_dose(cohorts, tmp_path):
    """Two subjects in BIDS, one with lesions and one that lacks a dose; nothing of the simulation is known."""
    for k, cohort in enumerate(cohorts[:2], start=1):
        source = next(cohort.glob("sub-*/pet"))
        pet = tmp_path / f"sub-0{k}" / "pet"
        pet.mkdir(parents=True)
        for dose in ("full", "drf004", *(["drf020"] if k == 1 else [])):
            for suffix in (".nii.gz", ".json"):
                name = f"{source.parent.name}_rec-{dose}_pet{suffix}"
                shutil.copy(source / name, pet / f"sub-0{k}_rec-{dose}_pet{suffix}")
        if k == 1:
            mask = next(source.glob("*_desc-lesions_mask.nii.gz"))
            shutil.copy(mask, pet / "sub-01_desc-lesions_mask.nii.gz")
    path = build_manifest("bids_pet", tmp_path, fractions=(0, 0, 1)).write(tmp_path / "m.yaml")
    rows, said = rows_of(path, "--tuning", cohorts[2], to=tmp_path / "rows.tsv")
    assert set(zip(rows["subject"], rows["dose_reduction_factor"], strict=True)) == {
        ("sub-01", 4), ("sub-01", 20), ("sub-02", 4)
    }  # fmt: skip
    assert not {"psnr_noise_free", "psnr_repeat"} & set(rows)
    assert "subjects a dose: DRF 4: 2, DRF 20: 1" in " ".join(said.split())
    assert "SUVmax bias of lesions and hot regions of the full-dose scan" in " ".join(said.split())


def test_a_recipe_is_simulated_as_far_as_it_is_measured_on(tmp_path, tiny_preset):
    recipe = Recipe(
        dose_reduction_factors=(4,),
        cohorts=tuple(
            Cohort(folder=split, split=split, n_subjects=1, seed=seed, scanner="tiny")
            for seed, split in enumerate(("train", "validation", "test"))
        ),
    )
    path = Manifest(name="r", title="R", layout="simulated", recipe=recipe).write(tmp_path / "r.yaml")
    assert "expected --root" in evaluate(path, *METHOD).stderr
    rows, _ = rows_of(path, "--root", tmp_path / "data", to=tmp_path / "rows.tsv")
    assert set(rows["subject"]) == {"test_sub-0001"}
    assert sorted(folder.name for folder in (tmp_path / "data").iterdir()) == ["test"]


def test_a_dose_that_no_tuning_subject_has_is_tuned_on_the_scan_and_said(cohorts, tmp_path):
    tuning = shutil.copytree(cohorts[2], tmp_path / "tuning")
    next(tuning.rglob("*drf020_pet.nii.gz")).unlink()
    rows, said = rows_of(cohorts[0], "--tuning", tuning, "--filter", "gaussian", to=tmp_path / "rows.tsv")
    assert "for 1 images, and on the scan itself, which favours the filters, for 1" in " ".join(said.split())
    chosen = rows[rows["method"] == "gaussian"].set_index("dose_reduction_factor")["chosen_on"]
    assert chosen.to_dict() == {4: "other subjects", 20: "this scan"}


def test_a_part_is_measured_and_kept(cohorts, tmp_path, monkeypatch):
    both = tmp_path / "both"
    for cohort in cohorts[:2]:
        shutil.copytree(next(cohort.glob("sub-*")), both / next(cohort.glob("sub-*")).name)
    options = (both, "--subjects", 1, "--drf", 20, "--filter", "gaussian", "--keep", tmp_path / "kept")
    rows, _ = rows_of(*options, to=tmp_path / "a.tsv")
    assert set(zip(rows["subject"], rows["dose_reduction_factor"], strict=True)) == {("sub-0001", 20)}
    assert set(rows["method"]) == {"input", "gaussian", "identity"}
    assert len(list((tmp_path / "kept").iterdir())) == 3
    monkeypatch.setattr("pipeline.comparison.measure.reference_of", lambda case: pytest.fail("measured again"))
    again, _ = rows_of(*options, to=tmp_path / "b.tsv")
    pd.testing.assert_frame_equal(rows, again)
