#!/usr/bin/env bash
# A command of this project under a host's own Python, which has torch with CUDA but not all that the project needs.
#
#   bash benchmarks/gpu_host/train.sh WHEELS COMMAND...
#
# WHEELS: a folder of wheels for that Python, fetched where there is a package index (docs/gpu-host.md has the command).
# They are unpacked beside the host's packages and change none of them. In COMMAND, `patrol-edge` stands for the
# project's command line; anything else is run as it is, e.g. `python3 -m benchmarks.privacy_matrix ...`.
set -euo pipefail
wheels=$(cd "${1:?folder of wheels}" && pwd)
shift
cd "$(dirname "$0")/../.."
where=${UNPACKED:-/tmp/patrol-training}
mkdir -p "$where"
for wheel in "$wheels"/*.whl; do
  name=$(basename "$wheel")
  [ -e "$where/.$name" ] && continue
  python3 -m zipfile -e "$wheel" "$where"
  touch "$where/.$name"
done
export PYTHONPATH="$PWD:$where${PYTHONPATH:+:$PYTHONPATH}"
export OMP_WAIT_POLICY=PASSIVE
if [ "${1:?a command}" = patrol-edge ]; then
  shift
  exec python3 -m toolkit.cli "$@"
fi
exec "$@"
