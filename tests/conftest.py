"""Settings that every test needs before heavy libraries are imported."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
