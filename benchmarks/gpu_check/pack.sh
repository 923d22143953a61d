#!/usr/bin/env bash
# pack.sh OUT DATA TEACHERS [KIT]: everything that a GPU machine without network needs, as OUT/part.00, part.01, ...
#
# DATA has TNO, RoadScene and MSRS; TEACHERS has NAME.safetensors of the published networks; KIT has kit.part.*, an
# interpreter with TensorRT 8.5.2 that lease.sh unpacks. PYTHON has irvis and PyTorch; RUNS lists what to train, as for
# gpu_train; PART is a part's largest size. What training needs comes first: on a slow line it can be started by hand
# while the rest is arriving.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd) data=$(cd "$2" && pwd) teachers=$(cd "$3" && pwd)
kit=${4:+$(cd "$4" && pwd)} python=${PYTHON:-python3}
[[ $python != */* ]] || python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")/../.."
here=$PWD tree=$out/tree models=$out/tree/models
read -ra runs <<< "${RUNS:-paper-SHIP benchmarks/gpu_check/runs.json}"
rm -rf "$tree" "$out"/part.*
mkdir -p "$models" "$tree/irvis" "$tree/data"

git ls-files -z student export runtime benchmarks | tar --null -cf - -T - | tar -C "$tree/irvis" -xf -
git ls-files -z tests pyproject.toml | tar --null -cf - -T - | tar -C "$tree" -xf -
cp "$teachers"/*.safetensors "$models"
for index in "${!runs[@]}"; do
  if [[ ${runs[index]} == *.json ]]; then cp "${runs[index]}" "$models"; runs[index]=models/$(basename "${runs[index]}"); fi
done
echo "${runs[*]}" > "$models/runs.txt"
(cd "$tree" && "$python" -m irvis.benchmarks.gpu_train pack models/crops.npz "$data/MSRS/train" --runs "${runs[@]}")

"$python" -m irvis.runtime.cli export "$here/runtime/models/student.safetensors" --plain -o "$models/student_plain.onnx"
peers=()
for name in SeAFusion SFDFusion SHIP DATFuse; do peers+=("$name=$teachers/$name.safetensors"); done
"$python" -m irvis.benchmarks.peers.export -o "$models" "${peers[@]}" || echo "continuing without those"
"$python" -m irvis.benchmarks.gpu_check.probes "$models"

# The pairs that engines are tested on, and every third of those that INT8 is calibrated on.
tar -C "$data" -cf - TNO/test RoadScene/test MSRS/test | tar -C "$tree/data" -xf -
(cd "$data" && for kind in ir vi; do find "MSRS/train/$kind" -type f | sort | awk 'NR % 3 == 1'; done | tar -cf - -T -) |
  tar -C "$tree/data" -xf -

# pytest, hypothesis and NVML's binding, which measures energy, for interpreters that lack them: pure Python, the newest
# of each that supports 3.8.
"$python" -m pip install --quiet --disable-pip-version-check --target "$tree" --only-binary=:all: --python-version 3.8 \
  --implementation py --abi none --platform any 'pytest<8.4' 'pluggy<1.6' 'iniconfig<2.2' 'packaging<26' 'attrs<25.4' \
  hypothesis nvidia-ml-py
find "$tree" -name __pycache__ -prune -exec rm -rf {} +

kits=()
if [ -n "$kit" ]; then kits=(-C "$kit"); for part in "$kit"/kit.part.*; do kits+=("$(basename "$part")"); done; fi
cd "$out"
mapfile -t others < <(find tree -mindepth 1 -maxdepth 1 ! -name irvis ! -name models ! -name pyproject.toml)
shopt -s nullglob # there may be no JSON file of runs
first=(tree/irvis tree/models/runs.txt tree/models/*.json tree/models/crops.npz tree/models/*.safetensors)
first+=(tree/pyproject.toml) # once it is there, so is all that training needs
tar -cf - "${first[@]}" "${others[@]}" tree/models/*.onnx "${kits[@]}" | split -b "${PART:-52M}" -d - part.
ls -l part.*
