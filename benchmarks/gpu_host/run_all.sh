#!/usr/bin/env bash
# Everything that wants a GPU host, in the order of its worth; each step leaves its results in $OUT before the next.
#
#   OUT=results [STEPS="probe tests bench emulated"] [ONLY=resnet50-256] bash benchmarks/gpu_host/run_all.sh [PARTS]
#
# A host that gives only minutes at a time runs the steps in several calls; bench adds to what it finds in $OUT.
# PARTS: the folder of parts that pack.py made; without it, python3 must have TensorRT. Needed beside it:
# build/gpu-models (python -m tests.gpu.prepare) and build/gpu-bench (python -m benchmarks.gpu_host.prepare).
set -uo pipefail
cd "$(dirname "$0")/../.."
: "${OUT:?set OUT to a folder for the results}"
mkdir -p "$OUT"
log() { echo "$(date +%T) $*" | tee -a "$OUT/steps.log"; }
steps=${STEPS:-probe tests bench emulated}
step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2
  [[ " $steps " == *" $name "* ]] || return 0
  shift 2
  log "$name begins"
  timeout --signal=INT --kill-after=20 "$limit" "$@" >"$OUT/$name.log" 2>&1
  log "$name ended with $?"
}
if [ $# -ge 1 ]; then
  where=${UNPACKED:-/tmp/patrol-gpu}
  [ -f "$where/tensorrt-host/env.sh" ] || bash benchmarks/gpu_host/unpack.sh "$1" "$where"
  # shellcheck disable=SC1091
  source "$where/tensorrt-host/env.sh"
fi
nvidia-smi >"$OUT/nvidia-smi.txt" 2>&1
step probe 180 python3 -m benchmarks.gpu_host.probe "$OUT" build/gpu-models
step tests 900 python3 -m pytest tests/gpu -q --junitxml="$OUT/tests.xml" -o junit_family=xunit1
# shellcheck disable=SC2086
step bench 1500 python3 -m benchmarks.gpu_host.bench build/gpu-bench "$OUT" ${ONLY:+--only $ONLY}
step emulated 600 python3 -m benchmarks.gpu_host.bench build/gpu-bench "$OUT" --emulate orin-nano-8gb \
  --only ${ONLY:-resnet18-128}
rm -rf "$OUT/engines" "$OUT"/*.plan "$OUT"/*.plan.json "$OUT/timing.bin" "$OUT/timing.bin.lock"
tail -n 3 "$OUT"/*.log
