"""SIGKILL at any point of an adaptation: the same call goes on, and ends with the same bundle."""

import multiprocessing
import signal
from dataclasses import replace

import numpy as np
import pytest
from killed_adaptation import run


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_ten_places_it_goes_on_and_ends_with_the_same_bundle(site, settings, tmp_path):
    context = multiprocessing.get_context("spawn")
    fewer = [(key, 2) if key == "train#max_epochs" else (key, value) for key, value in settings.overrides]
    short = replace(settings, overrides=tuple(fewer))

    def ended(name: str, kill_at: int | None, queue=None) -> int | None:
        process = context.Process(target=run, args=(site, tmp_path / name, short, kill_at, queue))
        process.start()
        if queue is not None:
            n_points.append(queue.get(timeout=1800))
        process.join()
        return process.exitcode

    n_points: list[int] = []
    assert ended("whole", None, context.Queue()) == 0
    places = np.linspace(0, n_points[0] - 1, 10).astype(int) + np.random.default_rng(4).integers(-20, 20, 10)
    for place in np.clip(places, 0, n_points[0] - 1).tolist():
        name = f"killed-{place}"
        assert ended(name, place) == -signal.SIGKILL
        assert ended(name, None) == 0
        for file in ("adaptation.json", "models/model.pt", "adaptation.html", "docs/README.md"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), (place, file)
        assert not (tmp_path / f"{name}.work").exists()
