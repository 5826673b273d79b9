# What a tier says about its tests: one line each in $CORTEN_RESULTS, "STATUS<TAB>NAME<TAB>REASON".
# tests/run prints and counts them. A test that did not run is a skip with its reason, never a pass.
result() { printf '%s\t%s\t%s\n' "$1" "${2//[$'\t\n']/ }" "${3//[$'\t\n']/ }" >>"${CORTEN_RESULTS:-/dev/stdout}"; }
pass() { result pass "$1" "${2:-}"; }
fail() { result fail "$1" "$2"; }
skip() { result skip "$1" "$2"; }
