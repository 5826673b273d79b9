# Where the tests keep things. Sourced by every script of tests/; each value can be set from outside.
# What is dear to make (tools, images, target) lives in the cache, never in the checkout.
CORTEN_CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CORTEN_CACHE=${CORTEN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/corten}
CORTEN_TEST_LOGS=${CORTEN_TEST_LOGS:-$CORTEN_CACHE/logs/$(date -u +%Y%m%d-%H%M%S)-$$}
if [[ -z ${CARGO_TARGET_DIR:-} ]]; then
  # A clone in CI is thrown away, so its target folder would always be cold.
  if [[ -n ${CI:-} ]]; then CARGO_TARGET_DIR=$CORTEN_CACHE/target; else CARGO_TARGET_DIR=$CORTEN_CHECKOUT/target; fi
fi
CORTEN_DIST=${CORTEN_DIST:-$CARGO_TARGET_DIR/corten-release}
# Children of a Rust or Go tool chain that was installed in the usual way, in a shell that read no profile.
PATH=$PATH:${HOME:-/root}/.cargo/bin:/usr/local/go/bin:/usr/sbin:/sbin
export CORTEN_CHECKOUT CORTEN_CACHE CORTEN_TEST_LOGS CARGO_TARGET_DIR CORTEN_DIST PATH
export PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 CARGO_TERM_COLOR=never DEBIAN_FRONTEND=noninteractive
