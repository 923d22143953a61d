#!/usr/bin/env bash
# lease.sh PARTS COUNT WORK SECONDS [STEP ...]: unpacks the COUNT parts of pack.sh into WORK as they arrive in PARTS, and
# runs the steps one after the other, until SECONDS after the start. A step is a part of gpu_check with its options, as
# "build --engine 'fast planes FP16'"; the default steps are below.
#
# One after the other: builds that run beside others, or beside a training, take three times as long, and choose their
# kernels by timings that are not true.
#
# A part must be moved into PARTS whole (mv within one file system). TORCH_PYTHON has PyTorch (default: python3); the
# kit's python3.8 has TensorRT. The results are in WORK/out; WORK/out.tgz has them without engines and planes, rewritten
# after each step. A step that is not over when the time is up is ended, so make SECONDS a little less than the lease
# has left. Called again, it resumes with the parts that arrived and with what was built, measured and trained.
set -uo pipefail
parts=$1 count=$2 work=$(mkdir -p "$3" && cd "$3" && pwd) seconds=$4
shift 4
tree=$work/tree out=$work/out torch_python=${TORCH_PYTHON:-python3}
[[ $torch_python != */* ]] || torch_python=$(cd "$(dirname "$torch_python")" && pwd)/$(basename "$torch_python")
mkdir -p "$out"
left() { echo $((seconds - SECONDS)); }

unpack() {
  for index in $(seq -f %02.0f 0 $((count - 1))); do
    until [ -e "$parts/part.$index" ]; do
      [ "$(left)" -gt 0 ] || { echo "part.$index did not arrive in time"; exit 1; } >&2
      sleep 0.5
    done
    cat "$parts/part.$index"
  done | tar -C "$work" -xf - && cat "$work"/kit.part.* | xz -dc | tar -C "$work" -xf - && touch "$work/unpacked"
}

keep() {
  tar -C "$work" --exclude=engines --exclude=fused --exclude=planes -czf "$work/out.part" out &&
    mv "$work/out.part" "$work/out.tgz"
}

gpu_check() { # PYTHON ARGUMENT ...: ended when the time is up; not started then, since to timeout 0 is no limit
  local limit
  limit=$(left)
  [ "$limit" -gt 0 ] &&
    (cd "$tree" && PYTHONPATH=$tree timeout -k 10 "$limit" "$1" -m irvis.benchmarks.gpu_check "$out" "${@:2}")
}

step() { # ARGUMENT ..., as for gpu_check
  echo "$SECONDS s: $*"
  # The copied interpreter does not find its own libpython.
  LD_LIBRARY_PATH=$work/kit/python/lib gpu_check "$work/kit/python3.8" "$@" --data data --models models \
    --torch-python "$torch_python" --seconds "$(left)" >> "$out/check.log" 2>&1 ||
    if [ "$(left)" -gt 0 ]; then tail -n 1 "$out/check.log"; else echo "the time is up"; fi
}

quality() { # of what accuracy fused: needs scikit-image, as TORCH_PYTHON's machine has it, and no GPU
  gpu_check "$torch_python" quality >> "$out/quality.log" 2>&1
}

if [ ! -e "$work/unpacked" ]; then
  unpack || { keep; echo "the parts could not be unpacked"; exit 1; }
fi
if [ $# = 0 ]; then
  read -ra runs < "$tree/models/runs.txt"
  # Most important first: what the pages report for an older model, then what has not run on a GPU yet.
  # latency times each size once, so what it compares is built before it; the probes have the profiles of their builds.
  set -- "train --run ${runs[0]}" \
    "build --engine 'fast planes FP16' --engine 'deploy planes FP16' --engine 'SeAFusion planes FP16'" latency accuracy \
    tests "build --engine 'plain planes FP16 without pins'" runtime endurance \
    "build --engine 'probe attention' --engine 'probe attention folded' --engine 'probe attention grouped'" \
    "build --engine 'probe DACB' --engine 'probe DACB pooled' --engine 'probe DACB columns first'" peaks \
    "train $(printf -- '--run %s ' "${runs[@]}")" build
fi
measuring=
for arguments in "$@"; do
  [ "$(left)" -gt 0 ] || break
  eval "step $arguments"
  if [[ $arguments = accuracy* ]]; then
    quality & measuring=$!
  fi
  keep
done
[ -z "$measuring" ] || wait $measuring
keep
