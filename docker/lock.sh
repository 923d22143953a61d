#!/usr/bin/env bash
# Writes the packages that the images install, with hashes, from setup.py and docker/*.in: requirements-IMAGE.txt lists
# wheels, source-IMAGE.txt the packages without one, which are compiled. Versions stay unless setup.py requires others;
# `--upgrade` updates them. UV is the command that runs uv.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # image, extra, Python, platform, what has no wheel
    local image=$1 extra=$2 python=$3 platform=$4 compiled=$5 all
    all=$(mktemp)
    cat "docker/requirements-$image.txt" "docker/source-$image.txt" > "$all" 2> /dev/null || true
    ${UV:-uv} pip compile --quiet "${arguments[@]}" --generate-hashes --no-annotate --no-header \
        --python-version "$python" --python-platform "$platform" --extra "$extra" --constraint constraints.txt \
        setup.py "docker/$image.in" --output-file "$all"
    rm -f "docker/source-$image.txt"
    awk -v compiled=" $compiled " -v image="$image" '
        /^[^ ]/ {
            split($1, name, "=")
            file = "docker/" (index(compiled, " " name[1] " ") ? "source-" : "requirements-") image ".txt"
        }
        { print > file }' "$all"
    rm "$all"
}

arguments=("$@")
lock cpu cpu 3.11 x86_64-manylinux_2_28 ""
lock gpu workstation 3.11 x86_64-manylinux_2_28 "pycuda"
lock jetson jetson 3.8 aarch64-manylinux_2_31 "pycuda"
