"""Order and content of batches: a function of seed, epoch and place."""

import pytest
import torch
from monai.data import CacheDataset, Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from tiny_training import SeededDataset

from pipeline.pet import PETError
from pipeline.training import ResumableLoader
from pipeline.training.resumable_loader import BatchOrder


def batches(order: BatchOrder, epoch: int, first: int = 0) -> list[list[int]]:
    order.epoch, order.first_batch = epoch, first
    return list(order)


def test_an_epoch_is_a_permutation_without_what_fills_no_batch():
    order = BatchOrder(11, 3, seed=1)
    seen = [i for batch in batches(order, 1) for i in batch]
    assert len(order) == 3
    assert len(seen) == len(set(seen)) == 9
    assert batches(order, 1) == batches(order, 1) != batches(order, 2)
    assert batches(BatchOrder(11, 3, seed=2), 1) != batches(order, 1)


def test_every_item_is_seen_in_the_long_run():
    order = BatchOrder(11, 3)
    assert {i for epoch in range(1, 20) for batch in batches(order, epoch) for i in batch} == set(range(11))


def test_a_later_beginning_sees_the_rest_of_the_epoch():
    order = BatchOrder(12, 2, seed=4)
    assert batches(order, 3, first=4) == batches(order, 3)[4:]


def test_processes_share_out_the_batches_of_one():
    whole = batches(BatchOrder(12, 4, seed=4), 2)
    halves = [batches(BatchOrder(12, 4, seed=4, rank=rank, n_processes=2), 2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


@pytest.mark.parametrize(
    ("n_items", "batch_size", "n_processes", "message"),
    [(3, 4, 1, "3 items"), (9, 3, 2, "multiple of the number of processes, 2"), (3, 0, 1, "batch_size 0")],
)
def test_what_cannot_be_shared_is_refused(n_items, batch_size, n_processes, message):
    with pytest.raises(PETError, match=message):
        BatchOrder(n_items, batch_size, n_processes=n_processes)


def loader(*, num_workers: int = 0, kind: type = Dataset) -> ResumableLoader:
    items = [{"image": torch.full((1, 4, 4, 4), float(i)), "name": f"s{i}"} for i in range(10)]
    transform = Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=1.0)])
    options = {"progress": False} if kind is CacheDataset else {}
    return ResumableLoader(SeededDataset(kind(items, transform, **options), seed=5), 2, seed=6, num_workers=num_workers)


def images(loader: ResumableLoader, epoch: int, first: int = 0) -> list[torch.Tensor]:
    loader.set_position(epoch, first)
    return [batch["image"].as_tensor() for batch in loader]


def test_a_later_beginning_sees_the_same_noise():
    whole, late = images(loader(), 2), images(loader(), 2, first=3)
    assert len(whole) == 5
    for a, b in zip(whole[3:], late, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [Dataset, CacheDataset])
def test_workers_change_nothing_from_epoch_to_epoch(kind):
    alone, together = loader(kind=kind), loader(num_workers=2, kind=kind)
    for epoch in (1, 2, 3):
        for a, b in zip(images(alone, epoch), images(together, epoch), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(torch.cat(images(alone, 1)), torch.cat(images(alone, 2)))


def test_what_is_drawn_elsewhere_is_not_shifted():
    state = torch.get_rng_state()
    images(loader(), 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_dataset_that_draws_nothing_needs_no_seed():
    with pytest.raises(TypeError, match="expected a random one"):
        SeededDataset(type("Plain", (), {"transform": abs})())
