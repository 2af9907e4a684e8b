"""What tests of several verbs use."""

import pytest

from scaling.cli.app import main


@pytest.fixture
def run(capsys):
    """Call the command line; it returns the exit code, stdout and stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call
