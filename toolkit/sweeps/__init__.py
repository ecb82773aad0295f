"""Sweeps: many networks trained and attacked as independent jobs, into one table."""
