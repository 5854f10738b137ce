"""Inferer, bundle lookup and Denoiser."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.inference import Denoiser, fast_dtype, find_bundle, load_weights, method_names
from pipeline.networks import UniPET
from pipeline.pet import PETError, PETHeader, PETSeries


def series(shape=(12, 13, 14)) -> PETSeries:
    suv = np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)
    return PETSeries(suv=suv, affine=np.diag([4.0, 4.0, 3.0, 1.0]), header=PETHeader(units="GML"))


def test_fast_dtype_follows_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert fast_dtype("cpu") == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert fast_dtype(torch.device("cpu")) is None


def test_denoiser_applies_the_scale_around_the_network():
    seen = []

    def inferer(x, network):
        seen.append(x)
        return network(x)

    class Halve(nn.Module):
        def forward(self, x):
            return x / 2

    denoise = Denoiser(network=Halve(), inferer=inferer, suv_scale=4.0, method="halve", device=torch.device("cpu"))
    source = series()
    result = denoise(source)
    np.testing.assert_allclose(seen[0][0, 0].numpy(), source.suv / 4)
    np.testing.assert_allclose(result.suv, source.suv / 2, rtol=1e-6)
    np.testing.assert_array_equal(result.affine, source.affine)
    assert result.provenance[-1] == "Denoised by halve."


def test_the_shipped_bundle_denoises():
    denoise = Denoiser.from_bundle(device="cpu")
    assert sum(p.numel() for p in denoise.network.parameters()) == 964_970
    assert len(denoise.weights_sha256) == 64
    source = series()
    result = denoise(source)
    assert result.suv.min() >= 0
    # Noise without any structure: a denoiser must bring it closer to its mean.
    assert result.suv.std() < 0.7 * source.suv.std()


def test_identity_is_exact():
    source = series()
    np.testing.assert_array_equal(Denoiser.from_bundle(method="identity")(source).suv, source.suv)


def test_methods_are_the_overlays(repository):
    assert method_names(repository / "bundles" / "unipet_3d") == ["unipet", "identity", "restored"]


def make_bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    for name in ("metadata.json", "train.yaml"):
        (folder / "configs" / name).touch()
    return folder


def test_bundle_is_the_one_whose_configuration_was_named(tmp_path, monkeypatch, repository):
    named, here = make_bundle(tmp_path / "named"), make_bundle(tmp_path / "here")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["x", "--config_file", f"['{named}/configs/train.yaml','{named}/configs/b.yaml']"])
    assert find_bundle() == str(named)
    monkeypatch.setattr(sys, "argv", ["x"])
    assert find_bundle() == str(here)
    monkeypatch.chdir(tmp_path)
    assert find_bundle() == str(repository / "bundles" / "unipet_3d")


@pytest.mark.parametrize("argument", ["{}/configs/train.yaml", "--config_file={}/configs/train.yaml"])
def test_bundle_may_lie_in_a_folder_with_spaces(tmp_path, monkeypatch, argument):
    named = make_bundle(tmp_path / "my bundle")
    monkeypatch.setattr(sys, "argv", ["x", argument.format(named)])
    assert find_bundle() == str(named)


def test_a_command_that_names_no_bundle_runs_no_other(tmp_path, monkeypatch):
    here = make_bundle(tmp_path / "here")
    (here / "configs" / "inference.yaml").write_text("weights: $exec('raise SystemExit(3)')\n")
    monkeypatch.chdir(here)
    assert Denoiser.from_bundle(method="identity").weights_sha256 is None


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_damaged_weights_are_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(PETError, match="not weights of this network"):
        load_weights(nn.Linear(1, 1), tmp_path / "model.pt")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(PETError, match="not weights of this network") as caught:
        load_weights(UniPET(8, 4), tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


def test_weights_that_would_run_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "model.pt")
    with pytest.raises(PETError):
        load_weights(nn.Linear(1, 1), tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_a_scan_reaches_the_inferer_with_its_voxel_size_and_is_resampled_on_demand(repository, tmp_path):
    bundle = repository / "bundles" / "unipet_3d"
    native = Denoiser.from_bundle(bundle, method="identity")
    assert type(native.inferer).__name__ == "SimpleInferer"
    configured = make_bundle(tmp_path / "bundle")
    (configured / "configs" / "methods").mkdir()
    for name in ("inference.yaml", "methods/identity.yaml"):
        (configured / "configs" / name).write_text((bundle / "configs" / name).read_text())
    config = configured / "configs" / "inference.yaml"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("voxel_size:")]
    config.write_text("\n".join(lines))
    with pytest.raises(PETError, match="has no voxel_size"):
        Denoiser.from_bundle(configured, method="identity", voxel_size="training")
    config.write_text("\n".join([*lines, "voxel_size: [8.0, 8.0, 8.0]"]))
    seen = []

    class Doubling(nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return 2 * x

    trained = Denoiser.from_bundle(configured, method="identity", voxel_size="training")
    source = series()
    result = replace(trained, network=Doubling())(source)
    # 12 x 13 x 14 voxels of 4 x 4 x 3 mm in voxels of 8 mm, then once more in its own.
    assert seen == [(6, 7, 6), (12, 13, 14)]
    assert result.suv.shape == source.suv.shape


def test_denoiser_tells_how_far_it_is():
    seen = []
    Denoiser.from_bundle(device="cpu", on_progress=seen.append)(series())
    assert seen[-1].done == pytest.approx(1)
