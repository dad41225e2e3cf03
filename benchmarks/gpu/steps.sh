# Sourced by the scripts beside it: steps that run one after the other, each within a time of its
# own. What a step has found stays, whatever becomes of the next; which did not end well stands in
# steps.txt, and makes the script end with status 1.

results=""
failed=0

# begin FOLDER: where all results go; what an earlier run left there is added to.
begin() {
    results="$1"
    mkdir -p "$results"
    echo "# $(date -u +%Y-%m-%dT%H:%M:%SZ) step status seconds" >> "$results/steps.txt"
}

# step NAME SECONDS COMMAND...: run it for at most so long.
step() {
    local name="$1" limit_s="$2" began="$SECONDS" status
    shift 2
    printf '\n== %s, at most %s s\n' "$name" "$limit_s" | tee -a "$results/log.txt"
    timeout --kill-after=20 "$limit_s" "$@" 2>&1 | tee -a "$results/log.txt"
    status="${PIPESTATUS[0]}"
    [[ "$status" == 0 ]] || failed=1
    echo "$name $status $(( SECONDS - began ))" >> "$results/steps.txt"
}

# end: what became of each step.
end() {
    printf '\n== What became of each step (status, seconds)\n'
    grep -v '^#' "$results/steps.txt"
    echo "Results are in $results."
    return "$failed"
}

# rows COUNT...: options of `vivavoce bench engine`; of a tiny run always one row and two.
rows() {
    [[ -z "${TINY:-}" ]] || set -- 1 2
    printf -- '--rows %s ' "$@"
}

# seconds COUNT: how long a run under load takes; of a tiny run half a second.
seconds() { printf -- '--seconds %s ' "$([[ -n "${TINY:-}" ]] && echo 0.5 || echo "$1")"; }

# engine NAME SECONDS OPTION...: a run of `vivavoce bench engine`, which puts what it found into
# NAME.json as it finds it.
engine() {
    local name="$1" limit_s="$2"
    shift 2
    step "$name" "$limit_s" "$python" -m vivavoce.cli bench engine --keep "$weights" \
        ${TINY:+--tiny --device cpu} --json "$results/$name.json" "$@"
}
