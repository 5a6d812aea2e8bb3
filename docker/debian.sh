# What docker/build-image and docker/build-proxies share; to be sourced.
# shellcheck shell=bash

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() { say "$*"; exit 1; }

# The command line of both: [--force] MAJOR. Sets `force` and `major`.
arguments() {
    force='' major=''
    while (($#)); do
        case $1 in
            -h | --help) usage; exit 0 ;;
            -f | --force) force=yes ;;
            -*) usage >&2; fail "unknown option $1" ;;
            *) [[ -z $major ]] || fail "one MAJOR at a time"; major=$1 ;;
        esac
        shift
    done
    [[ -n $major ]] || { usage >&2; exit 2; }
}

# The Debian release that has this major of PostgreSQL in its main section.
suite_of() {
    case $1 in
        13) echo bullseye ;;
        15) echo bookworm ;;
        17) echo trixie ;;
        18) echo forky ;;
        *) fail "no Debian release has PostgreSQL $1 (there are 13, 15, 17 and 18); use an image of your own, named in $2" ;;
    esac
}

# Whether there is anything to do. Builds of one image wait for each other.
wanted() {
    local image=$1
    docker info >/dev/null 2>&1 ||
        fail "Docker does not answer. Start it, or add this user to its group, and see that 'docker info' works."

    # The lock is of this user: a file of somebody else's in /tmp could not be
    # opened. Two users who build at once both build, and the later tag stays.
    exec 9>"${TMPDIR:-/tmp}/pgdeadline-${0##*/}-$UID-$major.lock"
    flock --nonblock 9 || { say "waiting for another build of $image"; flock 9; }

    [[ -z $force ]] && docker image inspect "$image" >/dev/null 2>&1 || return 0
    say "$image is there already (--force builds it again)"
    return 1
}

require_mmdebstrap() {
    command -v mmdebstrap >/dev/null && return
    ((EUID == 0)) || fail "mmdebstrap is missing; as root: apt-get install mmdebstrap"
    command -v apt-get >/dev/null || fail "mmdebstrap is missing, and so is apt-get to install it with"
    say "installing mmdebstrap"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends mmdebstrap >&2
}

# What this machine takes its own packages from is what it can reach.
mirror() {
    local own=''
    if [[ -n ${PGDEADLINE_DEBIAN_MIRROR:-} ]]; then
        own=$PGDEADLINE_DEBIAN_MIRROR
    elif command -v apt-get >/dev/null; then
        own=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
            grep --extended-regexp --max-count=1 '/debian/?$' || true)
    fi
    own=${own:-http://deb.debian.org/debian}
    echo "${own%/}"
}

# mmdebstrap reads no apt.conf of the machine, and so not its proxy either.
proxy() {
    command -v apt-config >/dev/null || return 0
    local PROXY=''
    eval "$(apt-config shell PROXY Acquire::http::Proxy)"
    [[ -z $PROXY ]] || printf -- '--aptopt=Acquire::http::Proxy "%s"' "$PROXY"
}

# build IMAGE SUITE PACKAGES DOCKERFILE [OPTION OF MMDEBSTRAP]...
build() {
    local image=$1 suite=$2 packages=$3 dockerfile=$4 options=() work before
    shift 4
    require_mmdebstrap
    work=$(mktemp --directory)
    # shellcheck disable=SC2064  # the directory of now, not of when it exits
    trap "rm -rf '$work'" EXIT

    mapfile -t options < <(proxy)
    # forky is not released yet: its Release file may be older than it says.
    [[ $suite != forky ]] || options+=(--aptopt='Acquire::Check-Valid-Until "false"')
    # bullseye's keys have left the keyrings of later releases' first choice.
    [[ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]] ||
        options+=(--keyring=/usr/share/keyrings/debian-archive-keyring.gpg)
    [[ ! -e /usr/share/keyrings/debian-archive-removed-keys.gpg ]] ||
        options+=(--keyring=/usr/share/keyrings/debian-archive-removed-keys.gpg)

    say "fetching $packages and what they need of $suite from $(mirror)"
    mmdebstrap --variant=minbase --include="$packages" "${options[@]}" \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/i18n/*' \
        --dpkgopt='force-confold' \
        "$@" \
        "$suite" "$work/rootfs.tar" "$(mirror)" >"$work/log" 2>&1 ||
        { tail -n 60 "$work/log" >&2; fail "mmdebstrap failed; the end of what it said is above"; }

    printf 'FROM scratch\nADD rootfs.tar /\n%s\n' "$dockerfile" >"$work/Dockerfile"
    before=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
    docker build --quiet --tag "$image" "$work" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; fail "docker build failed; what it said is above"; }
    # What --force has taken the name from; it stays while a container uses it.
    [[ -z $before ]] || docker image rm "$before" >/dev/null 2>&1 || true
    say "$image is ready ($(docker image inspect --format '{{.Size}}' "$image" | awk '{ printf "%d MB", $1 / 1e6 }'))"
}
