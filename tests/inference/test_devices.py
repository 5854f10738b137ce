"""A GPU gives what the CPU gives, to the rounding of its arithmetic; where there is none, the CPU stands in."""

import pytest
import torch
from monai.transforms import Compose

from pipeline.inference import StreamingInferer
from pipeline.networks import UniPET, noise_map, noise_statistics
from pipeline.transforms import KeepLargeScaled, RandInsertLesiond, RandReconstructiond

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    shape = {"n_blocks": (1, 1, 1), "resolution_factor": 2, "local_noise": True}
    network = UniPET(8, style="statistics", style_width=8, latent_size=8, **shape)
    with torch.no_grad():
        network.base.reconstruct.weight.normal_(std=0.05)
    return network.eval()


@pytest.fixture(scope="module")
def scan():
    x = torch.zeros(1, 1, 34, 40, 46)
    x[:, :, 5:30, 6:34, 3:44] = 1
    return x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) * (x + 0.01).sqrt()


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_streamed_on_a_device_is_whole_on_the_cpu(device, network, scan, dtype):
    with torch.no_grad():
        expected = network(scan)
        found = StreamingInferer(slab=8, dtype=dtype)(scan.to(device), network.to(device)).cpu()
    network.cpu()
    change = (expected - scan).norm()
    assert change > 0.01 * scan.norm()
    # float32 is TensorFloat-32 in the convolutions of a GPU, with 10 bits.
    tolerance = 3e-2 if dtype is not None else 3e-3 if device.type == "cpu" else 1e-2
    assert (found - expected).norm() < tolerance * change


def test_the_body_alone_is_computed_on_a_device(device, network, scan):
    inferer = StreamingInferer(slab=8, body_threshold=0.05)
    found = inferer(scan.to(device), network.to(device)).cpu()
    expected = StreamingInferer(slab=8, body_threshold=0.05)(scan, network.cpu())
    assert ((found == 0) == (expected == 0)).float().mean() > 0.999
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 if device.type == "cpu" else 4e-3)


def test_noise_is_measured_on_a_device_as_on_the_cpu(device, scan):
    for measured in (noise_statistics, noise_map):
        torch.testing.assert_close(measured(scan.to(device)).cpu(), measured(scan), rtol=1e-4, atol=1e-4)


def test_scans_are_augmented_on_a_device_as_on_the_cpu(device, scan):
    lesions = (scan[0] > 1.2).to(torch.int16)
    data = {"image": 1.1 * scan[0], "label": scan[0], "lesions": lesions, "voxel_size": torch.tensor([3.0, 3.0, 4.0])}
    keys = ["image", "label"]
    augment = Compose([RandReconstructiond(keys, prob=1.0), RandInsertLesiond(keys, prob=1.0), KeepLargeScaled(keys)])
    expected = augment.set_random_state(seed=1)(data)
    found = augment.set_random_state(seed=1)({k: v if k == "voxel_size" else v.to(device) for k, v in data.items()})
    assert all(found[key].device.type == device.type for key in ("image", "label", "lesions"))
    for key in keys:
        torch.testing.assert_close(found[key].cpu(), expected[key], rtol=1e-3, atol=1e-3)
