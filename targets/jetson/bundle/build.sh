#!/bin/sh
# Builds and verifies the engine of this bundle on a Jetson. Needs the system's python3 (3.8 or newer) and trtexec;
# with TensorRT 10 and newer "patrol-edge engine" builds where that package is installed, and trtexec where not; the
# package also measures where trtexec is missing.
#   ./build.sh            build if needed, verify against the test vectors
#   ./build.sh check      verify the files and this device, build nothing
#   ./build.sh profile    measure latency and power of the engine in use
#   ./build.sh rollback   take the previous engine into use again
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
command -v python3 >/dev/null 2>&1 || { echo "error: python3 is missing; install it with: sudo apt install python3" >&2; exit 2; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' || {
    echo "error: python3 is older than 3.8; this bundle needs JetPack 5 or newer" >&2; exit 2; }
cd "$here"
PYTHONDONTWRITEBYTECODE=1 exec python3 -m device "$@"
