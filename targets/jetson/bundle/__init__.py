"""The deployment bundle: one archive that a Jetson builds, verifies and runs its engine from."""

from targets.jetson.bundle.write import BundleSpec, TestVector, manifest_of, write_bundle

__all__ = ["BundleSpec", "TestVector", "manifest_of", "write_bundle"]
