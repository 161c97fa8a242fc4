#!/bin/sh
# Make .venv hold exactly what requirements.lock says, and taut itself; do nothing when it already does.
#
# PYTHON names the interpreter to use; empty means the first fit one of python3, python3.13, python3.12, python3.11.
# Both stamps go first and come last, so that an interrupted installation is never taken for a finished one.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
unset PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0

# Runs on any Python, old ones too: prints "3.12.1 /usr/bin/python3.12", or what is wrong and fails.
# The base executable is asked for, because .venv may be active and is about to be rebuilt.
probe='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    print("is Python %s" % version)
    sys.exit(1)
try:
    import ensurepip, venv
except ImportError:
    print("(Python %s) has no venv module; on Debian and Ubuntu: apt install python%d.%d-venv" % ((version,) + sys.version_info[:2]))
    sys.exit(1)
print("%s %s" % (version, getattr(sys, "_base_executable", sys.executable)))
'

wanted() { # what the stamp must say, for an interpreter of version $1; a moved clone is installed anew
    printf '%s\n%s\n%s\n' "$1" "$root" "$(cksum < requirements.lock)"
}

built() { # is .venv finished, for this lock and this folder (and for version $1, if given)?
    [ -f .venv/taut.stamp ] && [ -x .venv/bin/python ] || return 1
    has=$(.venv/bin/python -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || return 1
    [ "${1:-$has}" = "$has" ] && [ "$(cat .venv/taut.stamp)" = "$(wanted "$has")" ]
}

find_python() { # sets version and python, or stops with one line
    reason=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if answer=$("$candidate" -c "$probe" 2>/dev/null); then
            version=${answer%% *} python=${answer#* }
            return
        fi
        [ -n "$reason" ] || reason="$candidate ${answer:-cannot be run}"
    done
    echo "taut: $reason. taut needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
}

failed() {
    echo "taut: the installation into $root/.venv did not finish (see above); the same command starts it again." >&2
    exit 1
}

if [ -n "${PYTHON:-}" ] || ! built; then
    find_python
    if ! built "$version"; then
        echo "taut: installing the locked dependencies into .venv with Python $version; this takes a minute or two, once."
        rm -f .venv/taut.stamp .venv/taut.project
        "$python" -m venv --clear .venv || failed
        .venv/bin/python -m pip install -qq --no-deps -r requirements.lock || failed
        wanted "$version" > .venv/taut.stamp
    fi
fi

# taut itself, anew when its metadata change. The build backend is in the lock, so this needs no network.
project=$(cksum < pyproject.toml)
if [ "$(cat .venv/taut.project 2>/dev/null)" != "$project" ]; then
    .venv/bin/python -m pip install -qq --no-deps --no-build-isolation --no-index --editable . || failed
    echo "$project" > .venv/taut.project
fi
