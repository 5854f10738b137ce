"""`python -m pipeline.cli.doors` is what a container runs: BIDS app, module of a router, or command of `unipet`."""

import os
import sys

from typer.main import get_command

from pipeline.cli import app, main
from pipeline.doors import command_of

commands = get_command(app).commands  # type: ignore[attr-defined]
sys.argv[1:] = command_of(sys.argv[1:], os.environ, commands=commands)
main()
