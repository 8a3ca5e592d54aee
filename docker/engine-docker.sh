# shellcheck shell=bash disable=SC2034,SC2154   # image, scratch, services and exit_code belong to those that read this
# What make-image.sh and try-image.sh ask of an engine, with docker: the containers are those of compose.yaml.

# ── make-image.sh ──

build() {  # IMAGE BASE [--secret …]…     BASE is '' for the Dockerfile's own
    local image=$1 base=$2 variable
    local arguments=("${@:3}" --file docker/Dockerfile --tag "$image")
    # docker hands on the value of a variable that is named without one.
    for variable in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        if [ -n "${!variable:-}" ]; then arguments+=(--build-arg "$variable"); fi
    done
    if [ -n "$base" ]; then arguments+=(--build-arg "BASE_IMAGE=$base"); fi
    say "building $image with docker"
    DOCKER_BUILDKIT=1 docker build "${arguments[@]}" .
}

build_clean_up() { :; }

image_size() { docker images --format '{{.Size}}' "$1"; }

# ── try-image.sh ──

compose() { EELSTM_IMAGE=$image docker compose --project-name "eelstm-try-$$" --file docker/compose.yaml "$@"; }

container() { compose ps --all --quiet "$1"; }

start() {
    docker compose version > /dev/null 2>&1 || die "docker has no compose plugin, which is needed to try the image"
    compose up --detach --no-build >&2
}

inside() { docker exec "$(container "$1")" "${@:2}"; }

output() { docker logs "$(container "$1")" 2>&1; }

running() {
    [ "$(docker inspect --format '{{.State.Running}} {{.RestartCount}}' "$(container "$1")")" = 'true 0' ]
}

healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container forecaster)")" = healthy ]; }

uid_of() { docker top "$(container "$1")" -eo pid,uid | awk 'NR == 2 { print $2 }'; }

stop() {  # sets exit_code
    compose stop "$1" >&2
    exit_code=$(docker inspect --format '{{.State.ExitCode}}' "$(container "$1")")
}

try_clean_up() { compose down --volumes --timeout 5 >&2; }
