# Cargo for the tiers: which test programs belong to which tier.
# A test is in the root tier when its program's name or its own name begins with root_; house, wire and images are
# programs of these names, images needs a registry; all else is unit.

cargo_test() { "$CORTEN_CHECKOUT/tests/lib/cargo_test.py" "$@"; }

# Prints the names of the workspace's integration test programs, but for those of a tier that builds them with features.
test_programs() {
  cargo metadata --locked --no-deps --format-version 1 |
    jq -r '.packages[].targets[] | select((.kind | index("test")) and (."required-features" | not)) | .name' | sort -u
}

# Prints "--test NAME" pairs of the programs for which the given pattern matches.
programs_like() { test_programs | grep -E "$1" | sed 's/^/--test\n/' || true; }
programs_unlike() { test_programs | grep -Ev "$1" | sed 's/^/--test\n/' || true; }

# Runs one check as one test: check NAME COMMAND…
check() {
  local name=$1
  shift
  echo "+ $*"
  if "$@"; then pass "$name"; else fail "$name" "see the log"; fi
}
