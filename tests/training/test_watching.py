"""What a person sees of a training: lines, table, figure."""

import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from tiny_training import tiny_parts, tiny_trainer

from pipeline.training import EpochLog, ProgressFigure, ValidationPicture
from pipeline.training.progress import ProgressRow, duration, progress_rows
from pipeline.training.progress_figure import coronal_projections
from tests.described_tables import check_dictionaries


class Validation:
    """Handler that stands for a validation every second epoch; its scan is a bright dot in one corner."""

    def __init__(self) -> None:
        self.volume = torch.zeros(1, 1, 6, 5, 4)
        self.volume[0, 0, 1, 2, 3] = 2.0
        self.evaluator = Engine(lambda engine, batch: {k: self.volume * n for n, k in enumerate(KEYS)})
        self.evaluator.state.metrics = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), self.validate)

    def validate(self, engine: Engine) -> None:
        self.evaluator.run([0])
        self.evaluator.state.epoch = engine.state.epoch
        self.evaluator.state.metrics["psnr"] = 30.0 + engine.state.epoch


KEYS = ("image", "pred", "label")


@pytest.fixture
def watched(tmp_path, caplog):
    """A training of four epochs with a validation in the second and fourth, and everything that watches."""
    validation = Validation()
    picture = ValidationPicture(validation.evaluator, black=4.0)
    parts = tiny_parts()
    handlers = [
        validation,
        EpochLog(tmp_path / "progress.tsv", stage="UniPET", evaluator=validation.evaluator),
        ProgressFigure(tmp_path / "progress.png", table=tmp_path / "progress.tsv", stage="UniPET", picture=picture),
    ]
    with caplog.at_level(logging.INFO):
        tiny_trainer(parts, 4, style_weight=0.0, train_handlers=handlers).run()
    return tmp_path


def test_a_line_per_epoch_with_losses_metrics_and_time_left(watched, caplog):
    lines = [r.getMessage() for r in caplog.get_records("setup") if r.name == "pipeline.training.progress"]
    assert [line.split("  ")[0] for line in lines] == [f"UniPET {i}/4" for i in (1, 2, 3, 4)]
    assert ["psnr" in line for line in lines] == [False, True, False, True]
    assert all(line.endswith(" left") for line in lines)
    assert lines[-1].endswith("  0 s left")


def test_the_table_has_the_same_values(watched):
    rows = list(progress_rows(watched / "progress.tsv"))
    assert {row.name for row in rows} == {"loss", "critic", "reconstruction", "adversarial", "psnr"}
    assert [(row.epoch, row.value) for row in rows if row.name == "psnr"] == [(2, 32.0), (4, 34.0)]
    assert [row.epoch for row in rows if row.name == "loss"] == [1, 2, 3, 4]
    check_dictionaries(watched, n_tables=1)


def test_the_mean_of_a_loss_counts_the_iterations_that_had_it(tmp_path):
    values = [{"loss": 1.0}, {"loss": 2.0, "losses": {"late": 5.0}}, {"loss": 6.0, "losses": {"late": 7.0}}]
    engine = Engine(lambda engine, batch: values[batch])
    EpochLog(tmp_path / "t.tsv", stage="s").attach(engine)
    engine.run(range(3))
    assert {row.name: row.value for row in progress_rows(tmp_path / "t.tsv")} == {"loss": 3.0, "late": 6.0}


def test_a_row_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "t.tsv").write_text("a\t1\t2.0\tloss\t0.5\na\t2\t2.0\tlo")
    assert list(progress_rows(tmp_path / "t.tsv")) == [ProgressRow("a", 1, 2.0, "loss", 0.5)]
    assert list(progress_rows(tmp_path / "absent.tsv")) == []


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3570, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations_read_as_people_write_them(seconds, expected):
    assert duration(seconds) == expected


def test_projections_are_dark_where_the_uptake_is_the_head_is_up_and_right_is_left():
    volume = np.zeros((6, 5, 4))
    volume[4, 2, 3] = 2.0  # near the patient's right, at the head
    pixels = coronal_projections([volume, volume * 4], black=4.0)
    assert pixels.shape == (4, 12)
    expected = np.ones((4, 12), dtype=np.float32)
    expected[0, 1], expected[0, 7] = 0.5, 0.0
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("items", "shown"), [([0, 1, 3, 4], 0.25), ([0, 1], 0.75)])
def test_the_picture_is_that_of_the_chosen_item_or_of_the_last(items, shown):
    evaluator = Engine(lambda engine, batch: {key: torch.full((1, 1, 2, 2, 2), float(batch)) for key in KEYS})
    picture = ValidationPicture(evaluator, item=2, black=4.0)
    evaluator.run(items)
    assert np.all(picture.pixels == shown)


def test_the_figure_is_rewritten_whole_at_each_validation(watched):
    with Image.open(watched / "progress.png") as image:
        image.verify()
    assert not list(watched.glob(".writing-*"))


def test_the_figure_leaves_no_global_state(watched):
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []
