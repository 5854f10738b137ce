"""What version 0.2.0 wrote is refused by name: its style read five statistics of the noise, and today's reads seven."""

import gzip
from pathlib import Path

import pytest

from pipeline.errors import PETError
from pipeline.inference import load_weights
from pipeline.networks import UniPET

FILES = Path(__file__).with_name("version_0_2_0")


def test_weights_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(gzip.decompress((FILES / "model.pt.gz").read_bytes()))
    network = UniPET(2, 1, resolution_factor=2, style="statistics", style_width=2, latent_size=2, tissue_threshold=0.1)
    with pytest.raises(PETError, match=r"model.pt: not weights of this network \(.*\)"):
        load_weights(network, path, suv_scale=2.0)
