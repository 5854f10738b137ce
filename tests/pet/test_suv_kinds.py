"""Every kind of series of the comparison in docs/suv.md: the known SUV where there is one, else a refusal."""

import pytest

from pipeline.pet import PETError, read_pet
from studies.suv_judgement import judge
from studies.suv_kinds import KINDS
from studies.suv_readers import Image

SEVERAL = {"two series in the folder", "two dynamic frames", "two gated frames"}
"""More than one volume: each has its SUV, but a folder is read as one."""


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.suv and kind.name not in SEVERAL], ids=lambda k: k.name
)
def test_known_suv(kind, tmp_path):
    series = read_pet(kind.write(tmp_path / "series"))
    judgement = judge([Image(series.suv.astype(float), series.affine)], kind, gives_suv=True)
    assert judgement.verdict == "right", judgement.figure


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.suv or kind.name in SEVERAL], ids=lambda k: k.name)
def test_refusals(kind, tmp_path):
    folder = kind.write(tmp_path / "series")
    with pytest.raises(PETError, match=r"expected|cannot be computed") as refusal:
        read_pet(folder)
    assert "\n" not in str(refusal.value)
