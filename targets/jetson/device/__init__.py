"""What travels to a device: detection, telemetry, build and verification. Standard library of Python 3.8 only.

The folder is imported as ``targets.jetson.device`` on a host and under any other name from a bundle, so its
modules import each other relatively and nothing else of this project.
"""
