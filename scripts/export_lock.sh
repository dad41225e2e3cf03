#!/usr/bin/env bash
# constraints.txt and docs/requirements.txt, from uv.lock. tests/house/test_lock.py holds that they agree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export_lock() {
    uv export --quiet --frozen --no-hashes --no-emit-project --no-annotate --no-header "$@"
}

# What PyTorch for CUDA brings is left open: a machine without a GPU installs a build without it.
{
    echo "# Made from uv.lock by scripts/export_lock.sh (\`just export\`): what the checks run with."
    echo "# PyTorch's own CUDA packages are left open."
    export_lock --all-extras --no-dev | grep -vE '^(cuda-|nvidia-|setuptools|triton)' | sed 's/ ;.*//'
} > constraints.txt
{
    echo "# Made from uv.lock by scripts/export_lock.sh (\`just export\`): what builds the site of the documents."
    export_lock --only-group docs
} > docs/requirements.txt
{
    echo "# Made from uv.lock by scripts/export_lock.sh (\`just export\`): what builds and checks a release."
    export_lock --only-group release
} > .ci/release-requirements.txt
