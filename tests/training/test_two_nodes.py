"""The batch file of docs/deploy.md on two nodes of this machine: a node is killed, the job submitted again.

SLURM itself is played by two small programs, which start one task a node as `srun` does.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.interop.archives import free_ports

SCONTROL = "#!/bin/sh\necho 127.0.0.1\necho 127.0.0.1\n"

SRUN = """#!{python}
import os, subprocess, sys, time
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
nodes = []
for number in range(2):
    environment = os.environ | {{"SLURM_NODEID": str(number)}}
    nodes.append(subprocess.Popen(command, env=environment, start_new_session=True))
    with open(os.environ["NODES"], "a") as file:
        file.write(f"{{nodes[-1].pid}}\\n")
while all(node.poll() in (None, 0) for node in nodes) and any(node.poll() is None for node in nodes):
    time.sleep(0.1)
time.sleep(1)  # as --kill-on-bad-exit, which waits a little
for node in nodes:
    if node.poll() is None:
        os.killpg(node.pid, 9)
sys.exit(any(node.wait() for node in nodes))
"""

UNIPET = '#!/bin/sh\nexec {python} -m unipet "$@"\n'

TINY = {
    "n_patches": "8",
    "batch_size": "4",
    "patch_size": "[16,16,16]",
    "network_def#channels": "8",
    "network_def#n_blocks": "2",
    "pretrain#max_epochs": "2",
    "train#max_epochs": "2",
    "train#trainer#critic_warmup": "0",
    "train#critic#widths": "[4,4]",
    "val_interval": "1",
    "stage#iterations": "1",
}


class Job:
    """The batch file, submitted."""

    def __init__(self, repository: Path, programs: Path, output: Path, data: list[str]) -> None:
        self.nodes = output.with_name(f"{output.name}_nodes")
        self.nodes.unlink(missing_ok=True)
        settings = [word for key, value in TINY.items() for word in (f"--{key}", value)]
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        (port,) = free_ports(1)
        environment = {"PATH": path, "PYTHONPATH": str(repository), "NODES": str(self.nodes)}
        environment |= {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NNODES": "2", "MASTER_PORT": str(port)}
        self.log = output.with_name(f"{output.name}.log").open("a")
        self.process = subprocess.Popen(
            ["bash", repository / "docs" / "slurm" / "train.sbatch", "--output_dir", output, *data, *settings],
            env=os.environ | environment,
            cwd=output.parent,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> int:
        """Wait for the end."""
        with self.log:
            return self.process.wait(timeout=240)

    def kill_node_after(self, number: int, checkpoint: Path) -> int:
        """Kill all of a node with SIGKILL once there is a first checkpoint in a folder; return how the job ended."""
        deadline = time.monotonic() + 200
        while not list(checkpoint.glob("*.pt")):
            assert self.process.poll() is None, "the job ended before it was killed"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.01)
        os.killpg(int(self.nodes.read_text().split()[number]), signal.SIGKILL)
        return self.wait()


@pytest.fixture
def programs(tmp_path) -> Path:
    """Return a folder of the programs that the batch file calls."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN), ("unipet", UNIPET)):
        (folder / name).write_text(text.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to kill")
def test_two_nodes_killed_and_submitted_again_end_with_the_weights_of_an_undisturbed_job(
    repository, programs, data, tmp_path
):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert Job(repository, programs, undisturbed, data).wait() == 0, (tmp_path / "undisturbed.log").read_text()[-3000:]
    # The second node in the first stage, then the first node, the one that writes, in the second stage.
    assert Job(repository, programs, killed, data).kill_node_after(1, killed / "bdn") != 0
    assert not (killed / "model.pt").exists()
    assert Job(repository, programs, killed, data).kill_node_after(0, killed / "unipet") != 0
    assert Job(repository, programs, killed, data).wait() == 0, (tmp_path / "killed.log").read_text()[-3000:]
    assert "continuing from" in (tmp_path / "killed.log").read_text()
    expected, found = (torch.load(folder / "model.pt", weights_only=True) for folder in (undisturbed, killed))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert not list(killed.rglob(".writing-*"))
