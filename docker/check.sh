#!/usr/bin/env bash
# Checks as much of the images as is possible without their base images and without Docker.
#   docker/check.sh --quick            lints them; finds a wheel for the Jetson for each package that is not compiled
#   docker/check.sh [cpu] [gpu] [jetson] the same; builds these with Debian's buildah, as root, and runs irvis in them
# Each base image's stand-in is described where it is made, below. PYTHON38 is an interpreter that can be copied.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.venv-tools/bin
work=build/docker
mkdir -p "$work"

say() { printf '\n== %s\n' "$*"; }

lint() {
    say "hadolint"
    $tools/hadolint --config docker/hadolint.yaml docker/*.Dockerfile
}

# Ubuntu 20.04 has glibc 2.31, which runs wheels of manylinux up to that number.
find_wheels() {
    say "wheels for Python 3.8 on aarch64"
    local platforms=(--platform manylinux2014_aarch64) minor
    for minor in $(seq 17 31); do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
    $tools/pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest "$work/aarch64" \
        --python-version 3.8 --implementation cp --abi cp38 --abi abi3 --abi none "${platforms[@]}" \
        -r docker/requirements-jetson.txt
    (cd "$work/aarch64" && ls -- *.whl)
    grep -ho '^[a-z-]*==[^ ]*' docker/source-jetson.txt | sed 's/$/: no wheel, compiled in the image/'
}

install_tools() {
    command -v buildah debootstrap > /dev/null && return
    apt-get update -qq
    apt-get install -qq --yes --no-install-recommends buildah debootstrap > /dev/null
}

# In a separate store, where the stand-ins' names cannot clash with real images.
engine() { buildah --root "$PWD/$work/store" --runroot "$PWD/$work/run" "$@"; }

build() { # image, build arguments
    local image=$1
    shift
    say "building irvis:$image"
    local start=$SECONDS
    engine build --pull=never --isolation chroot --format docker --layers=false --tag "irvis:$image" \
        --file "docker/$image.Dockerfile" "$@" . > "$work/$image.log" 2>&1 || { tail -40 "$work/$image.log"; return 1; }
    echo "$((SECONDS - start)) s, $(engine images --format '{{.Size}}' "localhost/irvis:$image"); $work/$image.log"
}

inside() { # image, command: as the image's own user, in its folder
    local container status=0
    container=$(engine from --pull=never "localhost/irvis:$1")
    engine run --isolation chroot "$container" -- "${@:2}" || status=$?
    engine rm "$container" > /dev/null
    return $status
}

health() { # image: its HEALTHCHECK, once
    local check
    mapfile -t check < <(
        engine inspect --type image --format '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' \
            "localhost/irvis:$1" | sed '/^CMD$/d; /^$/d'
    )
    inside "$1" "${check[@]}"
}

use() { # image: fuses in it; starts the live view, requests the page as compose.yaml does, and ends it with SIGTERM
    say "using irvis:$1"
    inside "$1" sh -ec '
        id; irvis --version; du -sh /opt/irvis
        irvis samples samples && irvis fuse samples/ir samples/vi -o fused && ls fused
        ! touch /opt/irvis/x 2>/dev/null
        irvis run --infrared test:// --visible test:// --web 127.0.0.1:18080 > run.log 2>&1 &
        for _ in $(seq 60); do sleep 1; python3 -c "'"$(page_check 18080)"'" 2>/dev/null && break; done
        python3 -c "'"$(page_check 18080)"'" && echo "the page answers"
        kill -TERM $! && wait $! || echo "ended by SIGTERM with $?"; tail -3 run.log'
}

page_check() { sed -n 's/.*"\(import urllib.request.*\)".*/\1/p' docker/compose.yaml | head -1 | sed "s/8080/$1/"; }

# For python:3.11.14-slim-bookworm: Debian 12 with its own Python 3.11, and this machine's certificates and pip.conf.
make_python() {
    local name=docker.io/library/python:3.11.14-slim-bookworm container root
    engine inspect --type image "$name" > /dev/null 2>&1 && return
    say "making a stand-in for $name"
    container=$(engine from scratch)
    root=$(engine mount "$container")
    debootstrap --variant=minbase --include=ca-certificates,python3-dev,python3-venv bookworm "$root" \
        > "$work/debootstrap.log"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
    engine commit --quiet --rm "$container" "$name"
}

# For l4t-jetpack, in both stages: the above with Python 3.8; pip's OpenCV 4.5.4 for NVIDIA's; CUDA 11.8's headers for
# 11.4's, with an empty nvcc, which pycuda looks for but does not run; empty packages with the names of NVIDIA's.
make_jetpack() {
    local name=nvcr.io/nvidia/l4t-jetpack:r35.4.1 container root python package
    engine inspect --type image "$name" > /dev/null 2>&1 && return
    say "making a stand-in for $name"
    python=${PYTHON38:-$(echo ~/.pyenv/versions/3.8.*/bin/python3.8)}
    container=$(engine from --pull=never docker.io/library/python:3.11.14-slim-bookworm)
    root=$(engine mount "$container")
    cp -a "$(dirname "$python")/.."/{bin,include,lib} "$root/usr/local/"
    "$python" -m pip install --quiet --no-deps --target "$root/usr/local/lib/python3.8/site-packages" \
        opencv-python-headless==4.5.4.60
    "$python" -m pip install --quiet --no-deps --target "$work/cuda" --upgrade \
        nvidia-cuda-runtime-cu11==11.8.89 nvidia-cuda-profiler-api-cu11==11.8.86
    mkdir -p "$root"/usr/local/cuda/{bin,include,lib64/stubs}
    cp -r "$work"/cuda/nvidia/*/include/. "$root/usr/local/cuda/include/"
    grep -oE '\bcu[A-Z][A-Za-z0-9_]+' "$root/usr/local/cuda/include/cuda.h" | sort -u | sed 's/.*/void &(void) {}/' \
        | gcc -shared -Wl,-soname,libcuda.so.1 -o "$root/usr/local/cuda/lib64/stubs/libcuda.so" -x c -
    install /dev/null "$root/usr/local/cuda/bin/nvcc"
    grep -oE '[a-z0-9-]+=[0-9.]+-[^ ]+' docker/jetson.Dockerfile | while IFS== read -r package version; do
        mkdir -p "$work/deb/DEBIAN"
        printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: none\nDescription: a name alone\n' \
            "$package" "$version" > "$work/deb/DEBIAN/control"
        dpkg-deb --build "$work/deb" "$work/$package.deb" > /dev/null
        dpkg --root="$root" --install "$work/$package.deb" > /dev/null
    done
    engine commit --quiet --rm "$container" "$name"
}

check_cpu() { build cpu; use cpu; health cpu && echo "healthy"; }

# Without TensorRT, whose libraries are only on NVIDIA's index.
check_gpu() { build gpu --build-arg TENSORRT=; use gpu; expect_no_driver gpu; }

check_jetson() { make_jetpack; build jetson; use jetson; expect_no_driver jetson; }

expect_no_driver() { # image: its health check must fail here, and only because the driver is missing
    local said
    said=$(health "$1" 2>&1) && { echo "healthy without a driver"; return 1; }
    grep 'ImportError: libcuda.so.1' <<< "$said" || { echo "$said"; return 1; }
}

lint
find_wheels
[ "${1:-}" = --quick ] && exit
install_tools
make_python
for image in "${@:-cpu gpu jetson}"; do for each in $image; do "check_$each"; done; done
