"""Streaming has the bits of the whole volume; the box those of the full run; trouble has a name."""

import logging
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.networks.utils import pixelunshuffle
from torch import nn

from pipeline.inference import StreamingInferer, make_plan, stream
from pipeline.inference.streaming import inferer, planes
from pipeline.inference.streaming.slabs import (
    body_slabs,
    chain,
    every_slab,
    network_stages,
    occupied_cells,
    plane_boxes,
    total_lag,
)
from pipeline.networks import BaseDenoisingNetwork, LocalNoise, UniPET, conv3d
from pipeline.pet import PETError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 23), st.integers(1, 12), st.integers(1, 12)),
    thickness=st.integers(1, 25),
    n_blocks=st.sampled_from([0, 1, 2, 4, (1, 1, 1), (2, 3, 1), (0, 0, 0), (1, 0, 2, 1, 0), (1, 1, 1, 1, 1, 1, 1)]),
    channels=st.sampled_from([8, 13, 16]),
    factor=st.sampled_from([1, 2]),
    dtype=st.sampled_from(DTYPES),
    local_noise=st.booleans(),
    adds_image=st.booleans(),
)
def test_streaming_has_the_bits_of_the_whole_volume(
    randomised, volume, shape, thickness, n_blocks, channels, factor, dtype, local_noise, adds_image
):
    guided = LocalNoise() if local_noise else None
    network = BaseDenoisingNetwork(
        channels, n_blocks, resolution_factor=factor, local_noise=guided, adds_image=adds_image
    )
    network = randomised(network).to(dtype)
    x = volume(*shape).to(dtype)
    with torch.no_grad():
        whole = network(x)
        assert torch.equal(stream(network, x, thickness=thickness), whole)
        assert (whole - x).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_streaming_has_the_bits_of_the_whole_volume_where_torch_would_change_its_kernel(randomised, volume, dtype):
    # 64 channels x 12 planes x 30 rows is above torch's threshold for oneDNN, 64 x 4 x 30 below.
    network = randomised(BaseDenoisingNetwork(64, 1)).to(dtype)
    x = volume(12, 30, 17).to(dtype)
    with torch.no_grad():
        assert torch.equal(stream(network, x, thickness=2), network(x))


@settings(max_examples=40, deadline=None)
@given(
    start=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30)),
    length=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    thickness=st.integers(1, 9),
    factor=st.sampled_from([1, 2]),
    n_blocks=st.sampled_from([2, (1, 1, 1), (1, 0, 1, 1, 0)]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    local_noise=st.booleans(),
)
def test_box_has_the_bits_of_the_full_run_in_the_body_and_is_zero_outside(
    randomised, body, start, length, thickness, factor, n_blocks, dtype, local_noise
):
    shape = (37, 40, 45)
    x = body(shape, tuple(slice(a, a + n) for a, n in zip(start, length, strict=True)))
    guided = LocalNoise() if local_noise else None
    network = randomised(BaseDenoisingNetwork(8, n_blocks, resolution_factor=factor, local_noise=guided))
    full = StreamingInferer(slab=thickness, dtype=dtype)(x, network)
    boxed = StreamingInferer(slab=thickness, dtype=dtype, body_threshold=0.05)(x, network)
    boxes = plane_boxes(occupied_cells(x, threshold=0.05, cell=factor))
    for axis in range(3):
        boxes = boxes.repeat_interleave(factor, axis)
    boxes = boxes[: shape[0], : shape[1], : shape[2]]
    assert occupied_cells(x, threshold=0.05, cell=1)[~boxes].sum() == 0
    assert torch.equal(boxed[0, 0][boxes], full[0, 0][boxes])
    assert (boxed[0, 0][~boxes] == 0).all()
    assert (full[0, 0][~boxes] != 0).any()


def test_box_in_float64_differs_by_rounding_only(randomised, body):
    # A float64 convolution is a matrix product, whose order of summation depends on the size of the plane.
    x = body((30, 40, 44), (slice(10, 20), slice(3, 11), slice(20, 33))).double()
    network = randomised(BaseDenoisingNetwork(8, 2)).double()
    full = StreamingInferer()(x, network)
    boxed = StreamingInferer(body_threshold=0.05)(x, network)
    inside = plane_boxes(occupied_cells(x, threshold=0.05, cell=1))
    assert (boxed - full)[0, 0][inside].abs().max() < 1e-14


def test_a_volume_without_body_is_zero_at_no_cost(randomised, volume):
    x = volume(9, 9, 9) * 0.01
    network = randomised(BaseDenoisingNetwork(4, 1))
    cells = occupied_cells(x, threshold=0.05, cell=1)
    assert make_plan(network, x, cells=cells).cost == 0
    assert not StreamingInferer(body_threshold=0.05)(x, network).any()


def test_several_bodies_along_the_axis_are_computed_apart():
    cells = torch.zeros(60, 8, 8, dtype=torch.bool)
    cells[3, 4, 4] = cells[50, 2, 2] = True
    slabs = body_slabs(cells, thickness=4, stages=chain(4))
    assert [s.start for s in slabs] == [0, 4, 44, 48, 52]
    assert [s.start for s in slabs if s.begins] == [0, 44]


@pytest.mark.parametrize("thickness", [1, 4, 7, 30])
def test_slabs_of_the_whole_feed_every_convolution_every_plane_once(thickness):
    slabs = every_slab((11, 5, 6), thickness=thickness, stages=chain(3))
    for k in range(3):
        assert sum(slab.planes(k) for slab in slabs) == 11
        assert sum(slab.ends(k) for slab in slabs) == 1
    assert sum(slab.size for slab in slabs) == 11 * 5 * 6 * 3
    assert max(slab.planes(k) for slab in slabs for k in range(3)) <= thickness


def test_boxes_shrink_from_layer_to_layer(body):
    cells = occupied_cells(body((80, 80, 80), (slice(38, 42),) * 3), threshold=0.05, cell=1)
    slabs = body_slabs(cells, thickness=4, stages=chain(18))
    for slab in slabs:
        assert all(later.size <= earlier.size for earlier, later in zip(slab.boxes, slab.boxes[1:], strict=False))
    assert slabs[8].boxes[0].size > 4 * slabs[8].boxes[-1].size


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_local_noise_is_measured_once_in_the_precision_of_the_weights(randomised, body, dtype):
    x = body((37, 40, 45), (slice(6, 30), slice(5, 33), slice(2, 44)))
    shape = {"n_blocks": (1, 0, 1), "resolution_factor": 2, "local_noise": True}
    network = randomised(UniPET(8, style="statistics", style_width=8, latent_size=8, **shape))
    result = StreamingInferer(slab=4, dtype=dtype)(x, network)
    with torch.no_grad():
        guide = network.base.guide(x)
        assert guide.std() > 0.1
        layers = network.fold(network.encode_style(x)).to(dtype or torch.float32)
        seen = torch.cat([pixelunshuffle(layers.padded(x), 3, 2), guide], dim=1).to(dtype)
        first = conv3d(seen, layers.conv0.weight, layers.conv0.bias, padding=(1, 1, 1))
        assert torch.equal(result, layers.to_image(layers.block_features(first)[-1], x))
        if dtype is None:
            assert torch.equal(result, network.fold(network.encode_style(x))(x))
        else:
            measured_low = network.base.guide(x.to(dtype))
            assert not torch.equal(measured_low.to(dtype), guide.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unipet_is_its_folded_network_to_the_bit(randomised, volume, dtype):
    network = randomised(UniPET(8, 4, resolution_factor=2, style_width=8, latent_size=8, tissue_threshold=0.1))
    x = torch.cat([volume(10, 9, 21, seed=seed) for seed in (2, 3)])
    result = StreamingInferer(slab=4, dtype=dtype)(x, network)
    with torch.no_grad():
        for i in range(2):
            latents = network.encode_style(x[i : i + 1])
            layers = network.fold(latents).to(dtype)
            residual = layers.to_image(
                layers.block_features(layers.shallow_features(x[i : i + 1].to(dtype)))[-1], x[i : i + 1]
            )
            assert torch.equal(result[i : i + 1], residual)


def test_unipet_equals_its_own_pass_over_the_volume(randomised, volume):
    network = randomised(UniPET(8, 4, resolution_factor=2, style_width=8, latent_size=8, tissue_threshold=0.1)).double()
    x = torch.cat([volume(10, 9, 21, seed=seed) for seed in (2, 3)]).double()
    with torch.no_grad():
        torch.testing.assert_close(StreamingInferer(slab=4)(x, network), network(x), rtol=1e-6, atol=1e-8)


def test_low_precision_leaves_the_network_and_the_image_skip_alone(randomised, volume):
    network = randomised(BaseDenoisingNetwork(8, 2, resolution_factor=2))
    nn.init.zeros_(network.reconstruct.weight)
    nn.init.zeros_(network.reconstruct.bias)
    x = volume(8, 8, 8)
    assert torch.equal(StreamingInferer(dtype=torch.bfloat16)(x, network), x)
    assert network.conv0.weight.dtype == torch.float32


def test_plan_says_what_it_costs(volume):
    plan = make_plan(BaseDenoisingNetwork(8, 2), volume(200, 16, 16), thickness=8)
    assert plan.cost == 1
    assert "streaming, slabs of 8 planes, 1.00 of one pass over the volume, about" in str(plan)


def test_reach_of_the_network_is_its_convolutions():
    network = BaseDenoisingNetwork(8, 8)
    assert total_lag(network_stages(network)) == network.receptive_radius == 18


def test_other_networks_are_refused_by_name():
    with pytest.raises(TypeError, match="cannot stream Conv3d"):
        StreamingInferer()(torch.zeros(1, 1, 3, 3, 3), nn.Conv3d(1, 1, 1))


def test_slab_must_hold_a_plane():
    with pytest.raises(ValueError, match="a number of planes, at least one"):
        StreamingInferer(slab=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_by_name(volume, value):
    x = torch.cat([volume(5, 5, 5), volume(5, 5, 5)])
    x[1, 0, 2, 3, 4] = value
    network = BaseDenoisingNetwork(4, 1)
    with pytest.raises(PETError, match=r"scan 2 of 2: 1 of 125 voxels are NaN or infinite"):
        StreamingInferer()(x, network)
    named = MetaTensor(x, meta={"filename_or_obj": ["a.nii.gz", "b.nii.gz"]})
    with pytest.raises(PETError, match=r"b\.nii\.gz: 1 of 125"):
        StreamingInferer()(named, network)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_means_thinner_slabs_and_the_same_result(randomised, volume, monkeypatch, caplog, error):
    def scarce(x, *args, **kwargs):
        if x.shape[2] > 5:
            raise error
        return conv3d(x, *args, **kwargs)

    network, x = randomised(BaseDenoisingNetwork(8, 2)), volume(30, 9, 8)
    expected = StreamingInferer(slab=16)(x, network)
    monkeypatch.setattr(planes, "conv3d", scarce)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(StreamingInferer(slab=16)(x, network), expected)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().split(" do not")[0] for record in warnings] == [
        f"scan 1 of 1: slabs of {n} planes" for n in (16, 8, 4)
    ]


def test_other_errors_are_not_taken_for_memory(randomised, volume, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(planes, "conv3d", broken)
    with pytest.raises(RuntimeError, match="something else"):
        StreamingInferer()(volume(8, 8, 8), randomised(BaseDenoisingNetwork(8, 2)))


def test_memory_is_checked_beforehand(randomised, volume, monkeypatch):
    network, x = randomised(BaseDenoisingNetwork(8, 2)), volume(60, 20, 20)
    expected = StreamingInferer()(x, network)
    least = make_plan(network, x, thickness=1).n_bytes
    monkeypatch.setattr(inferer, "available_memory", lambda device: least)
    assert torch.equal(StreamingInferer()(x, network), expected)
    monkeypatch.setattr(inferer, "available_memory", lambda device: least - 1)
    with pytest.raises(PETError, match=r"scan 1 of 1: volume of \(60, 20, 20\) voxels does not fit"):
        StreamingInferer()(x, network)


def test_progress_ends_at_one_for_every_scan(randomised, volume):
    seen = []
    x = torch.cat([volume(24, 6, 6), volume(24, 6, 6)])
    StreamingInferer(slab=8, on_progress=seen.append)(x, randomised(BaseDenoisingNetwork(4, 1)))
    assert len(seen) == 8
    # 24 planes through 4 convolutions, number k of which lags k planes behind.
    assert [p.done for p in seen] == pytest.approx([26 / 96, 58 / 96, 90 / 96, 1] * 2)
    assert seen[3].seconds_left == 0
    assert seen[0].seconds_left > 0


def test_interruption_passes_through(randomised, volume):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StreamingInferer(slab=2, on_progress=interrupt)(volume(8, 5, 5), randomised(BaseDenoisingNetwork(4, 1)))


@pytest.mark.parametrize(
    ("inputs", "found"),
    [(torch.zeros(4, 4, 4), "(4, 4, 4)"), (torch.zeros(0, 1, 4, 4, 4), "(0, 1"), (torch.zeros(1, 2, 4, 4, 4), "(1, 2")],
)
def test_what_is_no_batch_of_volumes_is_refused(inputs, found):
    with pytest.raises(ValueError, match=re.escape(found)):
        StreamingInferer()(inputs, BaseDenoisingNetwork(4, 1))


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="body_threshold is nan"):
        StreamingInferer(body_threshold=float("nan"))
    with pytest.raises(ValueError, match=r"got 1\.5"):
        StreamingInferer(slab=1.5)
    with pytest.raises(TypeError, match="'bfloat16'"):
        StreamingInferer(dtype="bfloat16")


def test_integers_are_denoised_as_numbers(randomised, volume):
    network = randomised(BaseDenoisingNetwork(4, 1))
    x = (100 * volume(6, 7, 8)).short()
    assert torch.equal(StreamingInferer()(x, network), StreamingInferer()(x.float(), network))


def test_a_result_that_is_not_finite_is_refused(randomised, volume):
    network = randomised(BaseDenoisingNetwork(8, 2))
    with pytest.raises(PETError, match=r"not finite in torch\.float16"):
        StreamingInferer(dtype=torch.float16)(1e5 * volume(6, 7, 8), network)


def test_a_volume_of_few_planes_is_not_taken_for_air():
    x = torch.full((1, 1, 40, 40, 2), 0.3)
    assert torch.equal(StreamingInferer(body_threshold=0.25)(x, BaseDenoisingNetwork(4, 1)), x)


def test_lack_of_memory_in_the_kernels_is_known_too(randomised, volume, monkeypatch):
    network = randomised(BaseDenoisingNetwork(8, 2))
    x = volume(16, 9, 8)
    expected = StreamingInferer(slab=16)(x, network)
    real, calls = planes.conv3d, []

    def too_large(u, *args, **kwargs):
        calls.append(u.shape[2])
        if u.shape[2] > 7:
            raise RuntimeError("could not create a primitive")
        return real(u, *args, **kwargs)

    monkeypatch.setattr(planes, "conv3d", too_large)
    assert torch.equal(StreamingInferer(slab=16)(x, network), expected)
    assert max(calls) > 7
