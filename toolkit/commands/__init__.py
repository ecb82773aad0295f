"""Commands of ``patrol-edge`` that are more than one stage; each module adds its own to the application."""

from __future__ import annotations

import typer

from toolkit.commands import check, init, profile, report
from toolkit.commands.stage import RunStages

OWN_STAGES = ("report", "check", "profile")
"""Stages whose command does more than to run them, so that it is written here."""


def register(app: typer.Typer, run_stages: RunStages) -> None:
    """Add the commands.

    Args:
        app: the application.
        run_stages: runs a configuration up to a stage and returns its run folder.
    """
    init.register(app)
    profile.register(app, run_stages)
    report.register(app, run_stages)
    check.register(app, run_stages)


__all__ = ["OWN_STAGES", "RunStages", "register"]
