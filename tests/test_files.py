"""A target is either complete or not there, whatever kind of place it is."""

import errno
import gzip
import os
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline.errors import PETError, naming
from pipeline.files import (
    added_files,
    image_stream,
    locked_folder,
    new_folder,
    read_yaml,
    replaced_file,
    sha256_of,
    write_json,
    write_text,
)


def fill(target) -> None:
    with new_folder(target) as folder:
        (folder / "file").write_text("content")
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("content")


def fill_half(target) -> None:
    with new_folder(target) as folder:
        (folder / "file").write_text("half")
        raise PETError(f"{folder / 'file'}: broken")


def assert_complete(folder) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["file", "sub"]
    assert (folder / "sub" / "file").read_text() == "content"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path, exists):
    real, link = tmp_path / "real", tmp_path / "link"
    if exists:
        real.mkdir()
    link.symlink_to(real)
    fill(link)
    assert link.is_symlink()
    assert_complete(real)


def test_the_working_directory_can_be_filled(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fill(tmp_path / "here")
    assert_complete(Path.cwd())


def test_a_mount_point_can_be_filled(tmp_path, monkeypatch):
    target = tmp_path / "mounted"
    target.mkdir()
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path == target)
    inode = target.stat().st_ino
    fill(target)
    assert target.stat().st_ino == inode
    assert_complete(target)


@pytest.mark.parametrize("name", ["new", "."])
def test_errors_name_the_target_and_leave_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PETError, match=r"^(new|\.)/file: broken$"):
        fill_half(Path(name))
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_many_lines_becomes_one():
    with pytest.raises(PETError) as caught, naming("here"):
        raise OSError("With tag (7FE0,0010) got exception: no space\nTraceback (most recent call last):\n  File")
    assert str(caught.value) == "here: With tag (7FE0,0010) got exception: no space"
    with pytest.raises(PETError, match="here: No space left on device"), naming("here"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk(monkeypatch) -> None:
    """Let every file take nothing, as a disk that is full: the error of the system names no file."""

    def refuse(*_args: object, **_keywords: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)


@pytest.mark.parametrize("parent", [None, "new"])
def test_a_full_disk_is_reported_with_the_name_of_the_target(tmp_path, monkeypatch, parent):
    full_disk(monkeypatch)
    monkeypatch.chdir(tmp_path)
    place = nullcontext(Path()) if parent is None else new_folder(Path(parent))
    with pytest.raises(PETError) as caught, place as folder:
        write_text(folder / "table.tsv", "x")
    assert str(caught.value) == f"{Path(parent or '') / 'table.tsv'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_no_error_names_what_is_half_written(tmp_path):
    with pytest.raises(PETError) as caught, replaced_file(tmp_path / "a.json") as temporary:
        raise PETError(f"{temporary}: cannot be read back")
    assert str(caught.value) == f"{tmp_path / 'a.json'}: cannot be read back"
    with pytest.raises(PETError) as caught, new_folder(tmp_path / "a") as folder:
        (folder / "missing").read_text()
    assert str(caught.value) == f"{tmp_path / 'a' / 'missing'}: No such file or directory"


def test_everything_in_a_new_folder_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    fill(tmp_path / "new")
    everything = [tmp_path / "new", *(tmp_path / "new").rglob("*"), tmp_path]
    assert {path.stat().st_ino for path in everything} <= set(synced)


def test_a_file_of_a_new_folder_reaches_the_disk_once(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    with new_folder(tmp_path / "new") as folder:
        (folder / "deep").mkdir()
        for place in (folder, folder / "deep"):
            write_text(place / "table.tsv", "x")
        assert not synced
    assert sorted(synced) == sorted(path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*")))


def test_folders_are_not_synced_where_the_system_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.files.FOLDERS_CAN_BE_SYNCED", False)
    modes = []
    monkeypatch.setattr("os.fsync", lambda descriptor: modes.append(os.fstat(descriptor).st_mode))
    fill(tmp_path / "new")
    assert modes
    assert not any(map(stat.S_ISDIR, modes))


def test_the_umask_holds_and_is_never_touched(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        monkeypatch.setattr("os.umask", lambda mask: pytest.fail("for a moment every file of the process is public"))
        fill(tmp_path / "new")
        with replaced_file(tmp_path / "file") as temporary:
            temporary.write_text("x")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_one_process_at_a_time_has_a_folder(tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline.files import locked_folder\n"
        "lock = locked_folder(Path(sys.argv[1]), 'working there'); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(PETError, match=f"{tmp_path}: another run is working there, expected one at a time"):
            locked_folder(tmp_path, "working there")
        other.kill()
    with locked_folder(tmp_path, "working there"):
        pass


def test_a_process_that_reads_ahead_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    program = (
        "import os, sys, time; from pathlib import Path; from pipeline.files import locked_folder\n"
        "lock = locked_folder(Path(sys.argv[1]), 'working there')\n"
        "if os.fork() == 0: print('reading ahead', flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as other:
        try:
            assert other.stdout.readline() == "reading ahead\n"
            other.kill()
            other.wait()
            with locked_folder(tmp_path, "working there"):
                pass
        finally:
            os.killpg(other.pid, signal.SIGKILL)


def test_the_digest_of_a_file_is_what_sha256sum_prints(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    seen: list[int] = []
    assert sha256_of(tmp_path / "abc", progress=seen.append) == expected
    assert seen == [3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "key 'a' stands twice"),
        ("a: [", "not YAML"),
        ("[" * 50_000 + "]" * 50_000, "nested deeper than 100"),
        ("- " * 50_000 + "a", "nested deeper than 100"),
        ("a: 2026-02-31\n", "not YAML"),
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(PETError, match=message) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_small_files_are_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Müller", "value": 0.5})
    assert (tmp_path / "a.json").read_bytes().decode() == '{\n  "name": "Müller",\n  "value": 0.5\n}\n'
    with pytest.raises(PETError, match=r"a\.json: holds text that UTF-8 cannot hold"):
        write_json(tmp_path / "a.json", {"name": "\ud800"})
    write_text(tmp_path / "b.txt", "a\nb")
    assert (tmp_path / "b.txt").read_bytes() == b"a\nb"
    assert "Müller" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_compressed_file_tells_neither_name_nor_time(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        with image_stream(tmp_path / name) as stream:
            stream.write(b"voxels")
    with image_stream(tmp_path / "c.nii") as stream:
        stream.write(b"voxels")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == (tmp_path / "c.nii").read_bytes() == b"voxels"


def test_a_folder_takes_the_place_of_another_when_it_is_complete(tmp_path):
    target, work = tmp_path / "result", tmp_path / "work"
    work.mkdir()
    fill(target)
    with pytest.raises(PETError, match="exists and is not an empty folder"), new_folder(target, within=work):
        pass
    with pytest.raises(PETError, match="half: No such file"), new_folder(target, within=work, replaces=True) as folder:
        (folder / "half").read_text()
    assert (target / "file").exists()
    assert list(work.iterdir()) == []
    with new_folder(target, within=work, replaces=True) as folder:
        (folder / "whole").write_text("x")
        assert (target / "file").exists()
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert list(work.iterdir()) == []


def test_a_folder_is_put_back_if_another_cannot_take_its_place(tmp_path, monkeypatch):
    fill(tmp_path / "result")
    replace = Path.replace

    def fails(path, place):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(PETError, match="result: Input/output error"), new_folder(tmp_path / "result", replaces=True):
        pass
    monkeypatch.setattr(Path, "replace", replace)
    assert (tmp_path / "result" / "file").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_files_are_added_to_those_that_are_there_or_none_is(tmp_path, monkeypatch):
    target = tmp_path / "sub-01" / "pet"
    target.mkdir(parents=True)
    (target / "old.txt").write_text("old")

    def add(*names, replacing=()):
        with added_files(target, within=tmp_path, first="z_run.json", replacing=replacing) as temporary:
            (temporary / "folder").mkdir()
            for name in names:
                (temporary / "folder" / name).write_text("new")
                (temporary / name).write_text("new")

    moved = []
    rename = Path.rename

    def fails_at_last(path, place):
        moved.append(path.name)
        if path.name == "folder":
            raise OSError(28, "No space left on device")
        return rename(path, place)

    monkeypatch.setattr(Path, "rename", fails_at_last)
    with pytest.raises(PETError, match=r"sub-01/pet.*: No space left on device$"):
        add("z_run.json", "b.txt")
    assert moved == ["z_run.json", "b.txt", "folder"]
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    monkeypatch.undo()
    with pytest.raises(PETError, match=r"sub-01/pet/old\.txt: exists already"):
        add("z_run.json", "old.txt")
    assert (target / "old.txt").read_text() == "old"
    add("z_run.json", "b.txt")
    assert sorted(path.name for path in target.iterdir()) == ["b.txt", "folder", "old.txt", "z_run.json"]
    add("z_run.json", "c.txt", replacing=["z_run.json", "b.txt", "folder", "gone.txt"])
    assert sorted(path.name for path in target.iterdir()) == ["c.txt", "folder", "old.txt", "z_run.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["sub-01"]
