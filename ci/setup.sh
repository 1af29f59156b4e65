# SPDX-License-Identifier: GPL-2.0-only
# Sourced by ci/reproduce and ci/test: makes the machine ready, and does nothing where it is ready already.
# Needs a shell only. On Debian the missing packages are installed, as root or with sudo.

setup_say() { printf 'setup: %s\n' "$*" >&2; }

# setup_packages [PACKAGE...]: what ci/packages.debian lists, and these.
setup_packages() {
    command -v dpkg-query >/dev/null 2>&1 || {
        setup_say "this is not Debian: install by hand what ci/packages.debian lists (hmm-harness doctor checks)"
        return 0
    }
    missing=
    for package in $(sed 's/#.*//' ci/packages.debian) "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || {
            setup_say "missing packages, and neither root nor sudo to install them:$missing"
            exit 3
        }
        as_root=sudo
    fi
    setup_say "installing$missing"
    # shellcheck disable=SC2086 # a list of words, on purpose
    {
        $as_root apt-get update -qq &&
            $as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends $missing
    } >&2 || {
        setup_say "apt-get could not install:$missing"
        exit 3
    }
}

# setup_venv EXTRAS: the project in .venv; nothing to do unless pyproject.toml, the interpreter or the place changed, or
# the extras are not there yet.
setup_venv() {
    python=
    for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || {
        setup_say "no Python 3.11 or newer with venv"
        exit 3
    }
    home="$("$python" -V) $(pwd)"
    if [ "$(head -n 1 .venv/setup-stamp 2>/dev/null)" != "$home" ]; then
        setup_say "making .venv"
        "$python" -m venv --clear .venv >&2 || exit 3
        printf '%s\n' "$home" >.venv/setup-stamp
    fi
    wanted=$(cksum <pyproject.toml)
    grep -qxF "$wanted with$1" .venv/setup-stamp && return 0
    setup_say "installing the project$1 in .venv"
    .venv/bin/python -m pip install -q -e ".$1" >&2 || {
        setup_say "pip could not install the project"
        exit 3
    }
    # Extras contain what the plain project needs. A failed installation leaves the one before it working.
    printf '%s with\n%s with%s\n' "$wanted" "$wanted" "$1" >>.venv/setup-stamp
}
