#!/bin/sh
# Write requirements.lock: one file for every supported Python and system, each with the newest JAX it can have.
# Users need only venv and pip; uv is fetched for this, into a folder that is removed again, if it is not at hand.
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "${PYTHON:-python3}" -m venv "$scratch"
    "$scratch/bin/python" -m pip install -qq uv
    uv=$scratch/bin/uv
fi
"$uv" pip compile --quiet --universal --python-version 3.11 --extra dev --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "make lock" --output-file requirements.lock "$@" pyproject.toml
# The environment that pyproject.toml leaves out would otherwise stand on every line.
sed -e "s/ and sys_platform != 'emscripten'//" -e "s/ ; sys_platform != 'emscripten'\$//" requirements.lock > requirements.lock.new
mv requirements.lock.new requirements.lock
