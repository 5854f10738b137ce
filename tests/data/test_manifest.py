"""The schema and its file, recipes, data lists and tables."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from pydantic import ValidationError

from pipeline import read_pet
from pipeline.data import Manifest
from pipeline.data.building.build import build_manifest
from pipeline.data.checking.tables import exclusion_table, noise_table, summary_table
from pipeline.data.datalist import decathlon_datalist
from pipeline.data.manifest import Cohort, Exclusion, File, Image, Recipe, Subject, read_image
from pipeline.data.simulated import check_recipe, described_data, simulated_manifest
from pipeline.data.store.fingerprints import content_sha256
from pipeline.pet import PETError

PATIENT = {"id": "a", "patient": "a"}


def _subject(id_="a", **values):
    return Subject(**{"id": id_, "patient": id_, "split": "train", "images": (Image(path=f"{id_}.nii.gz"),), **values})


def _manifest(*subjects, **values):
    return Manifest(name="some", title="Some", layout="bids_pet", subjects=subjects, **values)


def test_a_manifest_reads_back_as_it_was_written(tmp_path):
    images = (
        Image(path="a/full.nii.gz", sha256="0" * 64, sidecar={"Units": "Bq/mL", "ImageDecayCorrected": False}),
        Image(path="a/Ü 1-4 dose", dose_reduction_factor=4),
    )
    manifest = _manifest(
        _subject("0001", images=images, shape=(3, 4, 5), voxel_size=(1.65, 1.65, 1.65), lesions=File(path="a/l.nii")),
        exclusions=(Exclusion(subject="b", reason="on: no scan"), Exclusion(subject="c", path="c/x", reason="null")),
        notes=("2024-01-01", "yes"),
    )
    assert Manifest.from_file(manifest.write(tmp_path / "m.yaml")) == manifest


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.nii.gz", "a/../../b", "a\\b", ""])
def test_a_path_cannot_leave_the_root(path):
    with pytest.raises(ValidationError, match="leaves the root"):
        File(path=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nonsense": 1}, "nonsense: Extra inputs are not permitted"),
        ({"name": "a b"}, "name: String should match pattern"),
        ({"subjects": [{**PATIENT, "split": "train", "images": [{"path": "x", "dose_reduction_factor": 4}]}]},
         "subjects.0: subject a: no image at full dose"),
        ({"subjects": [{**PATIENT, "split": "dev", "images": [{"path": "x"}]}]}, "subjects.0.split: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_in_one_line(tmp_path, change, message):
    path = tmp_path / "m.yaml"
    path.write_text(json.dumps({"name": "a", "title": "A", "layout": "udpet", **change}))
    with pytest.raises(PETError, match=message) as error:
        Manifest.from_file(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(PETError, match=r"m\.yaml: (holds a list|not YAML)"):
        Manifest.from_file(path)


def test_twice_the_same_dose_or_subject_is_refused():
    with pytest.raises(ValidationError, match="two images have the same role"):
        _subject(images=(Image(path="x"), Image(path="y")))
    with pytest.raises(ValidationError, match="subjects a appear twice"):
        _manifest(_subject(), _subject())


COARSE_RECIPE = Recipe(
    dose_reduction_factors=(4, 20),
    cohorts=(
        Cohort(folder="train", split="train", n_subjects=1, seed=1, scanner="tiny"),
        Cohort(folder="test", split="test", n_subjects=1, seed=2, scanner="tiny"),
    ),
)


def test_a_recipe_becomes_data_and_its_manifest(tmp_path, tiny_preset):
    recipe = Manifest(name="r", title="R", layout="simulated", recipe=COARSE_RECIPE)
    calls = []
    manifest = simulated_manifest(recipe, tmp_path, checksums=True, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(1, 2), (2, 2)]
    assert {s.id: s.split for s in manifest.subjects} == {"train_sub-0001": "train", "test_sub-0001": "test"}
    for subject in manifest.subjects:
        for file in subject.files():
            assert file.sha256 == content_sha256(tmp_path / file.path)
    # Nothing is made twice, and a subject that does not belong to the recipe is left out.
    shutil.copytree(tmp_path / "train", tmp_path / "more")
    assert simulated_manifest(recipe, tmp_path, checksums=True) == manifest


def test_one_seed_in_two_splits_is_refused():
    cohorts = [{"folder": f, "split": f, "n_subjects": 2, "seed": 7} for f in ("train", "test")]
    with pytest.raises(PETError, match="2 simulated patients are in test and train"):
        check_recipe(Recipe(dose_reduction_factors=(4,), cohorts=cohorts))
    with pytest.raises(PETError, match="share the folder train"):
        check_recipe(Recipe(dose_reduction_factors=(4,), cohorts=[cohorts[0], cohorts[0]]))


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1, 4), r"cohort a: dose reduction factors \(1.0, 4.0\), expected different numbers above 1"),
        ((4, 4), r"cohort a: dose reduction factors \(4.0, 4.0\), expected different"),
        ((4, 400), "up to 200"),
        ((20, 4), r"cohort a: dose reduction factors \(20.0, 4.0\) do not rise"),
        ((), "cohort a: has no dose reduction factor"),
    ],
)
def test_doses_of_a_recipe_are_checked(factors, said):
    cohort = {"folder": "a", "split": "test", "n_subjects": 1, "seed": 7}
    with pytest.raises(PETError, match=said):
        check_recipe(Recipe(dose_reduction_factors=factors, cohorts=[cohort]))
    if factors:
        with pytest.raises(PETError, match=said):
            check_recipe(Recipe(dose_reduction_factors=(4,), cohorts=[cohort | {"dose_reduction_factors": factors}]))


def test_a_part_of_a_recipe_is_the_first_subjects_of_its_cohorts(tmp_path, monkeypatch):
    cohorts = [
        Cohort(folder=f, split=s, n_subjects=3, seed=n) for n, (f, s) in enumerate([("a", "test"), ("b", "train")])
    ]
    recipe = Manifest(
        name="r", title="R", layout="simulated", recipe=Recipe(dose_reduction_factors=(4,), cohorts=cohorts)
    )
    source = recipe.write(tmp_path / "r.yaml")
    asked = []
    monkeypatch.setattr("pipeline.data.simulated.simulated_manifest", lambda r, root, **_: asked.append(r.recipe) or r)
    described_data(source, root=tmp_path, cohorts={"b": 2})
    assert asked[0].cohorts == (cohorts[1].model_copy(update={"n_subjects": 2}),)
    for sizes, said in (
        ({"c": 1}, r"r\.yaml: has no cohort c, expected one of a, b"),
        ({"a": 4}, r"r\.yaml: 4 subjects of cohort a, expected 1 to 3"),
    ):
        with pytest.raises(PETError, match=said):
            described_data(source, root=tmp_path, cohorts=sizes)
    with pytest.raises(PETError, match="has no cohort b, expected one of a"):
        described_data(source, root=tmp_path, split="test", cohorts={"b": 1})
    own = recipe.model_copy(update={"recipe": None}).write(tmp_path / "own.yaml")
    with pytest.raises(PETError, match=r"own\.yaml: is no recipe"):
        described_data(own, cohorts={"a": 1})


def test_monai_reads_the_data_list(tmp_path, nifti):
    sidecar = {
        "Units": "Bq/mL", "BodyWeight": 70, "TracerRadionuclide": "F18", "InjectedRadioactivity": 350e6,
        "InjectedRadioactivityUnits": "Bq", "ImageDecayCorrected": True, "ScanStart": 0, "InjectionStart": -3600,
    }  # fmt: skip
    for name, reference in (("rec-full", 0), ("rec-drf004", 300), ("rec-drf020", 600)):
        path = tmp_path / "sub-01" / "pet" / f"sub-01_{name}_pet.nii.gz"
        nifti(path, sidecar={**sidecar, "ImageDecayCorrectionTime": reference})
    nifti(tmp_path / "sub-02" / "pet" / "sub-02_pet.nii.gz", sidecar={"Units": "g/mL"})
    manifest = build_manifest("bids_pet", tmp_path, fractions=(1, 0, 0))
    path = tmp_path / "list.json"
    path.write_text(json.dumps(decathlon_datalist(manifest, tmp_path)))
    items = load_decathlon_datalist(path, data_list_key="training", base_dir=tmp_path)
    assert [(item["subject"], item["dose"]) for item in items] == [
        ("sub-01:sub-01", 0.25),
        ("sub-01:sub-01", 0.05),
        ("sub-02:sub-02", 1.0),
    ]
    for item in items[:2]:
        voxels = read_pet(item["image"]).suv / item["suv"]
        # 5000 Bq/mL whatever the dose: the factor holds the decay of its own file.
        np.testing.assert_allclose(voxels, read_pet(item["label"]).suv / item["suv_label"], rtol=1e-5)
        assert item["suv"] > item["suv_label"]
    assert (items[2]["suv"], items[2]["image"]) == (1.0, items[2]["label"])
    assert "validation" not in decathlon_datalist(manifest, tmp_path)
    assert np.array_equal(read_image(manifest.subjects[0].full_dose, tmp_path).suv, read_pet(items[0]["label"]).suv)


def test_a_recipe_has_no_data_list(tmp_path):
    with pytest.raises(PETError, match="some: has no subjects"):
        decathlon_datalist(_manifest(), tmp_path)


def test_tables_of_a_manifest():
    images = (Image(path="a/1"), Image(path="a/4", dose_reduction_factor=4), Image(path="a/r", role="full_repeat"))
    manifest = _manifest(
        _subject("a", images=images, tracer="FDG", scanner="S 1"),
        _subject("b", patient="a", tracer="FDG"),
        _subject("c", split="test", tracer="PSMA"),
        exclusions=(Exclusion(subject="d", reason="wrong weight"), Exclusion(subject="b", path="b/x", reason="odd")),
    )
    table = summary_table(manifest)
    columns = ["subjects", "patients", "DRF 1", "DRF 4"]
    assert table.loc["train", columns].tolist() == [2, 1, 2, 1]
    assert table.loc["validation", columns].tolist() == [0, 0, 0, 0]
    assert table.loc["all", columns].tolist() == [3, 2, 3, 1]
    assert table.loc["all", "tracers"] == "FDG, PSMA"
    assert exclusion_table(manifest)["what"].tolist() == ["all", "b/x"]


def test_noise_of_a_data_set_stands_beside_the_published_values(tmp_path, nifti):
    for k in (1, 2):
        for name, noise in (("rec-full", 0.1), ("rec-drf004", 0.2)):
            path = tmp_path / f"sub-0{k}" / "pet" / f"sub-0{k}_{name}_pet.nii.gz"
            nifti(path, noise=noise, seed=k, sidecar={"Units": "g/mL"})
    table = noise_table(build_manifest("bids_pet", tmp_path), tmp_path)
    assert list(table.index[:2]) == ["Quadra (published)", "uEXPLORER (published)"]
    row = table.loc["unknown scanner, 8 x 8 x 8 mm"]
    assert (row["n"], row["rising"]) == (2, 2)
    assert 0 < row[1] < row[4]


# Attacks.

DEEP = {
    "lists": "a: " + "[" * 50_000 + "]" * 50_000,
    "records": "{a: " * 50_000 + "1" + "}" * 50_000,
    "lists in lines": "a:\n" + "- " * 50_000 + "1",
    "open lists": "a: " + "[" * 50_000,
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_file_nested_beyond_reason_ends_in_one_line_and_not_the_process(tmp_path, kind):
    path = tmp_path / "m.yaml"
    path.write_text(f"name: a\n{DEEP[kind]}\n" if kind != "records" else DEEP[kind])
    code = "import sys; from pipeline.data import Manifest; Manifest.from_file(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"pipeline.errors.PETError: {path}: ")


def test_a_sidecar_nested_beyond_reason_leaves_its_image_out(tmp_path, nifti):
    nifti(tmp_path / "sub-01" / "pet" / "sub-01_pet.nii.gz", sidecar={"Units": "g/mL"})
    nifti(tmp_path / "sub-02" / "pet" / "sub-02_pet.nii.gz")
    (tmp_path / "sub-02" / "pet" / "sub-02_pet.json").write_text("[" * 50_000)
    manifest = build_manifest("bids_pet", tmp_path)
    assert [subject.id for subject in manifest.subjects] == ["sub-01"]
    assert any("sub-02_pet.json: " in exclusion.reason for exclusion in manifest.exclusions)


def test_excluded_subjects_and_doses_are_in_no_data_list(tmp_path, nifti):
    for k in (1, 2):
        for name in ("rec-full", "rec-drf004", "rec-drf020"):
            nifti(tmp_path / f"sub-0{k}" / "pet" / f"sub-0{k}_{name}_pet.nii.gz", sidecar={"Units": "g/mL"})
    manifest = build_manifest("bids_pet", tmp_path, fractions=(1, 0, 0))
    exclusions = (
        Exclusion(subject="sub-01", reason="wrong weight"),
        Exclusion(subject="sub-02", dose_reduction_factor=4, reason="cut off"),
    )
    items = decathlon_datalist(manifest.model_copy(update={"exclusions": exclusions}), tmp_path)["training"]
    assert [(item["subject"], item["dose_reduction_factor"]) for item in items] == [("sub-02:sub-02", 20)]
