#!/usr/bin/env bash
# The API image's steps without an engine, in FOLDER: installs by the image's locks, and shows that PyTorch is not there.
set -euo pipefail
folder=$(mkdir -p "${1:?usage: docker/try_steps.sh FOLDER}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
"${PYTHON:-python3.11}" -m venv "$folder/build"
"$folder/build/bin/pip" install --no-cache-dir --require-hashes -r docker/requirements-build.lock
"$folder/build/bin/pip" wheel --no-deps --no-build-isolation --wheel-dir "$folder/wheels" .
"${PYTHON:-python3.11}" -m venv "$folder/simclr"
"$folder/simclr/bin/pip" install --no-cache-dir --require-hashes -r docker/requirements-api.lock
"$folder/simclr/bin/pip" install --no-cache-dir --no-deps --no-index "$folder"/wheels/*.whl
cd "$folder" # away from the tree: what runs is what was installed
simclr/bin/simclr api --help > help.txt
if simclr/bin/python -c "import torch" 2> import.txt; then
    echo "PyTorch is in the API's environment" >&2
    exit 1
fi
du -sm simclr
