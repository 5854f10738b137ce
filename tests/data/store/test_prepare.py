"""Preparing a store: what is right is kept, what is not is made anew, and a killed run goes on."""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import Manifest, NoiseInsertion, Store, prepare_store, prepared_store
from pipeline.data.manifest import Exclusion
from pipeline.images import numbered_lesions
from pipeline.images.liver import LiverNoise
from pipeline.pet import PETError


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def written(folder: Path) -> dict[str, int]:
    """When every volume below a folder was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.vol")}


def statuses(preparation) -> dict[str, str]:
    return {outcome.subject: outcome.status for outcome in preparation.outcomes}


@pytest.fixture
def prepared(make_scans, tmp_path):
    """Two subjects and their store, for a test to change."""
    scans = make_scans()
    store = tmp_path / "store"
    assert statuses(scans.prepare(store)) == {"s0": "new", "s1": "new"}
    return scans, store


def test_a_second_run_keeps_everything_and_reads_no_input(prepared, monkeypatch):
    scans, store = prepared
    before = tree(store), written(store)
    seen = []
    monkeypatch.setattr("pipeline.data.store.fingerprints.content_sha256", lambda path: pytest.fail(f"{path} was read"))
    preparation = scans.prepare(store, progress=lambda done, total: seen.append((done, total)))
    assert statuses(preparation) == {"s0": "kept", "s1": "kept"}
    assert str(preparation) == f"{store}: 2 subjects, 2 kept"
    assert seen == [(1, 2), (2, 2)]
    assert (tree(store), written(store)) == before


def test_a_changed_image_makes_its_subject_anew_and_no_other(prepared):
    scans, store = prepared
    before = written(store)
    scans.write("s1", "drf004", scans.truth["s1", "drf004"] * 2)
    assert statuses(scans.prepare(store)) == {"s0": "kept", "s1": "changed"}
    after = written(store)
    assert {name for name in after if after[name] != before[name]} == {n for n in before if "/s1/" in n}
    np.testing.assert_array_equal(Store(store).volume("s1", "drf004")[...], scans.truth["s1", "drf004"])


def test_a_changed_sidecar_changes_suv(prepared):
    scans, store = prepared
    sidecar = scans.file("s0", "full").with_suffix("").with_suffix(".json")
    content = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**content, "BodyWeight": 71.0}))
    assert statuses(scans.prepare(store)) == {"s0": "changed", "s1": "kept"}
    assert Store(store).series("s0").header.patient_weight == 71


def test_an_input_that_was_only_touched_is_no_change(prepared):
    scans, store = prepared
    before = written(store)
    os.utime(scans.file("s0", "full"), (1, 1))
    assert statuses(scans.prepare(store)) == {"s0": "kept", "s1": "kept"}
    assert written(store) == before


def test_rehash_finds_a_change_that_size_and_time_hide(prepared):
    scans, store = prepared
    path = scans.file("s0", "full").with_suffix("").with_suffix(".json")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    text = path.read_text()
    path.write_text(text.replace('"g/mL"', '"g/ml"'))
    os.utime(path, ns=times)
    assert len(text) == path.stat().st_size
    assert text != path.read_text()
    assert statuses(scans.prepare(store))["s0"] == "kept"
    assert statuses(scans.prepare(store, rehash=True))["s0"] == "changed"


def test_another_split_is_taken_over_without_touching_volumes(prepared):
    scans, store = prepared
    before = written(store)
    moved = scans.manifest.subjects[0].model_copy(update={"split": "test"})
    scans.manifest = scans.manifest.model_copy(update={"subjects": (moved, scans.manifest.subjects[1])})
    assert statuses(scans.prepare(store))["s0"] == "kept"
    assert [s.id for s in Store(store).of_split("test")] == ["s0"]
    assert written(store) == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def swap(path: Path) -> None:
    shutil.copy(path.with_name("drf004.vol"), path)


@pytest.mark.parametrize("harm", [flip, swap, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["full.vol", "lesions.vol", "subject.json"])
def test_damage_is_repaired(prepared, harm, name):
    scans, store = prepared
    before = tree(store)
    path = store / "subjects" / "s1" / name
    harm(path)
    preparation = scans.prepare(store)
    assert statuses(preparation) == {"s0": "kept", "s1": "repaired"}
    assert str(path) in preparation.of_status("repaired")[0].reason
    assert tree(store) == before


def test_damage_is_noticed_when_it_is_read(prepared):
    _, store = prepared
    path = store / "subjects" / "s1" / "full.vol"
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    with pytest.raises(PETError, match=r"full\.vol: chunk 0 .* run `unipet prepare` again"):
        Store(store).volume("s1", "full")[...]


def test_a_bad_subject_stops_no_other_and_keeps_what_it_had(prepared, tmp_path):
    scans, store = prepared
    before = tree(store)
    scans.file("s0", "drf020").write_bytes(b"no image")
    preparation = scans.prepare(store)
    assert statuses(preparation) == {"s0": "failed", "s1": "kept"}
    assert "drf020.nii.gz: not a readable NIfTI" in preparation.of_status("failed")[0].reason
    assert "\n" not in preparation.of_status("failed")[0].reason
    assert tree(store) == before
    assert statuses(scans.prepare(tmp_path / "other")) == {"s0": "failed", "s1": "new"}
    assert list(Store(tmp_path / "other").subjects) == ["s1"]


def test_an_error_nobody_thought_of_stops_no_other(make_scans, tmp_path, monkeypatch):
    def fail_once(*arguments, calls=[]):  # noqa: B006
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError("odd")
        return numbered_lesions(*arguments)

    monkeypatch.setattr("pipeline.data.store.prepare.numbered_lesions", fail_once)
    preparation = make_scans().prepare(tmp_path / "store")
    assert statuses(preparation) == {"s0": "failed", "s1": "new"}
    assert preparation.outcomes[0].reason == "ZeroDivisionError: odd"


def test_content_must_be_what_the_manifest_says(make_scans, tmp_path):
    scans = make_scans()
    first, second = scans.manifest.subjects
    images = (first.images[0].model_copy(update={"sha256": "0" * 64}), *first.images[1:])
    scans.manifest = scans.manifest.model_copy(
        update={"subjects": (first.model_copy(update={"images": images}), second)}
    )
    preparation = scans.prepare(tmp_path / "store")
    assert statuses(preparation) == {"s0": "failed", "s1": "new"}
    assert "expected 000000000000... as in the manifest" in preparation.outcomes[0].reason


def test_images_on_different_grids_are_refused(make_scans, tmp_path):
    scans = make_scans()
    scans.write("s0", "drf004", scans.truth["s0", "drf004"][:, :, :-1])
    assert "lies on another grid" in scans.prepare(tmp_path / "store").outcomes[0].reason


def test_subjects_that_left_the_manifest_go_when_asked(prepared):
    scans, store = prepared
    scans.manifest = scans.manifest.model_copy(update={"subjects": scans.manifest.subjects[:1]})
    preparation = scans.prepare(store)
    assert preparation.stale == ("s1",)
    assert "left in the store: s1" in str(preparation)
    assert list(Store(store).subjects) == ["s0", "s1"]
    preparation = scans.prepare(store, prune=True)
    assert (preparation.stale, preparation.removed) == ((), ("s1",))
    assert [folder.name for folder in (store / "subjects").iterdir()] == ["s0"]


def test_training_reads_what_the_manifest_has_and_not_what_an_earlier_one_left(prepared, tmp_path):
    scans, store = prepared
    only = scans.manifest.model_copy(update={"subjects": scans.manifest.subjects[1:]}).write(tmp_path / "only.yaml")
    assert list(prepared_store(only, store, root=scans.root).subjects) == ["s1"]
    exclusion = Exclusion(subject="s0", reason="moved")
    both = scans.manifest.model_copy(update={"exclusions": (exclusion,)}).write(tmp_path / "both.yaml")
    assert list(prepared_store(both, store, root=scans.root).subjects) == ["s1"]
    assert list(Store(store).subjects) == ["s0", "s1"]


def test_what_is_excluded_is_left_out(make_scans, tmp_path):
    scans = make_scans()
    exclusions = (
        Exclusion(subject="s0", dose_reduction_factor=20, reason="moved"),
        Exclusion(subject="s1", reason="mislabelled tracer"),
    )
    scans.manifest = scans.manifest.model_copy(update={"exclusions": exclusions})
    assert statuses(scans.prepare(tmp_path / "store")) == {"s0": "new"}
    assert Store(tmp_path / "store").subject("s0").doses == {1.0: "full", 4.0: "drf004"}


def test_lesions_of_a_mask_get_numbers(store_folder):
    lesions = Store(store_folder).volume("s0", "lesions")[...]
    assert lesions[12, 18, 10] != lesions[28, 20, 34]
    assert sorted(np.unique(lesions)) == [0, 1, 2]


def test_refusals(scans, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(PETError, match=r"notes: holds something and no store\.json"):
        scans.prepare(tmp_path / "notes")
    with pytest.raises(PETError, match="jobs 0"):
        scans.prepare(tmp_path / "store", jobs=0)
    with pytest.raises(PETError, match="no such folder"):
        prepare_store(scans.manifest, tmp_path / "store", root=tmp_path / "nowhere")
    with pytest.raises(PETError, match="has no subjects"):
        prepare_store(scans.manifest.model_copy(update={"subjects": ()}), tmp_path / "store", root=tmp_path)


def test_of_two_runs_at_once_the_second_waits(prepared, caplog):
    scans, store = prepared
    with (store / ".lock").open("w") as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = pool.submit(scans.prepare, store)
        while "another run is preparing it, waiting for it" not in caplog.text:
            assert not second.done()
            time.sleep(0.01)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert set(statuses(second.result()).values()) == {"kept"}


def test_more_processes_give_the_same_bytes(scans, store_folder, tmp_path):
    assert statuses(scans.prepare(tmp_path / "store", jobs=2)) == {"s0": "new", "s1": "new", "s2": "new"}
    assert tree(tmp_path / "store") == tree(store_folder)


def kill_at_event(scans, store: Path, n: int) -> bool:
    """Prepare in a process that kills itself before the n-th thing it does to the store; whether it was killed."""
    child = os.fork()
    if child == 0:
        left = n

        def watch(event: str, arguments: tuple) -> None:
            nonlocal left
            if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"} and str(store) in str(arguments[0]):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            scans.prepare(store)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_run_that_was_killed_anywhere_goes_on(prepared, tmp_path):
    scans, finished = prepared
    expected = tree(finished)
    n_killed = 0
    for event in range(1, 200, 5):
        store = tmp_path / f"killed_{event}"
        if not kill_at_event(scans, store, event):
            break
        n_killed += 1
        scans.prepare(store)
        assert tree(store) == expected, f"killed before event {event}"
    assert n_killed >= 10


def test_a_repair_that_was_killed_anywhere_goes_on(prepared, tmp_path):
    scans, finished = prepared
    expected = tree(finished)
    n_killed = 0
    for event in range(1, 200, 5):
        store = tmp_path / f"killed_{event}"
        shutil.copytree(finished, store)
        flip(store / "subjects" / "s0" / "drf020.vol")
        if not kill_at_event(scans, store, event):
            break
        n_killed += 1
        scans.prepare(store)
        assert tree(store) == expected, f"killed before event {event}"
    assert n_killed >= 5


def test_twenty_kills_at_random_times_leave_the_bytes_of_an_uninterrupted_run(make_scans, tmp_path):
    scans = make_scans(6)
    began = time.monotonic()
    scans.prepare(tmp_path / "whole")
    duration = time.monotonic() - began
    expected = tree(tmp_path / "whole")
    store, moments = tmp_path / "killed", random.Random(1)
    n_killed = n_tries = 0
    while n_killed < 20:
        n_tries += 1
        assert n_tries < 200
        child = os.fork()
        if child == 0:
            try:
                scans.prepare(store)
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        n_killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if n_tries % 3 == 0:  # now and then begin anew, so that not only the last subject is hit
            scans.prepare(store)
            assert tree(store) == expected
            shutil.rmtree(store)
    scans.prepare(store)
    assert tree(store) == expected


RUN = """
import sys
from pipeline.data import Manifest, prepare_store
if __name__ == "__main__":
    print("ready", flush=True)
    prepare_store(Manifest.from_file(sys.argv[1]), sys.argv[2], root=sys.argv[3], jobs=2)
"""


@pytest.mark.slow
def test_kills_of_several_processes_leave_the_bytes_of_an_uninterrupted_run(make_scans, tmp_path):
    scans = make_scans(12)
    scans.manifest.write(tmp_path / "manifest.yaml")
    (tmp_path / "run.py").write_text(RUN)
    scans.prepare(tmp_path / "whole")
    store = tmp_path / "killed"
    for n_subjects in (1, 5, 9):
        command = [sys.executable, tmp_path / "run.py", tmp_path / "manifest.yaml", store, scans.root]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            while process.poll() is None and len(list(store.glob("subjects/s*"))) < n_subjects:
                time.sleep(0.005)
            process.kill()
        assert len(list(store.glob("subjects/s*"))) >= n_subjects
    # Workers notice the end of their parent at once, but not before the system tells them.
    time.sleep(1)
    scans.prepare(store)
    assert tree(store) == tree(tmp_path / "whole")


@pytest.fixture
def half_paired(make_scans, monkeypatch, body):
    """Scans of which the second has a full dose only, and a liver where there is none."""
    scans = make_scans()
    first, second = scans.manifest.subjects
    alone = second.model_copy(update={"images": (second.full_dose,)})
    scans.manifest = scans.manifest.model_copy(update={"subjects": (first, alone)})
    liver = LiverNoise(center=(0, 0, 0), suv_mean=1, cov=0.1, noise_cov=0.1, region=body == 1)
    monkeypatch.setattr("pipeline.data.store.inserted_doses.measured_liver_cov", lambda series: liver)
    return scans


def test_noise_is_inserted_where_low_doses_lack(half_paired, body, tmp_path):
    insertion = NoiseInsertion(dose_reduction_factors=(4, 7.5))
    assert statuses(half_paired.prepare(tmp_path / "store", insertion=insertion)) == {"s0": "new", "s1": "new"}
    store = Store(tmp_path / "store")
    assert store.subject("s0").doses == {1.0: "full", 4.0: "drf004", 20.0: "drf020"}
    assert store.subject("s1").doses == {1.0: "full", 4.0: "drf004", 7.5: "drf007p5"}
    assert [store.subject(s).volumes["drf004"].noise_inserted for s in ("s0", "s1")] == [False, True]
    assert "Noise inserted for a dose reduction factor of 7.5" in store.series("s1", "drf007p5").provenance[-1]
    full, low, lower = (store.volume("s1", name)[...] for name in ("full", "drf004", "drf007p5"))
    liver = body == 1
    ratio = np.var((lower - full)[liver]) / np.var((low - full)[liver])
    assert ratio == pytest.approx(6.5 / 3, rel=0.25)  # (7.5 - 1) v against (4 - 1) v
    again = statuses(half_paired.prepare(tmp_path / "store", insertion=insertion))
    assert again == {"s0": "kept", "s1": "kept"}
    other = NoiseInsertion(dose_reduction_factors=(4, 7.5), seed=1)
    assert statuses(half_paired.prepare(tmp_path / "store", insertion=other)) == {"s0": "kept", "s1": "changed"}
    assert not np.array_equal(Store(tmp_path / "store").volume("s1", "drf004")[...], low)


def test_inserted_noise_follows_from_seed_and_subject_alone(half_paired, tmp_path):
    insertion = NoiseInsertion(dose_reduction_factors=(4,))
    half_paired.prepare(tmp_path / "both", insertion=insertion)
    half_paired.manifest = half_paired.manifest.model_copy(update={"subjects": half_paired.manifest.subjects[1:]})
    half_paired.prepare(tmp_path / "one", insertion=insertion)
    assert tree(tmp_path / "one" / "subjects" / "s1") == tree(tmp_path / "both" / "subjects" / "s1")


def test_a_scan_without_a_liver_fails_alone(make_scans, tmp_path):
    scans = make_scans()
    first, second = scans.manifest.subjects
    alone = second.model_copy(update={"images": (second.full_dose,)})
    scans.manifest = scans.manifest.model_copy(update={"subjects": (first, alone)})
    preparation = scans.prepare(tmp_path / "store", insertion=NoiseInsertion(dose_reduction_factors=(4,)))
    assert statuses(preparation) == {"s0": "new", "s1": "failed"}
    assert "liver" in preparation.of_status("failed")[0].reason


@pytest.fixture
def old_store(tmp_path):
    """A store of version 0.2.0 with the scans that it was made from."""
    folder = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "version_0_2_0", folder)
    return folder


def test_a_store_of_an_earlier_format_is_refused_by_name_and_left_alone(old_store):
    store, manifest = old_store / "store", Manifest.from_file(old_store / "manifest.yaml")
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with pytest.raises(PETError, match="store: has format 1, expected 2; prepare it again in another folder"):
        Store(store)
    with pytest.raises(PETError, match="has format 1, expected 2"):
        prepare_store(manifest, store, root=old_store)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert statuses(prepare_store(manifest, old_store / "another", root=old_store)) == {"s0": "new"}
    assert Store(old_store / "another").subject("s0").doses == {1.0: "full", 4.0: "drf004"}


def test_another_reading_of_the_same_files_makes_every_subject_anew(prepared, monkeypatch):
    scans, store = prepared
    monkeypatch.setattr("pipeline.data.store.store.READING_VERSION", 10**6)
    with pytest.raises(PETError, match=r"s0: was read by an earlier version \(reading .*run `unipet prepare` again"):
        Store(store)
    assert statuses(scans.prepare(store)) == {"s0": "changed", "s1": "changed"}
