"""How torch says that memory is short."""

import pytest
import torch

from pipeline.inference.streaming import plan


def test_torch_says_that_memory_is_short_in_a_way_that_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert plan.is_out_of_memory(caught.value)
    assert not plan.is_out_of_memory(RuntimeError("shapes do not match"))
