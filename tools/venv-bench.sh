#!/bin/sh
# Make .venv-bench: what requirements.lock says, taut itself, and the peers of benchmarks/peers/requirements.txt.
#
# A peer that does not install is named and left out. The stamp goes first and comes last, as in venv.sh.
set -eu
cd "$(dirname "$0")/.."
sh tools/venv.sh # finds a fit Python, and makes the .venv that this one is made from
root=$(pwd -P)
peers=benchmarks/peers/requirements.txt
unset PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0

wanted=$(.venv/bin/python -V && echo "$root" && cat requirements.lock "$peers" pyproject.toml | cksum)
if [ -x .venv-bench/bin/python ] && [ "$(cat .venv-bench/taut.stamp 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

failed() {
    echo "taut: the installation into $root/.venv-bench did not finish (see above); the same command starts it again." >&2
    exit 1
}

echo "taut: installing the peers of the benchmark into .venv-bench; this takes a few minutes, once."
rm -f .venv-bench/taut.stamp
.venv/bin/python -m venv --clear .venv-bench || failed
pip="./.venv-bench/bin/python -m pip install -qq"
$pip --no-deps -r requirements.lock || failed
grep -v '^#' "$peers" | while read -r peer; do
    [ -z "$peer" ] || $pip "$peer" || echo "taut: $peer cannot be installed here; the table will do without it." >&2
done
$pip --no-deps --no-build-isolation --no-index --editable . || failed
echo "$wanted" > .venv-bench/taut.stamp
