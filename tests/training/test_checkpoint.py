"""Checkpoints: exact resumption anywhere, files that are whole or not there, damage that is noticed."""

import copy
import logging
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import tiny_loader, tiny_parts, tiny_trainer, tiny_training

from pipeline.pet import PETError
from pipeline.training import Checkpoint, save_atomically
from pipeline.training.checkpoint import random_state, restore_random_state
from pipeline.training.checkpoint_files import checkpoint_files, newest_intact, prune, write_checkpoint


class StopAt:
    """Handler that ends a run after an iteration, as a kill would, without what the end of a run does."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self.stop)

    def stop(self, engine: Engine) -> None:
        if engine.state.iteration > self.iteration:
            raise KeyboardInterrupt


def stop_at(folder: Path, iteration: int, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_training(folder, extra_handlers=(StopAt(iteration),), **options).run()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """Folder of an uninterrupted training of three epochs of four iterations."""
    folder = tmp_path_factory.mktemp("straight")
    tiny_training(folder).run()
    return folder


# 4 and 8 end an epoch, 3, 6 and 9 save within one, the others lose up to two iterations.
@pytest.mark.parametrize("stops", [(1,), (3,), (4,), (5, 6), (3, 7, 9, 11)])
def test_a_resumed_run_equals_an_uninterrupted_one(straight, tmp_path, stops):
    def seed() -> int:
        # What is resumed must owe nothing to the weights it was built with.
        return 99 if checkpoint_files(tmp_path / "checkpoints") else 0

    for iteration in stops:
        stop_at(tmp_path, iteration, seed=seed())
    tiny_training(tmp_path, seed=seed()).run()
    assert_equal(weights(tmp_path), weights(straight))
    without_time = [
        [line.split("\t")[:2] + line.split("\t")[3:] for line in (folder / "progress.tsv").read_text().splitlines()]
        for folder in (tmp_path, straight)
    ]
    assert without_time[0] == without_time[1]


def test_a_finished_run_ends_at_once(straight, tmp_path):
    before = sorted((straight / "checkpoints").iterdir())
    engine = tiny_training(straight, seed=4)
    iterations = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: iterations.append(1))
    engine.run()
    assert not iterations
    assert sorted((straight / "checkpoints").iterdir()) == before


def test_a_checkpoint_is_tensors_and_plain_values_with_position_and_random_states(straight):
    newest = checkpoint_files(straight / "checkpoints")[0]
    state = torch.load(newest.path, weights_only=True)
    assert (state["epoch"], state["iteration"], state["epoch_length"]) == (3, 12, 4)
    assert set(state["random"][0]) == {"python", "numpy", "torch", "cuda"}
    assert newest.is_intact()


def test_the_last_two_are_kept(straight):
    assert [file.iteration for file in checkpoint_files(straight / "checkpoints")] == [12, 9]


def test_what_others_draw_continues_too(tmp_path):
    def draws(seed: int, max_epochs: int) -> list[float]:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        parts, drawn = tiny_parts(seed), []
        torch.manual_seed(seed)
        handlers = [Checkpoint(tmp_path / "c", parts)]
        engine = tiny_trainer(parts, max_epochs, train_handlers=handlers)
        engine.add_event_handler(
            Events.ITERATION_STARTED,
            lambda: drawn.append([random.random(), np.random.rand(), torch.rand(1).item()]),  # noqa: NPY002
        )
        engine.run()
        return drawn

    draws(1, 1)
    kept = copy.deepcopy(sorted((tmp_path / "c").iterdir()))
    second = draws(2, 2)
    for path in set((tmp_path / "c").iterdir()) - set(kept):
        path.unlink()
    assert draws(3, 2) == second


def test_random_state_repeats_every_generator():
    state = random_state()

    def draw() -> tuple:
        of_numpy = np.random.rand(), np.random.randn()  # noqa: NPY002
        return random.random(), random.gauss(), of_numpy, torch.randn(3).tolist()

    first = draw()
    restore_random_state(state)
    assert draw() == first


@pytest.mark.parametrize("damage", ["a flipped bit", "a missing end", "nothing left"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(straight, tmp_path, caplog, damage):
    stop_at(tmp_path, 10)
    newest, before = checkpoint_files(tmp_path / "checkpoints")
    content = bytearray(newest.path.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 1
    else:
        content = content[: len(content) // 2 if damage == "a missing end" else 0]
    newest.path.write_bytes(content)
    with caplog.at_level(logging.INFO):
        tiny_training(tmp_path, seed=99).run()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([w for w in warnings if newest.path.name in w and "damaged" in w]) == 1
    assert f"continuing from {before.path}" in caplog.text
    assert_equal(weights(tmp_path), weights(straight))
    assert newest.path.with_suffix(".pt.damaged").read_bytes() == content


def test_damage_that_torch_does_not_notice_is_noticed(tmp_path):
    path = write_checkpoint({"a": torch.ones(1000)}, tmp_path, iteration=1)
    content = path.read_bytes()
    i = content.index(torch.ones(3).numpy().tobytes()) + 7
    path.write_bytes(content[:i] + b"\x40" + content[i + 1 :])
    assert checkpoint_files(tmp_path)[0].is_intact() is False


def test_nothing_but_damage_is_refused(tmp_path):
    for i in (1, 2):
        write_checkpoint({"a": i}, tmp_path, iteration=i).write_bytes(b"")
    for _ in range(2):  # who tries again has not agreed to begin anew
        with pytest.raises(PETError, match="all 2 checkpoints are damaged"):
            newest_intact(tmp_path)


def test_leftovers_of_a_kill_are_cleared_and_never_taken(tmp_path):
    folder = tmp_path / "checkpoints"
    save_atomically({}, folder / "iteration-000000099-0123456789abcdef.pt")
    whole = (folder / "iteration-000000099-0123456789abcdef.pt").rename(folder / ".writing-x-iteration-000000099.pt")
    (tmp_path / ".writing-y-model.pt").write_bytes(b"half")
    (tmp_path / ".writing-z-of-somebody-else.pt").write_bytes(b"half")
    assert newest_intact(folder) is None
    tiny_training(tmp_path, 1).run()
    assert not whole.exists()
    assert [path.name for path in tmp_path.glob(".writing-*")] == [".writing-z-of-somebody-else.pt"]


def test_an_empty_or_absent_folder_is_a_beginning(tmp_path):
    assert newest_intact(tmp_path) is None
    assert newest_intact(tmp_path / "absent") is None


def test_pruning_spares_the_newest_and_the_best(tmp_path):
    paths = [write_checkpoint({"a": i}, tmp_path, iteration=i) for i in range(1, 7)]
    prune(paths[-1], keep=2, also=[3])
    assert [file.iteration for file in checkpoint_files(tmp_path)] == [6, 5, 3]


def test_pruning_removes_what_was_counted_in_longer_epochs(tmp_path):
    for i in (2, 3, 8, 9):
        write_checkpoint({"a": i}, tmp_path, iteration=i)
    newest = write_checkpoint({"a": "shorter"}, tmp_path, iteration=3)
    prune(newest, keep=2, also=[9])
    assert [file.path for file in checkpoint_files(tmp_path)][:1] == [newest]
    assert [file.iteration for file in checkpoint_files(tmp_path)] == [3, 2]


class Validation:
    """Handler that stands for a validation at every epoch, with given metrics."""

    def __init__(self, metrics: list[float]) -> None:
        self.metrics = metrics
        self.evaluator = Engine(lambda engine, batch: None)
        self.evaluator.state.metrics = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.validate)

    def validate(self, engine: Engine) -> None:
        self.evaluator.state.epoch = engine.state.epoch
        self.evaluator.state.metrics["psnr"] = self.metrics[engine.state.epoch - 1]


def train_with_metrics(folder: Path, metrics: list[float], **options) -> dict:
    parts = tiny_parts()
    validation = Validation(metrics)
    checkpoint = Checkpoint(
        folder / "checkpoints",
        parts,
        interval=3,
        evaluator=validation.evaluator,
        metric="psnr",
        export={"network": folder / "model.pt"},
    )
    options |= {"style_weight": 0.0, "adversarial_weight": 0.0}
    tiny_trainer(parts, len(metrics), train_handlers=[validation, checkpoint], **options).run()
    return parts


def test_the_best_is_kept_and_exported(tmp_path):
    train_with_metrics(tmp_path, [30.0, 35.0])
    second = weights(tmp_path)
    # Worse, not a number, and as good: the second epoch stays the best, through a resumption too.
    last = train_with_metrics(tmp_path, [30.0, 35.0, 34.0, float("nan"), 35.0, 33.0, 32.0])
    assert_equal(weights(tmp_path), second)
    assert any(not torch.equal(value, second[name]) for name, value in last["network"].state_dict().items())
    files = checkpoint_files(tmp_path / "checkpoints")
    assert [file.iteration // 4 for file in files] == [7, 6, 2]
    best = torch.load(files[-1].path, weights_only=True)
    assert_equal(best["objects"]["network"], second)
    train_with_metrics(tmp_path, [30.0, 35.0, 34.0, float("nan"), 35.0, 33.0, 32.0, 36.0])
    assert [file.iteration // 4 for file in checkpoint_files(tmp_path / "checkpoints")] == [8, 7]
    assert any(not torch.equal(value, second[name]) for name, value in weights(tmp_path).items())


def test_before_any_validation_the_newest_is_exported(tmp_path):
    parts = tiny_parts()
    evaluator = Validation([]).evaluator
    exported = {"network": tmp_path / "model.pt"}
    checkpoint = Checkpoint(tmp_path / "c", parts, evaluator=evaluator, metric="psnr", export=exported)
    tiny_trainer(parts, 2, train_handlers=[checkpoint], style_weight=0.0, adversarial_weight=0.0).run()
    assert_equal(weights(tmp_path), parts["network"].state_dict())


def test_an_export_that_a_kill_prevented_is_made_up_for(tmp_path):
    parts = train_with_metrics(tmp_path, [30.0])
    (tmp_path / "model.pt").unlink()
    train_with_metrics(tmp_path, [30.0])
    assert_equal(weights(tmp_path), parts["network"].state_dict())


def test_checkpoints_of_another_training_are_refused(straight):
    parts = tiny_parts()
    with pytest.raises(PETError, match=r"holds \['average', .*expected \['network'\]"):
        run_with(straight, {"network": parts["network"]})


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    parts = tiny_parts()
    run_with(tmp_path, {"network": parts["network"]})
    with pytest.raises(PETError, match="network is of another training") as caught:
        run_with(tmp_path, {"network": parts["critic"]})
    assert "\n" not in str(caught.value)


def run_with(folder: Path, objects: dict, **options) -> None:
    parts = tiny_parts()
    handlers = [Checkpoint(folder / "checkpoints", objects)]
    tiny_trainer(parts, 1, train_handlers=handlers, style_weight=0.0, adversarial_weight=0.0, **options).run()


def test_another_epoch_length_continues_at_the_start_of_the_epoch(tmp_path, caplog):
    stop_at(tmp_path, 10)
    engine = tiny_training(tmp_path)
    engine.data_loader = tiny_loader(n_items=12)
    engine.state.epoch_length = 6
    epochs = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: epochs.append((e.state.epoch, e.state.iteration)))
    engine.run()
    assert "an epoch was 4 iterations and is 6 now" in caplog.text
    assert epochs == [(3, i) for i in range(13, 19)]


def test_shorter_epochs_go_on_from_their_own_checkpoints(tmp_path):
    """Their iterations have smaller numbers than those of the checkpoints before them."""

    def train(max_epochs: int) -> list[int]:
        engine = tiny_training(tmp_path, max_epochs)
        engine.data_loader = tiny_loader(n_items=4)
        engine.state.epoch_length = 2
        iterations = []
        engine.add_event_handler(Events.ITERATION_STARTED, lambda e: iterations.append(e.state.iteration))
        engine.run()
        return iterations

    stop_at(tmp_path, 8)
    assert train(3) == [5, 6]
    assert checkpoint_files(tmp_path / "checkpoints")[0].iteration == 6
    assert train(4) == [7, 8]


def test_the_best_of_longer_epochs_stays_exported(tmp_path):
    train_with_metrics(tmp_path, [30.0, 35.0])
    best = weights(tmp_path)
    # Epochs of half the length: epoch 4 ends with the number that the best, epoch 2, had.
    train_with_metrics(tmp_path, [30.0, 35.0, 34.0, 33.0], loader=tiny_loader(n_items=4))
    assert_equal(weights(tmp_path), best)


def test_another_process_is_kept_out_until_this_one_ends(tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline.files import locked_folder;"
        "lock = locked_folder(Path(sys.argv[1]), 'training there'); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "checkpoints")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(PETError, match="checkpoints: another run is training there, expected one at a time"):
            tiny_training(tmp_path, 1).run()
        other.kill()
    tiny_training(tmp_path, 1).run()
    assert checkpoint_files(tmp_path / "checkpoints")


def test_saving_leaves_the_old_file_when_it_fails(tmp_path):
    save_atomically({"a": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"a": lambda: None}, tmp_path / "c.pt")
    assert torch.equal(torch.load(tmp_path / "c.pt", weights_only=True)["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    write_checkpoint({"a": 1}, tmp_path, iteration=1)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PETError, match=r"iteration-000000002-\w+\.pt: No space left on device"):
        write_checkpoint({"a": 2}, tmp_path, iteration=2)
    assert [file.iteration for file in checkpoint_files(tmp_path)] == [1]
    assert len(list(tmp_path.iterdir())) == 1
