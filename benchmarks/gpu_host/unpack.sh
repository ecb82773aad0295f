#!/usr/bin/env bash
# unpack.sh PARTS DESTINATION: check and join the parts that pack.py made.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: unpack.sh PARTS DESTINATION" >&2
  exit 2
fi
parts=$(cd "$1" && pwd)
mkdir -p "$2"
(cd "$parts" && sha256sum --check --quiet SHA256SUMS)
cat "$parts"/part.[0-9][0-9][0-9] | xz --decompress --stdout | tar --extract --directory "$2"
echo "now: source $2/tensorrt-host/env.sh"
