#!/usr/bin/env bash
# lease.sh PARTS COUNT WORK SECONDS: unpacks the COUNT parts of pack.sh into WORK as they arrive in PARTS, and uses the
# GPU for SECONDS: trains while parts are arriving (by default runs.json, the student for 20,000 more steps and the fast
# one as many with it as its teacher, then the paper's run), then runs a queue below, then trains on until the end.
#
# QUEUE=timed, the default, stops the training before the first build, since builds time their kernels. QUEUE=untimed
# lets it go on, and beside it checks what needs no timings: tests, accuracy, endurance. Its engines are not the fastest.
# TRAIN_OPTIONS are of gpu_train (default: --compile).
#
# A part must be moved into PARTS whole (mv within one file system). TORCH_PYTHON has PyTorch (default: python3); the
# kit's python3.8 has TensorRT. The results are in WORK/out; WORK/out.tgz has them without engines and planes, rewritten
# after each step. A step that is not over when the time is up is ended, so make SECONDS a little less than the lease
# has left. Called again, it resumes with the parts that arrived and with what was built, measured and trained.
set -uo pipefail
parts=$1 count=$2 work=$(mkdir -p "$3" && cd "$3" && pwd) seconds=$4 queue=${QUEUE:-timed} training=
train_options=${TRAIN_OPTIONS:---compile}
[[ $queue = timed || $queue = untimed ]] || { echo "QUEUE must be timed or untimed. Got $queue" >&2; exit 2; }
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

train() { # until the end or SIGTERM; the states are kept for the next time
  cd "$tree" && read -ra runs < models/runs.txt && PYTHONPATH=$tree exec "$torch_python" \
    -m irvis.benchmarks.gpu_train run models/crops.npz "$out/train" --runs "${runs[@]}" --teachers models $train_options \
    --seconds "$(left)" >> "$out/train.log" 2>&1
}

start_training() {
  train & training=$!
}

stop_training() {
  kill -TERM "$training" 2> /dev/null
  wait "$training"
  training=
}

keep() { # may run twice at once, and while files change, which is tar's exit code 1
  local part
  part=$(mktemp "$work/out.XXXXXX")
  tar -C "$work" --exclude=engines --exclude=fused --exclude=planes -czf "$part" out 2> /dev/null
  [ $? -le 1 ] && mv "$part" "$work/out.tgz"
}

gpu_check() { # PYTHON ARGUMENT ...: ended when the time is up; not started then, since to timeout 0 is no limit
  local limit
  limit=$(left)
  [ "$limit" -gt 0 ] &&
    (cd "$tree" && PYTHONPATH=$tree timeout -k 10 "$limit" "$1" -m irvis.benchmarks.gpu_check "$out" "${@:2}")
}

check() { # PART [OPTION ...], as for gpu_check
  [ "$(left)" -gt 0 ] || return
  echo "$SECONDS s: $*"
  gpu_check "$work/kit/python3.8" "$@" --data data --models models --torch-python "$torch_python" \
    --seconds "$(left)" >> "$out/check.log" 2>&1 ||
    if [ "$(left)" -gt 0 ]; then tail -n 1 "$out/check.log"; else echo "the time is up"; fi
  keep
}

quality() { # of what accuracy fused: needs scikit-image, as TORCH_PYTHON's machine has it, and no GPU
  gpu_check "$torch_python" quality >> "$out/quality.log" 2>&1
}

build() { # NAME ...: these engines, one after the other
  local names=()
  for name in "$@"; do names+=(--engine "$name"); done
  check build "${names[@]}"
}

# Most important first in both queues: what the pages report for an older model, then what has not run on a GPU yet.

timed() { # the tests, which build some twenty engines, would take the time of all that follows them
  build "fast planes FP16" "fast frames FP16"
  check accuracy
  quality & measuring=$!
  build "deploy planes FP16" "probe attention" "probe attention folded" "probe attention grouped"
  wait $measuring
  check latency
  check peaks
  check runtime
  build "probe attention grams by a product" "probe attention grams in two steps" "probe DACB" "probe DACB pooled" \
    "probe DACB columns first" "probe DACB by a product" "fast planes INT8" "plain planes FP16"
  check endurance
  check tests
  check build # all the others
}

untimed() {
  build "fast planes FP16"
  check accuracy & measuring=$!
  check tests
  wait $measuring
  quality & measuring=$!
  check endurance
  wait $measuring
  build "deploy planes FP16" "fast frames FP16" "deploy planes FP16 without pins" "plain planes FP16" \
    "plain planes FP16 without pins"
  check accuracy
  quality
  check build
}

if [ ! -e "$work/unpacked" ]; then
  unpack & unpacking=$!
  until [ -e "$tree/pyproject.toml" ] || ! kill -0 $unpacking 2> /dev/null; do sleep 0.5; done # packed after the crops
  start_training
  wait $unpacking || { stop_training; keep; echo "the parts could not be unpacked"; exit 1; }
elif [ "$queue" = untimed ]; then
  start_training
fi
[ "$queue" = untimed ] || [ -z "$training" ] || stop_training # builds and timings need the GPU to themselves
keep

$queue

if [ -z "$training" ] && [ "$(left)" -gt 0 ]; then start_training; fi
[ -z "$training" ] || wait "$training"
trained=$?
keep
exit $trained
