#!/usr/bin/env bash
# Half an hour on an RTX 4060 of 8 GB, or a card like it: Linux, driver 580 or newer, gcc and
# python3-dev, from a checkout. Weights are random and of true size; nothing but packages is fetched.
#
#   benchmarks/gpu/rtx4060.sh [FOLDER]          results go there (gpu-HOSTNAME)
#   TINY=1 benchmarks/gpu/rtx4060.sh [FOLDER]   minutes on a CPU: whether the script itself works
#
# PYTHON is a Python that has vivavoce with the extra qwen3; without it one is made in .venv. WEIGHTS
# keeps the random weights between runs. Let nothing else run on the card, but the recogniser if that
# is what it will be shared with.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source benchmarks/gpu/steps.sh
begin "${1:-gpu-$(hostname)}"
weights="${WEIGHTS:-$results/weights}"
python="${PYTHON:-.venv/bin/python}"

if [[ -z "${PYTHON:-}" ]]; then
    python3 -m venv .venv && .venv/bin/pip install -q '.[qwen3]' -c constraints.txt || exit 3
fi
{
    nvidia-smi || echo "nvidia-smi is missing"
    gcc --version | head -n 1 || echo "gcc is missing: no Triton"
    "$python" -m vivavoce.cli doctor --engine qwen3
} 2>&1 | tee "$results/where.txt"
if [[ -z "${TINY:-}" ]]; then
    "$python" -c "import torch, sys; sys.exit(not torch.cuda.is_available())" || {
        echo "PyTorch sees no CUDA device; doctor says why."
        exit 3
    }
fi

# The codec is compiled in the last step alone: that takes minutes, and the others do without.
export TORCH_COMPILE_MODE=off
engine kernels 300 --part kernels $(rows 1 4)                       # Triton compiles here first
engine frames-int8 300 --part frames $(rows 1 2 4) --precision int8
engine frames-bf16 300 --part frames $(rows 1 2 4) --precision none
engine correct 300 --part correct $(rows 1 2 4)
engine load 240 --part load $(rows 4) --precision int8 $(seconds 12)
engine server 590 --part server --precision int8
engine frames-1.7B-int8 300 --size 1.7B --part frames $(rows 1 2) --precision int8
export TORCH_COMPILE_MODE=max-autotune
engine frames-compiled 590 --part frames $(rows 1) --precision int8
end
