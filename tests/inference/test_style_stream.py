"""The streamed style equals that of the whole volume."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.inference import stream_style
from pipeline.networks import UniPET


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)),
    n_planes=st.integers(1, 20),
    factor=st.sampled_from([1, 2]),
    n_blocks=st.sampled_from([4, (1, 2, 1), (1, 0, 1, 1, 0)]),
    n_stages=st.integers(1, 4),
    threshold=st.sampled_from([None, 0.45, 100.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_style_equals_that_of_the_whole(
    randomised, volume, shape, n_planes, factor, n_blocks, n_stages, threshold, dtype
):
    network = randomised(
        UniPET(
            8,
            n_blocks,
            resolution_factor=factor,
            style_width=8,
            latent_size=6,
            n_stages=n_stages,
            tissue_threshold=threshold,
        )
    ).to(dtype)
    x = volume(*shape).to(dtype)
    with torch.no_grad():
        whole = network.encode_style(x)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(stream_style(network, x, n_planes=n_planes), whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("start", [0, 13, 40])
@pytest.mark.parametrize("factor", [1, 2])
def test_air_that_the_body_does_not_reach_is_left_out_of_the_work_and_not_of_the_result(
    randomised, body, start, factor
):
    x = body((100, 70, 64), (slice(start, start + 25), slice(start, start + 9), slice(start, start + 20))).double()
    network = randomised(
        UniPET(8, 4, resolution_factor=factor, style_width=8, latent_size=6, tissue_threshold=0.1)
    ).double()
    with torch.no_grad():
        whole = network.encode_style(x)
    torch.testing.assert_close(stream_style(network, x), whole, rtol=1e-12, atol=1e-14)


def test_style_from_statistics_is_that_of_the_whole_scan(randomised, body):
    x = body((30, 40, 44), (slice(3, 27), slice(3, 37), slice(3, 41)))
    network = randomised(UniPET(8, (1, 1, 1), resolution_factor=2, style="statistics", style_width=8, latent_size=6))
    assert torch.equal(stream_style(network, x), network.encode_style(x))
    assert network.scan_statistics(x).isfinite().all()


@pytest.mark.parametrize("size", [33, 35, 38])
def test_style_of_a_deep_body_and_few_stages_is_cut_where_its_deepest_voxels_begin(randomised, body, size):
    x = body((size, size, size), (slice(12, 20), slice(11, 19), slice(13, 21))).double()
    network = randomised(
        UniPET(8, (1, 0, 1, 1, 0), resolution_factor=2, style_width=8, latent_size=6, n_stages=1, tissue_threshold=0.1)
    ).double()
    with torch.no_grad():
        torch.testing.assert_close(stream_style(network, x), network.encode_style(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_any_precision_encode_a_scan_of_another(randomised, body, dtype):
    x = body((24, 24, 24), (slice(4, 20),) * 3)
    network = randomised(UniPET(8, 4, resolution_factor=2, style_width=8, latent_size=6, tissue_threshold=0.1))
    expected = stream_style(network, x).to(torch.float64)
    latents = stream_style(network.to(dtype), x).to(torch.float64)
    torch.testing.assert_close(latents, expected, rtol=0.1, atol=0.05)
