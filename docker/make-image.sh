#!/usr/bin/env bash
# Builds the image and then really runs the pipeline from it. `make image` calls this; nothing needs to be set.
#
#   IMAGE=name:tag        what the image is called     (eelstm-stream:latest)
#   BASE_IMAGE=name:tag   what it is built on          (docker: the official Python image; buildah: a Debian made here)
set -euo pipefail

cd "$(dirname "$0")/.."
image=${IMAGE:-eelstm-stream:latest}
base=${BASE_IMAGE:-}

say() { printf '── %s\n' "$*" >&2; }
die() { printf 'make image: %s\n' "$*" >&2; exit 1; }

if docker info > /dev/null 2>&1; then
    engine=docker
elif command -v buildah > /dev/null; then
    engine=buildah
else
    die "no Docker engine answers, and buildah is missing: start Docker, or apt-get install buildah debootstrap"
fi
# shellcheck source=docker/engine-docker.sh
. "docker/engine-$engine.sh"

scratch=$(mktemp -d)
clean_up() { build_clean_up; rm -rf "$scratch"; }
trap clean_up EXIT
trap 'exit 130' INT TERM

pip_setting() { python3 -m pip config get "global.$1" 2> /dev/null || true; }

# How this machine reaches its package index, as build secrets: pip reads them while it runs, and no layer holds them.
# A location on this machine's disk (file:…, or a bare path) is left out: the build could not see it.
site_secrets() {
    local name variable words word value certificates
    certificates=${PIP_CERT:-$(pip_setting cert)}
    certificates=${certificates:-${SSL_CERT_FILE:-}}
    {
        echo '[global]'
        for name in index-url extra-index-url trusted-host proxy timeout; do
            variable=PIP_${name//-/_}
            variable=${variable^^}
            read -r -d '' -a words <<< "${!variable:-$(pip_setting "$name")}" || true
            value=
            for word in "${words[@]}"; do
                case $word in file:* | /*) ;; *) value+=" $word" ;; esac
            done
            if [ -n "$value" ]; then echo "$name =$value"; fi
        done
        if [ -r "$certificates" ]; then echo 'cert = /run/secrets/ca.pem'; fi
    } > "$scratch/pip.conf"
    secrets=(--secret "id=pip.conf,src=$scratch/pip.conf")
    if [ -r "$certificates" ]; then secrets+=(--secret "id=ca.pem,src=$certificates"); fi
}

started=$SECONDS
site_secrets
build "$image" "$base" "${secrets[@]}"
say "built $image with $engine in $((SECONDS - started)) s, $(image_size "$image")"

docker/try-image.sh "$engine" "$image"
