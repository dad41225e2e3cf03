# Recipes for whoever works on vivavoce: `just --list`. CONTRIBUTING.md says what to install.

bin := justfile_directory() / ".venv/bin"
export PATH := bin + ":" + env("PATH")

[private]
default:
    @just --list

# The quick tests: text, audio, speech, serving (or the folders and options given)
test *what="tests/text tests/audio tests/speech tests/serving":
    pytest -q -n auto --dist worksteal {{ what }}

# Format, lint, types, import rules, style
check:
    ruff check .
    ruff format --check .
    mypy
    lint-imports
    pytest -q tests/house

# Format, and mend what can be mended
fix:
    ruff check --fix .
    ruff format .

# All that CI runs, from a fresh copy; `just full --full` adds the slow tests
full *how:
    bash .ci/run {{ how }}

# A running server, as one caller and as several hear it
bench *how="-n 3 --warmup 1":
    vivavoce bench {{ how }}

# Counts of the code; `just house before=v0.1.0 now=.` puts commits and folders side by side
house *checkouts:
    python tests/house/counting.py {{ checkouts }}

# The counts that are published (what a frame passes is counted where PyTorch is installed)
house-record *checkouts="first=316a9cb before=21a295b now=.":
    python tests/house/counting.py --json benchmarks/results/house.json {{ checkouts }}

# The documents as a site, in site/; `just docs serve` shows it while you write
docs how="build --strict":
    bash .ci/docs {{ how }}

# Wheel and source archive, checked, in dist/
release:
    bash .ci/release dist

# Newer versions, and what is exported from the lock file; `just export` alone after editing pyproject.toml
lock: && export
    uv lock --upgrade --default-index https://pypi.org/simple

# constraints.txt and docs/requirements.txt from uv.lock
export:
    uv lock --default-index https://pypi.org/simple
    bash scripts/export_lock.sh
