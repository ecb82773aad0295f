"""Errors of the surgery."""

from toolkit.errors import ModelError


class PlanError(ModelError):
    """A plan is malformed or belongs to another network."""


class SurgeryError(ModelError):
    """A removal cannot be done exactly; nothing was changed."""
