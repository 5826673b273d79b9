# Packages of the programs under test, in $CORTEN_PACKAGES: prepare_packages one [two] [again]
# `one` and `again` are the same, made in surroundings that differ; `two` is the next revision.
prepare_packages() {
  local name
  export CORTEN_PACKAGES
  CORTEN_PACKAGES=$(mktemp -d "${CORTEN_SCRATCH:-/var/tmp}/corten-packages.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$CORTEN_PACKAGES'" EXIT
  for name; do "package_$name"; done
}

# The first one makes the pages and completions, which the others take.
package_one() { package one; }

package_two() { package two --papers "$CARGO_TARGET_DIR/papers" --revision 2; }

package_again() (
  umask 077
  export TZ=Asia/Tokyo LC_ALL=C TMPDIR=$CORTEN_PACKAGES
  cd /
  package again --papers "$CARGO_TARGET_DIR/papers"
)

package() {
  local name=$1
  shift
  "$CORTEN_CHECKOUT/deploy/package" --programs "$CORTEN_DIST" --out "$CORTEN_PACKAGES/$name" "$@"
}
