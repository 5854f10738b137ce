"""One image, three doors: what a call of the container means."""

import pytest

from pipeline.doors import command_of

COMMANDS = ("denoise", "bids-app", "module")
FOLDERS = {"MERCURE_IN_DIR": "/in", "MERCURE_OUT_DIR": "/out"}


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ("denoise scan out", {}, "denoise scan out"),
        ("--version", {}, "--version"),
        ("", {}, ""),
        ("", FOLDERS, "module"),
        ("", {"MERCURE_IN_DIR": "/in"}, ""),
        ("--version", FOLDERS, "--version"),
        ("data out participant", {}, "bids-app data out participant"),
        ("/data /out group --method identity", {}, "bids-app /data /out group --method identity"),
        ("/data /out participants", {}, "bids-app /data /out participants"),  # which says what it expects
        ("denoise scan participant", {}, "denoise scan participant"),
    ],
)
def test_what_a_call_means(words, environment, expected):
    assert command_of(words.split(), environment, commands=COMMANDS) == expected.split()
