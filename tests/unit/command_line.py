"""The command line, run in this process."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from dataclasses import dataclass
from unittest import mock

from toolkit import cli


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Of the log."""
        return tuple(self.err.splitlines())

    @property
    def log(self) -> str:
        """Without a line end at its end."""
        return "\n".join(self.lines)

    def one_line_error(self) -> str:
        """The last line of a refused command, after a look at what may not stand there."""
        assert self.code == 2, self.log
        assert "Traceback" not in self.log
        errors = [line for line in self.lines if line.startswith("error PE")]
        assert len(errors) == 1 and self.lines[-1] == errors[0], self.log
        return errors[0]


def patrol_edge(*arguments: object) -> Outcome:
    """One command with a fresh set of log handlers; the old ones are put back afterwards."""
    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    handlers, level, code = list(root.handlers), root.level, 0
    argv = ["patrol-edge", *map(str, arguments)]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", argv),
        ):
            cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return Outcome(code, out.getvalue(), err.getvalue())
