"""The commands on data sets: simulate's description, manifest build, check and datalist, prepare, insert-noise."""

import json
import shutil

import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from pipeline import read_pet
from pipeline.data import Manifest, Store
from pipeline.data.manifest import Exclusion, Image
from pipeline.pet import PETError
from pipeline.simulation.subject_folder import is_complete
from pipeline.workflow import describe_cohort


@pytest.fixture
def refused(unipet):
    """Return standard error of a command that must fail in one line."""

    def run(*arguments):
        done = unipet(*arguments)
        assert done.returncode == 1, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr

    return run


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory):
    """Two subjects in a folder of their own, described."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    shutil.copytree(tiny_cohort[0].parent, folder)
    describe_cohort(folder)
    return folder


def test_a_cohort_is_described_and_shown(cohort):
    manifest = Manifest.from_file(cohort / "manifest.yaml")
    assert [subject.id for subject in manifest.subjects] == ["sub-0001", "sub-0002"]
    assert [image.dose_reduction_factor for image in manifest.subjects[0].low_dose] == [4, 20]
    assert (cohort / "montage.png").read_bytes().startswith(b"\x89PNG")


def test_of_eight_simulated_subjects_one_is_for_validation_and_one_for_testing(unipet, cohort, tmp_path):
    for number in range(1, 10):
        (tmp_path / f"sub-{number:04d}" / "pet").mkdir(parents=True)
        for path in (cohort / "sub-0001" / "pet").iterdir():
            name = path.name.replace("sub-0001", f"sub-{number:04d}")
            shutil.copy(path, tmp_path / f"sub-{number:04d}" / "pet" / name)
        record = tmp_path / f"sub-{number:04d}" / "pet" / f"sub-{number:04d}_simulation.json"
        content = json.loads(record.read_text())
        content["request"]["seed"] = number
        record.write_text(json.dumps(content))
    assert unipet("manifest", "build", "simulated", tmp_path, tmp_path / "m.yaml").returncode == 0
    splits = [subject.split for subject in Manifest.from_file(tmp_path / "m.yaml").subjects]
    assert splits == [*["train"] * 6, "validation", "test", "train"]


def test_build_check_and_export(unipet, cohort, tmp_path):
    manifest = tmp_path / "m.yaml"
    done = unipet("manifest", "build", "simulated", cohort, manifest, "--checksums")
    assert done.returncode == 0, done.stderr
    done = unipet("manifest", "check", manifest, cohort, "--level", "files")
    assert done.returncode == 0, done.stderr
    assert "2 subjects, no problem found" in done.stdout
    done = unipet("manifest", "datalist", manifest, cohort, tmp_path / "list.json")
    assert done.returncode == 0, done.stderr
    items = load_decathlon_datalist(tmp_path / "list.json", data_list_key="training", base_dir=cohort)
    assert {item["dose_reduction_factor"] for item in items} == {4, 20}


@pytest.fixture
def bids(tmp_path, cohort):
    """A scan in BIDS, of which nothing but the files is known."""
    pet = tmp_path / "bids" / "sub-01" / "pet"
    pet.mkdir(parents=True)
    for suffix in (".nii.gz", ".json"):
        shutil.copy(cohort / "sub-0001" / "pet" / f"sub-0001_rec-full_pet{suffix}", pet / f"sub-01_pet{suffix}")
    return tmp_path / "bids"


def test_check_accepts_what_build_wrote_once_source_and_licence_are_stated(unipet, refused, bids, tmp_path):
    manifest = tmp_path / "m.yaml"
    done = unipet("manifest", "build", "bids_pet", bids, manifest)
    assert done.returncode == 0, done.stderr
    assert "state --source, --how-to-get, --licence, --allows" in done.stdout
    assert "problems: 4, the first: source is empty" in refused("manifest", "check", manifest, bids)
    stated = ("--source", "our clinic", "--how-to-get", "ask us", "--licence", "CC0-1.0", "--allows", "everything")
    done = unipet("manifest", "build", "bids_pet", bids, manifest, *stated)
    assert done.returncode == 0, done.stderr
    assert "--source" not in done.stdout
    done = unipet("manifest", "check", manifest, bids)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_build_without_a_usable_subject_fails_and_writes_nothing(refused, bids, tmp_path):
    (bids / "sub-01" / "pet" / "sub-01_pet.json").write_text("{}")
    said = refused("manifest", "build", "bids_pet", bids, tmp_path / "m.yaml")
    assert "no usable subject among 1 session" in said
    assert "Units" in said
    assert not (tmp_path / "m.yaml").exists()


def test_a_leak_ends_in_exit_code_1(refused, cohort, tmp_path):
    manifest = Manifest.from_file(cohort / "manifest.yaml")
    first, second = manifest.subjects
    moved = second.model_copy(update={"patient": first.patient, "split": "test"})
    path = manifest.model_copy(update={"subjects": (first, moved)}).write(tmp_path / "leak.yaml")
    assert "problems: 1, the first: sub-0001 one patient in 2 splits" in refused("manifest", "check", path, cohort)


def test_prepare_makes_a_store_and_keeps_it(unipet, cohort, tmp_path):
    done = unipet("prepare", cohort / "manifest.yaml", tmp_path / "store")
    assert "2 new" in done.stdout, done.stderr
    assert "2 kept" in unipet("prepare", cohort / "manifest.yaml", tmp_path / "store").stdout
    stored = Store(tmp_path / "store").series("sub-0001", "drf020")
    source = read_pet(cohort / "sub-0001" / "pet" / "sub-0001_rec-drf020_pet.nii.gz")
    np.testing.assert_array_equal(stored.suv, source.suv)


def test_a_subject_that_fails_is_named_and_the_others_are_made(unipet, cohort, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(cohort, root)
    (root / "sub-0001" / "pet" / "sub-0001_rec-drf004_pet.nii.gz").write_bytes(b"damaged")
    done = unipet("prepare", root / "manifest.yaml", tmp_path / "store")
    assert done.returncode == 1
    assert "sub-0001: failed" in done.stdout
    assert "1 of 2 subjects failed" in done.stderr
    assert list(Store(tmp_path / "store").subjects) == ["sub-0002"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["manifest", "build", "no_such.yaml", "{data}", "{out}/m.yaml"], "no_such.yaml: cannot be read"),
        (
            ["manifest", "build", "simulatd", "{data}", "{out}/m.yaml"],
            "simulatd: neither a YAML file nor a layout; did you mean simulated? Layouts are udpet,",
        ),
        (["manifest", "build", "autopet", "{data}", "{out}/m.yaml"], "no session of layout autopet"),
        (["manifest", "build", "simulated", "{out}", "{out}/m.yaml"], "no session of layout simulated"),
        (["manifest", "build", "simulated", "{data}", "{out}/none/m.yaml"], "none does not exist"),
        (["manifest", "check", "{data}/montage.png", "{data}"], "not YAML"),
        (["manifest", "check", "{data}/manifest.yaml", "{out}/none"], "no such folder"),
        (["prepare", "{recipe}", "{out}/store"], "is a recipe, expected --root"),
        (["prepare", "{data}/manifest.yaml", "{data}"], "expected"),
        (["insert-noise", "{scan}", "{out}/low", "--drf", "1"], "dose reduction factors"),
        (["insert-noise", "{scan}", "{out}/low", "--liver-cov", "9"], "expected a fraction"),
        (["insert-noise", "{scan}", "{out}/low", "--scanner", "none"], "no scanner preset"),
        (["insert-noise", "{scan}", "{out}/low", "--ct", "{out}/none"], "no such file"),
        (["simulate", "{out}/s", "--tracer", "water"], "water"),
        (["simulate", "{out}/s", "--drf", "300"], "dose reduction factors"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_mistake_ends_in_one_line(refused, arguments, said, cohort, tmp_path, repository):
    scan = cohort / "sub-0001" / "pet" / "sub-0001_rec-full_pet.nii.gz"
    recipe = repository / "data_manifests" / "simulated_v2.yaml"
    filled = [a.format(data=cohort, out=tmp_path, scan=scan, recipe=recipe) for a in arguments]
    assert said in refused(*filled)
    assert not list(tmp_path.iterdir())


def stored_after(unipet, exclusion, cohort, tmp_path):
    """What a store holds of sub-0001 and its images when this is excluded."""
    manifest = Manifest.from_file(cohort / "manifest.yaml")
    subjects = tuple(subject.model_copy(update={"split": "train"}) for subject in manifest.subjects)
    changed = manifest.model_copy(update={"exclusions": (exclusion,), "subjects": subjects})
    done = unipet("prepare", changed.write(tmp_path / "m.yaml"), tmp_path / "store", "--root", cohort)
    assert done.returncode == 0, done.stderr
    subjects = Store(tmp_path / "store").subjects
    return done.stdout, subjects["sub-0001"].volumes if "sub-0001" in subjects else None


def test_an_excluded_file_costs_that_file_only(unipet, cohort, tmp_path):
    path = "sub-0001/pet/sub-0001_rec-drf020_pet.nii.gz"
    _, volumes = stored_after(unipet, Exclusion(subject="sub-0001", path=path, reason="bad dose"), cohort, tmp_path)
    assert "drf004" in volumes
    assert "drf020" not in volumes


def test_an_excluded_mask_leaves_the_images(unipet, cohort, tmp_path):
    path = "sub-0001/pet/sub-0001_desc-lesions_mask.nii.gz"
    _, volumes = stored_after(unipet, Exclusion(subject="sub-0001", path=path, reason="bad mask"), cohort, tmp_path)
    assert "lesions" not in volumes
    assert {"full", "drf004", "drf020", "noise_free"} <= set(volumes)


def test_an_excluded_subject_is_left_out_and_named(unipet, cohort, tmp_path):
    said, volumes = stored_after(unipet, Exclusion(subject="sub-0001", reason="bad one"), cohort, tmp_path)
    assert volumes is None
    assert "left out, as the manifest excludes them: sub-0001" in said


def test_an_excluded_dose_is_not_its_references(unipet, cohort, tmp_path):
    exclusion = Exclusion(subject="sub-0001", dose_reduction_factor=4, reason="bad dose")
    _, volumes = stored_after(unipet, exclusion, cohort, tmp_path)
    assert "drf004" not in volumes
    assert {"full", "full_repeat", "noise_free", "drf020"} <= set(volumes)


def test_results_never_replace_what_they_were_made_from(refused, cohort, tmp_path):
    manifest = tmp_path / "m.json"
    shutil.copy(cohort / "manifest.yaml", manifest)
    assert "no earlier result" in refused("manifest", "datalist", manifest, cohort, manifest)
    sidecar = tmp_path / "scan.json"
    sidecar.write_text('{"Units": "g/mL"}')
    assert "no earlier result" in refused("manifest", "datalist", manifest, cohort, sidecar)
    assert ".yaml" in refused("manifest", "build", "simulated", cohort, sidecar)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("subjects:\n", "subjects: []\nsubjects:\n", "'subjects' stands twice"),
        ("title: ", "title: 2026-99-99 #", "month must be in 1..12"),
        ("sub-0001/pet/sub-0001_rec-full_pet", "../sub-0001_rec-full_pet", "leaves the root"),
    ],
)
def test_a_broken_manifest_ends_in_one_line(refused, old, new, said, cohort, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text((cohort / "manifest.yaml").read_text().replace(old, new, 1))
    assert said in refused("manifest", "check", path, cohort)


def test_a_copy_in_another_split_is_a_leak_by_its_content(refused, cohort, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(cohort, root)
    for suffix in (".nii.gz", ".json"):
        source = root / "sub-0001" / "pet" / f"sub-0001_rec-full_pet{suffix}"
        shutil.copy(source, root / "sub-0002" / "pet" / f"sub-0002_rec-full_pet{suffix}")
    manifest = Manifest.from_file(root / "manifest.yaml")
    splits = ("train", "test")
    subjects = tuple(s.model_copy(update={"split": x}) for s, x in zip(manifest.subjects, splits, strict=True))
    path = manifest.model_copy(update={"subjects": subjects}).write(root / "manifest.yaml")
    assert "the same content as sub-0001" in refused("manifest", "check", path, root, "--level", "voxels")


def test_a_path_has_one_spelling():
    assert Image(path="./a//b/./c.nii.gz").path == "a/b/c.nii.gz"


def test_a_truncated_subject_does_not_count_as_finished(tiny_cohort, tmp_path):
    folder = tmp_path / "sub-0001"
    shutil.copytree(tiny_cohort[0], folder)
    request = json.loads((folder / "pet" / "sub-0001_simulation.json").read_text())["request"]
    assert is_complete(folder, request)
    image = folder / "pet" / "sub-0001_rec-drf004_pet.nii.gz"
    image.write_bytes(image.read_bytes()[:3000])
    with pytest.raises(PETError, match=r"has 3000 bytes, expected .*; remove the folder"):
        is_complete(folder, request)
