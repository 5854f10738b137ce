"""One suite for every method of the bundle: its network, and a scan that it denoises through `unipet denoise`.

Weights of a training are in no checkout but UniPET's own. Where UNIPET_TRAINED_WEIGHTS names a folder with
NAME/model.pt, methods are tested with those, too.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from pipeline import read_pet
from pipeline.inference import Denoiser, Method
from pipeline.networks import BaseDenoisingNetwork, multiply_adds_per_voxel, n_parameters
from pipeline.pet import PETHeader, PETSeries
from pipeline.shipped import method_files, method_names, own_bundle
from pipeline.training import checked_config
from pipeline.transforms import with_scale

METHODS = [name for name in method_names(own_bundle()) if name != "identity"]
SAMPLERS = ("ddpm2d", "ddpm3d", "flow3d")
"""Their networks are told a time."""
FEW_STEPS = 3


def cylinder(*, voxel_size: float = 8.0, noise: float = 0.0) -> PETSeries:
    """A body of SUV 2, 24 cm wide and 19 cm long, in air."""
    position = np.arange(0, 320, voxel_size) - (320 - voxel_size) / 2
    x, y = np.meshgrid(position, position, indexing="ij")
    body = np.repeat((x**2 + y**2 < 120**2)[..., None], round(192 / voxel_size), axis=2)
    suv = 2 * body * (1 + noise * np.random.default_rng(0).standard_normal(body.shape))
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    return PETSeries(suv=suv.astype(np.float32), affine=affine, header=PETHeader(units="GML"))


def start_as_identity(network: BaseDenoisingNetwork) -> None:
    """Let a network that finds the image itself hand it through."""
    network.conv0.weight.zero_()
    network.reconstruct.weight.zero_()
    for channel in range(network.resolution_factor**3):
        network.conv0.weight[channel, channel, 1, 1, 1] = 1
        network.reconstruct.weight[channel, channel, 1, 1, 1] = 1
    for name, parameter in network.named_parameters():
        if name.endswith("scale"):
            parameter.zero_()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Weights of every method close to doing nothing, in which nothing is hidden by a zero; by name."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for name in METHODS:
        torch.manual_seed(0)
        method = Method(own_bundle(), name)
        network = method["network_def"]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            if not getattr(network, "adds_image", True):
                start_as_identity(network)
            for parameter in network.parameters():
                parameter.add_(0.002 * torch.randn(parameter.shape, generator=generator))
        found[name] = folder / f"{name}.pt"
        torch.save(with_scale(network.state_dict(), method["suv_scale"]), found[name])
    return found


def denoiser(name: str, weights: dict[str, Path], *, drf: float | None = 10) -> Denoiser:
    """A method with drawn weights, and few steps where it has any."""
    made = Denoiser.from_bundle(method=name, weights=weights[name], device="cpu")
    inner = made.inferer
    while inner is not None:
        if hasattr(inner, "n_steps"):
            inner.n_steps, inner.n_samples = FEW_STEPS, 1
        inner = getattr(inner, "inferer", None)
    return made.at_dose(drf)


@pytest.mark.parametrize("name", METHODS)
def test_the_body_costs_what_that_of_unipet_costs(name):
    network = Method(own_bundle(), name)["network_def"]
    shipped = multiply_adds_per_voxel(Method(own_bundle(), "unipet")["network_def"].base)
    if name in SAMPLERS:
        volume = torch.zeros(1, network.in_channels, 64, 64, 64)
        cost = multiply_adds_per_voxel(network, volume, timesteps=torch.tensor([500]))
    else:
        cost = multiply_adds_per_voxel(network.eval())
    assert cost == pytest.approx(shipped, rel=0.2)


@pytest.mark.parametrize("name", METHODS)
def test_a_scan_keeps_its_grid_and_its_uptake_and_comes_out_the_same_again(name, weights):
    noisy = cylinder(noise=0.2)
    method = denoiser(name, weights)
    first, second = method(noisy), method(noisy)
    assert first.suv.shape == noisy.suv.shape
    assert first.suv.dtype == np.float32
    np.testing.assert_array_equal(first.affine, noisy.affine)
    np.testing.assert_array_equal(first.suv, second.suv)
    assert not np.array_equal(first.suv, noisy.suv)
    assert np.isfinite(first.suv).all()
    assert first.suv.sum() == pytest.approx(noisy.suv.sum(), rel=0.01)
    doubled = method(noisy.with_suv(2 * noisy.suv))
    assert doubled.suv.sum() == pytest.approx(2 * noisy.suv.sum(), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_command_denoises_a_whole_body_by_it(name, weights, unipet, tiny_cohort, tmp_path):
    scan = next((tiny_cohort[0] / "pet").glob("*drf020_pet.nii.gz"))
    done = unipet("denoise", scan, tmp_path / "out", "--method", name, "--weights", weights[name], "--device", "cpu")
    assert done.returncode == 0, done.stderr
    noisy, denoised = read_pet(scan), read_pet(next((tmp_path / "out").glob("*denoised_pet.nii.gz")))
    np.testing.assert_allclose(denoised.affine, noisy.affine, atol=1e-5)
    assert denoised.suv.mean() == pytest.approx(noisy.suv.mean(), rel=0.05)  # drawn weights add a little of their own


@pytest.mark.parametrize("name", METHODS)
def test_without_weights_it_is_one_line(name, unipet, tiny_cohort, tmp_path):
    if name == "unipet":
        pytest.skip("its weights come along")
    scan = next((tiny_cohort[0] / "pet").glob("*drf020_pet.nii.gz"))
    done = unipet("denoise", scan, tmp_path / "out", "--method", name)
    assert done.returncode == 1
    assert f"models/{name}.pt: the weights do not exist" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture(params=METHODS)
def trained(request) -> Denoiser:
    """A method with the weights of a training."""
    name = request.param
    if "UNIPET_TRAINED_WEIGHTS" in os.environ:
        path = Path(os.environ["UNIPET_TRAINED_WEIGHTS"]) / name / "model.pt"
        if not path.exists():
            pytest.skip(f"no {path}")
        return Denoiser.from_bundle(method=name, weights=path, device="cpu").at_dose(4)
    if name != "unipet":
        pytest.skip("UNIPET_TRAINED_WEIGHTS does not name a folder of weights")
    return Denoiser.from_bundle(device="cpu")


def test_what_is_constant_stays_constant(trained):
    denoised = trained(cylinder(voxel_size=4.0)).suv[28:52, 28:52, 8:40]  # 96 mm wide, 32 mm from the ends
    assert np.abs(denoised / 2 - 1).max() < 0.01


VARIANTS = sorted(path.stem for path in (own_bundle() / "configs" / "variants").glob("published_*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_size_takes_a_gradient_step_and_costs_what_it_states(variant):
    path = own_bundle() / "configs" / "variants" / f"{variant}.yaml"
    stated = re.search(r"# Cost: (\S+) thousand multiply-adds per voxel, (\S+) million parameters", path.read_text())
    name = variant.removeprefix("published_")
    files = [*method_files(own_bundle(), name), path]
    parser = ConfigParser(checked_config(own_bundle() / "configs" / "train.yaml", files, [("method", name)]))
    network = parser.get_parsed_content("network_def")
    inputs: dict[str, torch.Tensor] = {"x": torch.rand(1, getattr(network, "in_channels", 1), 32, 32, 32)}
    if name in SAMPLERS:
        inputs["timesteps"] = torch.tensor([500])
    assert n_parameters(network) / 1e6 == pytest.approx(float(stated[2]), rel=0.03)
    cost = multiply_adds_per_voxel(network, *inputs.values())
    assert cost / 1e3 == pytest.approx(float(stated[1]), rel=0.03)
    result = network(*inputs.values())
    before = [parameter.detach().clone() for parameter in network.parameters()]
    (result - 1).square().mean().backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    assert any(not torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))
