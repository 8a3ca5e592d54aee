# shellcheck shell=bash disable=SC2034,SC2154   # image, scratch, services and exit_code belong to those that read this
# What make-image.sh and try-image.sh ask of an engine, with buildah: it needs no daemon, and with a base that
# debootstrap makes, no registry.

# chroot isolation needs no container runtime, and works inside a virtual machine or a container of a CI.
export BUILDAH_ISOLATION=chroot
# buildah chooses its storage. Where it cannot, for want of an overlay file system, plain copies always work.
buildah info > /dev/null 2>&1 || export STORAGE_DRIVER=vfs

# ── make-image.sh ──

# The Debian whose python3 is 3.11, the oldest that we support.
suite=bookworm
working=

build() {  # IMAGE BASE [--secret …]…     BASE is '' for a Debian made here
    local image=$1 base=$2 before
    [ "$(id -u)" = 0 ] || die "no Docker engine answers, and without one root is needed: start Docker, or run as root"
    if [ -z "$base" ]; then
        base=localhost/eelstm-base:$suite
        buildah inspect --type image "$base" > /dev/null 2>&1 || make_base "$base"
    fi
    say "building $image with buildah on $base"
    before=$(buildah images --quiet "$image" 2> /dev/null || true)
    # The docker format, because the OCI format has no field for a health check.
    buildah bud --format docker --build-arg "BASE_IMAGE=$base" "${@:3}" --file docker/Dockerfile --tag "$image" .
    # The image of the last build has lost its name, and would stay for ever.
    if [ -n "$before" ] && [ "$before" != "$(buildah images --quiet "$image")" ]; then
        buildah rmi "$before" > /dev/null
    fi
}

make_base() {  # NAME
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/eelstm-stream tarball mirror
    tarball=$cache/debian-$suite-$(dpkg --print-architecture).tar
    if [ ! -e "$tarball" ]; then
        command -v debootstrap > /dev/null ||
            die "no Docker engine answers, and debootstrap is missing: start Docker, or apt-get install debootstrap"
        say "making the base image with debootstrap: Debian $suite, about a minute, kept as $tarball"
        # The mirror that apt uses here, if it has this Debian at all; debootstrap has a default.
        # shellcheck disable=SC2016
        mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $suite" 'Component: main' || true)
        mirror=${mirror%%$'\n'*}
        debootstrap --variant=minbase --include=python3,python3-venv \
            "$suite" "$scratch/rootfs" ${mirror:+"$mirror"} >&2
        # Which an image needs neither to be built on nor to run.
        rm -rf "$scratch"/rootfs/{var/cache/apt,var/lib/apt/lists,usr/share/{doc,info,locale,man}}/*
        # debootstrap puts the name and the name servers of this machine in there.
        rm -f "$scratch"/rootfs/etc/{hostname,resolv.conf}
        mkdir -p "$cache"
        tar --exclude='./dev/*' --directory "$scratch/rootfs" --create --file "$tarball.part" .
        mv "$tarball.part" "$tarball"
    fi
    say "base image from $tarball, made on $(date --iso-8601 --reference "$tarball")"
    working=$(buildah from scratch)
    buildah add --quiet "$working" "$tarball" / > /dev/null
    buildah commit --quiet --rm "$working" "$1" > /dev/null
    working=
}

build_clean_up() {
    local mounted
    for mounted in proc sys; do
        if mountpoint --quiet "$scratch/rootfs/$mounted"; then umount "$scratch/rootfs/$mounted"; fi
    done
    if [ -n "$working" ]; then buildah rm "$working" > /dev/null; fi
}

image_size() { buildah images --format '{{.Size}}' "$1"; }

# ── try-image.sh ──
# A working container for each service. chroot isolation shares the caller's network, and try-image.sh has left that.

declare -A container runner

start() {
    local service command entrypoint
    ip link set lo up
    for service in "${services[@]}"; do
        buildah rm "eelstm-try-$service" > /dev/null 2>&1 || true   # of a run that was killed
        container[$service]=$(buildah from --pull-never --name "eelstm-try-$service" "$image")
    done
    mapfile -t entrypoint < <(of_image Entrypoint)
    for service in "${services[@]}"; do
        mapfile -t command < <(of_compose "$service")
        buildah run "${container[$service]}" -- "${entrypoint[@]}" "${command[@]}" > "$scratch/$service" 2>&1 &
        runner[$service]=$!
    done
}

of_image() { buildah inspect --type image --format "{{range .Docker.Config.$1}}{{println .}}{{end}}" "$image" | sed '/^$/d'; }

# The words of a service's `command: [listen, forecast]`, one a line.
of_compose() {
    sed -n "/^  $1:/,/^\$/ s/^ *command: \[\(.*\)\]\$/\1/p" docker/compose.yaml | tr ',' '\n' | tr -d ' '
}

inside() { buildah run "${container[$1]}" -- "${@:2}"; }

output() { cat "$scratch/$1"; }

running() { kill -0 "${runner[$1]}" 2> /dev/null; }

healthy() {
    local check
    mapfile -t check < <(of_image Healthcheck.Test)   # CMD, then the words of the command
    inside forecaster "${check[@]:1}" > /dev/null 2>&1
}

# The program is the last of a chain: `buildah run` starts two processes of its own before it.
program_of() {  # SERVICE
    local pid=${runner[$1]} child
    while child=$(pgrep --parent "$pid" | head --lines 1); do pid=$child; done
    echo "$pid"
}

uid_of() { ps -o uid= -p "$(program_of "$1")" | tr -d ' '; }

stop() {  # sets exit_code
    # A signal to `buildah run` would reach the program as SIGKILL, so it goes where an engine sends it.
    kill -TERM "$(program_of "$1")" || true
    exit_code=0
    wait "${runner[$1]}" || exit_code=$?
    unset "runner[$1]"
}

try_clean_up() {
    local service
    for service in "${!runner[@]}"; do kill -KILL "$(program_of "$service")" 2> /dev/null || true; done
    wait
    for service in "${!container[@]}"; do buildah rm "${container[$service]}" > /dev/null || true; done
}
