#!/usr/bin/env bash
# Runs every service of compose.yaml from an image, each in a container of its own, until forecasts are heard of a flight under control.
#
#   docker/try-image.sh docker|buildah IMAGE
#
# Checks that an operator can arm the guard, that the listener hears forecasts, that the image's own health check agrees, that no program is root or can
# change the image, that TensorFlow is not in it, and that SIGTERM ends each with exit code 0. What the programs are
# called with is in compose.yaml alone, so that what is tried is what is shipped.
set -euo pipefail

usage='docker/try-image.sh docker|buildah IMAGE'
engine=${1:?$usage} image=${2:?$usage}

say() { printf '── %s\n' "$*" >&2; }
die() { printf 'try-image: %s\n' "$*" >&2; exit 1; }

# buildah's containers share the network of who starts them. In a network namespace with a loopback interface alone, as
# in compose.yaml, they cannot meet a pipeline that runs on this machine; and with a namespace of processes, the kernel
# ends whatever is left when this script ends, however it ends.
if [ "$engine" = buildah ] && [ "${3:-}" != unshared ]; then
    exec unshare --net --mount --pid --mount-proc --fork --kill-child "$0" "$engine" "$image" unshared
fi

cd "$(dirname "$0")/.."
services=(simulator forecaster controller guard listener)
enough=8         # forecasts
patience_s=90    # for each thing that is waited for
# shellcheck source=docker/engine-docker.sh
. "docker/engine-$engine.sh"

scratch=$(mktemp -d)
clean_up() {
    local status=$? service
    trap '' INT TERM
    if [ "$status" != 0 ]; then
        for service in "${services[@]}"; do
            say "the last that the $service said:"
            output "$service" 2> /dev/null | tail -n 20 >&2 || true
        done
    fi
    try_clean_up
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

heard() { output listener | grep --count '^{' || true; }
heard_enough() { [ "$(heard)" -ge "$enough" ]; }

armed() { inside guard eelstm operator arm --who try-image > /dev/null 2>&1; }

wait_until() {  # FUNCTION, and what is waited for
    local deadline=$((SECONDS + patience_s)) service
    say "waiting until $2"
    until "$1"; do
        for service in "${services[@]}"; do
            running "$service" || die "the $service ended by itself"
        done
        if [ "$SECONDS" -ge "$deadline" ]; then die "waited $patience_s s in vain until $2"; fi
        sleep 1
    done
}

say "starting ${services[*]} from $image with $engine"
start
wait_until armed "the guard is armed"
wait_until heard_enough "the listener has heard $enough forecasts"
wait_until healthy "the image's health check agrees"

for service in "${services[@]}"; do
    uid=$(uid_of "$service")
    if [ "$uid" = 0 ] || [ -z "$uid" ]; then die "the $service runs as user '$uid', not as a user without rights"; fi
done
if inside forecaster touch /opt/venv/changed 2> /dev/null; then die "the forecaster can change the image it runs from"; fi
inside forecaster python -c 'import importlib.util as u; raise SystemExit(u.find_spec("tensorflow") is not None)' ||
    die "TensorFlow is in the image"

total=$(heard)
for service in listener controller guard forecaster simulator; do
    stop "$service"
    if [ "$exit_code" != 0 ]; then die "the $service ended with exit code $exit_code on SIGTERM"; fi
done

echo "image $image: $total forecasts heard; healthy; user $uid; each program ended with exit code 0 on SIGTERM"
