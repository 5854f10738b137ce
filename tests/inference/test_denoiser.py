"""Inferer, bundle lookup and Denoiser."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from pipeline.inference import Denoiser, Method, fast_dtype, find_bundle, load_weights, method_names
from pipeline.networks import DoseConditionedNetwork, UniPET
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
    assert result.provenance[-1] == "Denoised by halve, strength 1."


def test_the_shipped_bundle_denoises():
    denoise = Denoiser.from_bundle(device="cpu")
    assert sum(p.numel() for p in denoise.network.parameters()) == 3_131_690
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
    bundle = repository / "bundles" / "unipet_3d"
    assert method_names(bundle)[0] == "unipet"
    assert set(method_names(bundle)) == {path.stem for path in (bundle / "configs" / "methods").glob("*.yaml")}


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
    with pytest.raises(PETError, match=r"not weights of this network \(Missing key.*base.conv0") as caught:
        load_weights(UniPET(8, 4), tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file_of_weights(tmp_path):
    with pytest.raises(PETError, match=f"{re.escape(str(tmp_path))}: the weights cannot be read"):
        load_weights(nn.Linear(1, 1), tmp_path)


def test_it_tells_where_the_dose_is_from():
    network = DoseConditionedNetwork(4, 1)
    denoise = Denoiser(network=network, inferer=SimpleInferer(), suv_scale=2.0, method="x", device=torch.device("cpu"))
    noisy, tiny = series((24, 24, 24)), series((4, 4, 4))
    read, source = denoise.dose_of(noisy)
    assert (read, source) == (pytest.approx(10), "read from the noise")  # of slopes that were not fitted
    assert denoise.dose_of(tiny)[1] == "the mean of the training, the noise cannot be measured"
    assert denoise.at_dose(7).dose_of(tiny) == (7, "stated")
    assert Denoiser.from_bundle(method="identity").dose_of(noisy) is None


def test_a_method_that_is_a_file_is_called_by_its_name_alone(tmp_path):
    """Records and DICOM hold no path, which may name a person."""
    (tmp_path / "ours.yaml").write_text("based_on: identity\n")
    denoise = Denoiser.from_bundle(method=str(tmp_path / "ours.yaml"), device="cpu")
    assert denoise.method == "ours"
    assert denoise.sampling == {}
    assert denoise(series()).provenance[-1] == "Denoised by ours, strength 1."


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("n_steps: 0", "n_steps 0, n_samples 4: expected whole numbers"),
        ("n_steps: 2.5", "n_steps 2.5, n_samples 4: expected whole numbers"),
        ("n_steps: four", "n_steps four"),
        ("n_steps: 1001", "cannot be larger than"),
        ("n_samples: 0", "n_samples 0"),
    ],
)
def test_settings_of_a_sampler_that_it_cannot_have_are_one_line(tmp_path, setting, told):
    path = tmp_path / "ours.yaml"
    path.write_text(f"based_on: flow3d\n{setting}\n")
    with pytest.raises(PETError, match=told) as caught:
        Denoiser.from_bundle(method=str(path), device="cpu", weights=tmp_path / "not_needed.pt")
    assert str(caught.value).startswith(f"{path}: inferer cannot be built (")
    assert "\n" not in str(caught.value)


def test_weights_that_would_run_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "model.pt")
    with pytest.raises(PETError):
        load_weights(nn.Linear(1, 1), tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


class Doubling(nn.Module):
    def forward(self, x):
        return 2 * x


def doubling(strength, **options):
    settings = {"network": Doubling(), "inferer": SimpleInferer(), "suv_scale": 3.0, "method": "double"}
    return Denoiser(**settings | {"device": torch.device("cpu"), "strength": strength} | options)


def test_a_scan_reaches_the_inferer_with_its_voxel_size():
    seen = []

    def inferer(x, network):
        seen.append(x.affine)
        return x

    source = series()
    doubling(1.0, inferer=inferer)(source)
    np.testing.assert_array_equal(seen[0].numpy(), source.affine)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1])
def test_strength_is_the_part_of_the_change_that_is_made(strength):
    source = series()
    result = doubling(strength)(source)
    np.testing.assert_allclose(result.suv, (1 + strength) * source.suv, rtol=1e-6)
    assert result.provenance[-1] == f"Denoised by double, strength {strength:g}."


def test_strength_0_is_the_identity_to_the_bit_whatever_the_voxels():
    source = series()
    source.suv[0, 0, :3] = (-0.3, 1e6, 1e-20)
    result = doubling(0)(source)
    np.testing.assert_array_equal(result.suv, source.suv)
    assert result.provenance[-1] == "Denoised by double, strength 0."


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), "half"])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(PETError, match=f"strength {strength}: expected a number from 0 to 1"):
        doubling(strength)


def test_the_configuration_says_the_strength_unless_the_caller_does(tmp_path, repository):
    assert Denoiser.from_bundle(method="identity").strength == 1
    assert Denoiser.from_bundle(method="identity", strength=0.3).strength == 0.3
    bundle = repository / "bundles" / "unipet_3d" / "configs"
    own = make_bundle(tmp_path / "own") / "configs"
    (own / "methods").mkdir()
    (own / "methods" / "identity.yaml").write_text((bundle / "methods" / "identity.yaml").read_text())
    config = (bundle / "inference.yaml").read_text()
    for line, strength in (("strength: 0.6\n", 0.6), ("", 1)):  # bundles of version 0.2.0 have no such line
        (own / "inference.yaml").write_text(re.sub(r"(?m)^strength: .*\n", line, config))
        assert Denoiser.from_bundle(own.parent, method="identity").strength == strength


@pytest.mark.parametrize("scale", ["abc", 0, -2.0, float("inf"), None])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(PETError, match=r"suv_scale .*: expected a number above 0"):
        doubling(1, suv_scale=scale)


def test_a_method_for_a_device_that_does_not_exist_is_refused(repository):
    with pytest.raises(PETError, match="device 'gpu' cannot be used"):
        Method(repository / "bundles" / "unipet_3d", "identity", device="gpu")


def test_noise_is_compared_with_that_of_the_training_as_it_enters_the_network():
    network = UniPET(4, 2, style="statistics").eval()
    source = series((24, 24, 24))
    found = doubling(1, network=network).style_deviation(source)
    entering = torch.from_numpy(source.suv)[None, None] / 3
    assert found == network.style_deviation(entering)
    assert len(found) > 4
    assert doubling(1).style_deviation(source) == {}


def test_denoiser_tells_how_far_it_is():
    seen = []
    Denoiser.from_bundle(device="cpu", on_progress=seen.append)(series())
    assert seen[-1].done == pytest.approx(1)


def test_a_dose_is_read_once_however_often_the_network_runs():
    seen = []

    def on_two_grids(x, network):
        coarse = x.as_tensor()[..., ::2, ::2, ::2]
        seen.append([float(network.dose_of(volume)) for volume in (x, coarse)])
        return x

    noisy = series((24, 24, 24))
    denoise = Denoiser(
        network=DoseConditionedNetwork(4, 1),
        inferer=on_two_grids,
        suv_scale=2.0,
        method="x",
        device=torch.device("cpu"),
    )
    # The level of noise alone decides: that of every other voxel is another.
    denoise.network.dose_reader.slopes[0] = 1.0
    read, _ = denoise.dose_of(noisy)
    denoise(noisy)
    assert seen == [[pytest.approx(read)] * 2]
    assert denoise.network.stated is None
