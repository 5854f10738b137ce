"""What the system says of its memory."""

import pytest

from pipeline import memory


def groups(root, monkeypatch, own):
    (root / "own").write_text(own)
    monkeypatch.setattr(memory, "_GROUPS", root)
    monkeypatch.setattr(memory, "_OWN_GROUPS", root / "own")


@pytest.mark.parametrize("limited", ["job/step", "job"])
@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_all_groups_that_a_process_is_in_count(tmp_path, monkeypatch, version, limited):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    groups(tmp_path, monkeypatch, "5:cpu:/x\n4:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    folder = tmp_path / ("memory" if version == 1 else "") / limited
    folder.mkdir(parents=True)
    names = ("limit_in_bytes", "usage_in_bytes") if version == 1 else ("max", "current")
    for name, content in zip((*names, "stat"), ("3000000", "1200000", "inactive_file 200000"), strict=True):
        (folder / f"memory.{name}").write_text(content)
    assert memory.free_memory() == 2_000_000


def test_available_memory_is_the_smaller_of_machine_and_container(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    groups(tmp_path, monkeypatch, "0::/\n")
    assert memory.free_memory() == 5000 * 1024
    for name, content in (("max", "3000000\n"), ("current", "1200000\n"), ("stat", "anon 1\ninactive_file 200000\n")):
        (tmp_path / f"memory.{name}").write_text(content)
    assert memory.free_memory() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() == 5000 * 1024


def test_unknown_memory_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    groups(tmp_path, monkeypatch, "0::/\n")
    assert memory.free_memory() is None
