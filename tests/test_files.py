"""A target is either complete or not there, whatever kind of place it is."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import naming
from pipeline.files import new_folder
from pipeline.pet import PETError


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
