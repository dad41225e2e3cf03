#!/usr/bin/env bash
# An H100 or H200 on a machine without a network: Python 3.12, PyTorch 2.11, Triton 3.6, transformers
# 5.17. There commands may be limited to ten minutes, so the runs come in four turns of at most 590 s.
#
#   benchmarks/gpu/h200.sh TURN [FOLDER]          TURN is 1 to 4, or all; results go to FOLDER (gpu-h200)
#   TINY=1 benchmarks/gpu/h200.sh all [FOLDER]    minutes on a CPU: whether the script itself works
#
# What that Python lacks comes from WHEELS (.whl), filled where there is a network:
#
#   pip download -d .whl --only-binary :all: --python-version 3.12 --platform manylinux_2_17_x86_64 \
#     pydantic==2.14.3
#
# KEPT is a folder that stays between the turns: packages, random weights, compiled kernels. PYTHON is
# the Python to use (python3).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source benchmarks/gpu/steps.sh
turn="${1:?which turn: 1, 2, 3, 4 or all}"
[[ "$turn" =~ ^([1-4]|all)$ ]] || { echo "A turn is 1, 2, 3, 4 or all, not $turn."; exit 2; }
begin "${2:-gpu-h200}"
kept="${KEPT:-$results/kept}"
weights="$kept/weights"
python="${PYTHON:-python3}"
export PYTHONUNBUFFERED=1 PYTHONPATH="$kept/site:$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
[[ -n "${TINY:-}" ]] || export XDG_CACHE_HOME="$kept/cache" TRITON_CACHE_DIR="$kept/triton"

if ! "$python" -c "import pydantic" 2> /dev/null; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$kept/site" \
        "${WHEELS:-.whl}"/*.whl || exit 3
fi
{
    nvidia-smi || echo "nvidia-smi is missing"
    "$python" -c "import torch, triton; print('torch', torch.__version__, 'triton', triton.__version__)"
} 2>&1 | tee "$results/where.txt"

due() { [[ "$turn" == all || "$turn" == "$1" ]]; }

export TORCH_COMPILE_MODE=off
if due 1; then
    engine kernels 170 --size 1.7B --part kernels $(rows 1 4)
    engine frames-bf16 400 --size 1.7B --part frames $(rows 1 4) --precision none
fi
if due 2; then
    engine frames-int8 280 --size 1.7B --part frames $(rows 1 16) --precision int8
    engine correct 290 --size 1.7B --part correct $(rows 1 4 12)
fi
if due 3; then
    engine frames-64-bf16 350 --size 1.7B --part frames $(rows 16 64) --precision none
    engine load 220 --size 1.7B --part load $(rows 64) --precision none $(seconds 12)
fi
if due 4; then
    export TORCH_COMPILE_MODE=max-autotune
    engine frames-compiled 560 --size 1.7B --part frames $(rows 1) --precision none
fi
end
