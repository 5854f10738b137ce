"""`unipet benchmark`: measured, stored, resumed after a kill, reported; mistakes in one line."""

import base64
import json
import os
import shutil

import pandas as pd
import pytest
import yaml

from pipeline.data import build_manifest
from tests.described_tables import check_dictionaries

UNTRAINED = """
method: small
network_def: {_target_: pipeline.networks.BaseDenoisingNetwork, channels: 4, n_blocks: 1}
weights: null
suv_scale: 2.0
inferer: {_target_: SimpleInferer}
"""


@pytest.fixture(scope="module")
def data(tiny_cohort, tmp_path_factory):
    """Folder with a manifest of one subject to test on and one to tune on, a method's file, and a definition."""
    folder = tmp_path_factory.mktemp("benchmark")
    for subject in tiny_cohort:
        shutil.copytree(subject, folder / subject.name)
    found = build_manifest("simulated", folder)
    splits = zip(found.subjects, ("test", "validation"), strict=True)
    subjects = tuple(subject.model_copy(update={"split": split}) for subject, split in splits)
    found.model_copy(update={"subjects": subjects}).write(folder / "m.yaml")
    (folder / "small.yaml").write_text(UNTRAINED)
    definition = {
        "title": "Tiny & <small>",
        "limits": ["It is tiny."],
        "reference": "small",
        "filters": ["gaussian"],
        "tuning": [{"manifest": "m.yaml", "split": "validation"}],
        "methods": {
            "small": {"method": "small.yaml", "weights": "none", "group": "Networks"},
            "unet": {"seeds": 2, "group": "Networks"},
            "identity": {"weights": "none"},
        },
        "images": {"held_out": {"manifest": "m.yaml"}},
        "samples": {"dose_reduction_factor": 20},
        "cost": False,
    }
    (folder / "definition.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def benchmark(unipet, data):
    def run(output, *arguments, definition=None):
        return unipet(
            "benchmark", definition or data / "definition.yaml", "--root", data, "--output", output, *arguments
        )

    return run


@pytest.fixture(scope="module")
def measured(benchmark, tmp_path_factory):
    """The output of a whole run, and what it said."""
    output = tmp_path_factory.mktemp("out") / "benchmark"
    done = benchmark(output)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_a_run_stores_results_and_reports(measured, data):
    output, said = measured
    assert "unet: left out, no folder of weights was named" in said
    stored = {str(path.relative_to(output / "results")) for path in (output / "results").rglob("*.json")}
    names = ("input", "gaussian", "small", "identity")
    assert stored == {f"{part}/{name}.json" for part in ("images", "samples") for name in names}
    table = pd.read_csv(output / "table.tsv", sep="\t").set_index("name")
    rows = pd.read_csv(output / "images_scans.tsv", sep="\t")
    mean = rows.groupby(["method", "dose_reduction_factor"])["psnr_noise_free"].mean().unstack().mean(axis=1)
    assert table["psnr_noise_free"].to_dict() == pytest.approx(mean.to_dict(), abs=1e-3)
    # An untrained body is the identity.
    assert table.loc["small", "psnr_full"] == table.loc["identity", "psnr_full"] == table.loc["input", "psnr_full"]
    assert table.loc["gaussian", "psnr_noise_free"] > table.loc["input", "psnr_noise_free"]


def test_the_page_is_whole_and_text_is_escaped(measured):
    page = (measured[0] / "benchmark.html").read_text(encoding="utf-8")
    assert "Tiny &amp; &lt;small&gt;" in page
    assert "It is tiny." in page
    assert "<script" not in page
    assert 'src="http' not in page
    for title in ("PSNR against noise-free, minus small", "One scan by every method, coronal plane", "The claims"):
        assert title in page
    png = (measured[0] / "figures/psnr_noise_free.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert base64.b64encode(png).decode() in page
    markdown = (measured[0] / "benchmark.md").read_text(encoding="utf-8")
    assert markdown.startswith("# Tiny & <small>\n\n2 networks and 1 filter on 1 held-out subject;")


def test_a_second_run_measures_nothing_and_gives_the_same(measured, benchmark, monkeypatch):
    output, _ = measured
    before = {path: path.read_bytes() for path in output.rglob("*.tsv")}
    monkeypatch.setattr("pipeline.comparison.measure.figures_of_scan", lambda *a: pytest.fail("measured again"))
    monkeypatch.setattr("pipeline.benchmark.parts.images._sample", lambda *a: pytest.fail("shown again"))
    done = benchmark(output)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in output.rglob("*.tsv")} == before


def test_what_was_kept_of_other_files_is_made_anew(benchmark, data, tmp_path, monkeypatch):
    from pipeline.benchmark.parts import images

    made, whole = [], images._sample
    monkeypatch.setattr(images, "_sample", lambda *arguments: (made.append(1), whole(*arguments))[1])
    scan = next((data / "sub-0001").rglob("*drf020_pet.nii.gz"))
    times = scan.stat().st_atime_ns, scan.stat().st_mtime_ns
    numbers = []
    for later in (0, 0, 10**9, 0):
        os.utime(scan, ns=(times[0], times[1] + later))
        assert benchmark(tmp_path / "out", "--part", "samples", "--method", "input").returncode == 0
        numbers.append(len(made))
    assert numbers == [1, 1, 2, 2]


def test_a_killed_run_goes_on_where_it_was(benchmark, measured, tmp_path, monkeypatch):
    from pipeline.comparison import measure

    whole, calls = measure.figures_of_scan, []

    def killed(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return whole(*arguments)

    monkeypatch.setattr(measure, "figures_of_scan", killed)
    only = ("--part", "images", "--method", "identity", "--method", "small", "--method", "input")
    assert benchmark(tmp_path / "out", *only).returncode == 130
    calls.clear()
    monkeypatch.setattr(measure, "figures_of_scan", lambda *arguments: (calls.append(1), whole(*arguments))[1])
    assert benchmark(tmp_path / "out", *only).returncode == 0
    assert len(calls) == 4  # of six scans; the first method's two were kept
    found = json.loads((tmp_path / "out/results/images/identity.json").read_text())["tables"]
    assert found == json.loads((measured[0] / "results/images/identity.json").read_text())["tables"]


def test_tables_and_page_of_stored_results_alone(measured, benchmark, tmp_path, monkeypatch):
    shutil.copytree(measured[0] / "results", tmp_path / "out" / "results")
    monkeypatch.setattr("pipeline.benchmark.run.measure_benchmark", lambda *a, **k: pytest.fail("measured"))
    assert benchmark(tmp_path / "out", "--report-only").returncode == 0
    check_dictionaries(tmp_path / "out", n_tables=len(list(measured[0].glob("*.tsv"))))
    for name in ("benchmark.md", "table.tsv", "images_lesions.tsv"):
        assert (tmp_path / "out" / name).read_bytes() == (measured[0] / name).read_bytes()


def test_results_of_another_definition_are_left_out(measured, benchmark, data, tmp_path):
    shutil.copytree(measured[0] / "results", tmp_path / "out" / "results")
    (tmp_path / "out" / "results" / "images" / "gaussian.json").unlink()
    (tmp_path / "out" / "results" / "images" / "input.json").unlink()
    content = yaml.safe_load((data / "definition.yaml").read_text())
    path = data / "of_identity.yaml"
    changes = {"methods": {"identity": {"weights": "none"}}, "reference": "identity", "filters": []}
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    assert benchmark(tmp_path / "out", "--report-only", definition=path).returncode == 0
    assert set(pd.read_csv(tmp_path / "out" / "images_scans.tsv", sep="\t")["method"]) == {"identity"}
    shutil.rmtree(tmp_path / "out" / "results" / "samples")
    (tmp_path / "out" / "results" / "images" / "identity.json").unlink()
    nothing = benchmark(tmp_path / "out", "--report-only", definition=path)
    assert "has no result of a method of this benchmark" in nothing.stderr


def test_weights_of_a_seed_are_found_and_the_other_is_left_out(benchmark, data, tmp_path):
    import torch

    from pipeline.networks import BaseDenoisingNetwork

    (tmp_path / "runs" / "unet_seed1").mkdir(parents=True)
    torch.save(BaseDenoisingNetwork(4, 1).state_dict(), tmp_path / "runs" / "unet_seed1" / "model.pt")
    (tmp_path / "runs" / "unet_seed1" / "progress.tsv").write_text("train\t1\t1800.0\tloss\t0.5\n")
    (tmp_path / "runs" / "unet_seed1" / "config.yaml").write_text("n_patches: 400\nseed: 1\nbatch_size: 4\n")
    content = yaml.safe_load((data / "definition.yaml").read_text())
    content["methods"]["unet"]["method"] = "small.yaml"
    path = data / "with_weights.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    done = benchmark(tmp_path / "out", "--weights", tmp_path / "runs", "--part", "images", definition=path)
    assert done.returncode == 0, done.stderr
    assert "unet is left out: " in done.stdout
    assert "unet/model.pt does not exist" in " ".join(done.stdout.split())
    row = json.loads((tmp_path / "out/results/images/unet_seed1.json").read_text())["row"]
    assert row["facts"]["training"] == {"epochs": 1, "hours": 0.5, "n_patches": 400, "seed": 1, "batch_size": 4}
    assert "| unet, seed 1 |" in (tmp_path / "out/benchmark.md").read_text()


def test_a_manifest_alone_is_measured_where_its_subjects_lie(unipet, data, tmp_path):
    """No definition, no root: methods without weights are named, the middle dose is shown."""
    asked = ("--method", "input", "--method", "gaussian", "--part", "images", "--part", "samples")
    done = unipet("benchmark", data / "m.yaml", "--output", tmp_path / "out", *asked)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"benchmark.html", "table.tsv", "images_scans.tsv"}
    assert not (tmp_path / "out" / "data").exists()
    shown = json.loads((tmp_path / "out/results/samples/input.json").read_text())["tables"]["samples"]
    assert {row[shown["columns"].index("dose_reduction_factor")] for row in shown["rows"]} == {20}
    assert set(pd.read_csv(tmp_path / "out" / "table.tsv", sep="\t")["name"]) == {"input", "gaussian"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "vnet"), "method 'vnet' is not in the benchmark, expected one of input, gaussian, small"),
        (("--part", "speed"), "part 'speed' is not known, expected one of images, unseen"),
        (("--part", "phantom"), "part 'phantom' has no data in this benchmark, expected one of images, samples"),
        (("--method", "unet"), "unet is left out: no folder of weights was named, expected the weights of a method"),
        (("--method", "unet", "--weights", "."), "unet/model.pt does not exist, expected the weights"),
        (("--weights", "nowhere"), "nowhere: is no folder, expected that of the trainings"),
        (("--report-only",), "has no results, expected some in"),
        (("--device", "abacus"), "device 'abacus' cannot be used"),
        (("--bundle", "nowhere"), "nowhere: not a bundle"),
        (("--method", "input", "--part", "samples", "--output", "/proc/x"), "/proc/x"),
    ],
)
def test_mistakes_end_in_one_line(benchmark, tmp_path, arguments, said):
    done = benchmark(tmp_path / "out", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tuning": []}, "filter gaussian has no subjects to be tuned on"),
        ({"tuning": [{"manifest": "m.yaml"}]}, "expected other subjects to measure and to tune on"),
        ({"samples": {"dose_reduction_factor": 7}, "filters": []}, "has no scan of DRF 7, expected it for the samples"),
        ({"samples": {"dose_reduction_factor": 4, "subject": 9}, "filters": []}, "subject 9 was asked for"),
        ({"methods": {"small": {"method": "nowhere.yaml", "weights": "none"}}, "filters": []}, "nowhere.yaml"),
        (
            {"images": {"held_out": {"manifest": "m.yaml", "split": "train"}}, "filters": []},
            "no subject of split train",
        ),
    ],
)
def test_mistakes_of_a_definition_end_in_one_line(benchmark, data, tmp_path, changes, said):
    content = yaml.safe_load((data / "definition.yaml").read_text())
    path = data / "changed.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    done = benchmark(tmp_path / "out", definition=path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "out").rglob("*.tsv"))


def test_a_filter_that_is_not_installed_is_left_out(benchmark, data, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.comparison.filters.find_spec", lambda name: None)
    content = yaml.safe_load((data / "definition.yaml").read_text())
    path = data / "with_bm4d.yaml"
    path.write_text(yaml.safe_dump({**content, "filters": ["bm4d"]}, sort_keys=False))
    done = benchmark(tmp_path / "out", "--part", "samples", definition=path)
    assert done.returncode == 0, done.stderr
    assert "bm4d is left out: filter 'bm4d' is not installed" in " ".join(done.stdout.split())
    asked = benchmark(tmp_path / "out", "--method", "bm4d", definition=path)
    assert (asked.returncode, "filter 'bm4d' is not installed" in asked.stderr) == (1, True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": {"small": {"method": "small.yaml", "weights": "none"}, "unett": {}}}, "unknown method 'unett'"),
        ({"detection": {"n_patient": 8}}, "detection: n_patient is not known"),
        ({"detection": {"scanner": "vereoss"}}, "no scanner preset is called 'vereoss'"),
        ({"phantom": {"scaner": "mct"}}, "phantom: scaner is not known"),
        ({"phantom": {"scanner": "mctt"}}, "no scanner preset is called 'mctt'"),
    ],
)
def test_a_mistake_of_a_later_part_is_told_before_anything_is_measured(benchmark, data, tmp_path, changes, told):
    definition = yaml.safe_load((data / "definition.yaml").read_text()) | changes
    path = data / "wrong.yaml"
    path.write_text(yaml.safe_dump(definition))
    done = benchmark(tmp_path / "out", definition=path)
    assert done.returncode == 1
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ({"subject": 9, "dose_reduction_factor": 20}, "subject 9 was asked for, expected one of 1 from 0"),
        ({"dose_reduction_factor": 7}, "has no scan of DRF 7"),
    ],
)
def test_cost_of_a_scan_that_is_not_there_is_one_line(benchmark, data, tmp_path, samples, told):
    changes = {"samples": samples, "cost": True, "filters": []}
    definition = yaml.safe_load((data / "definition.yaml").read_text()) | changes
    path = data / "cost.yaml"
    path.write_text(yaml.safe_dump(definition))
    done = benchmark(tmp_path / "out", "--part", "cost", "--method", "identity", definition=path)
    assert done.returncode == 1
    assert told in done.stderr
