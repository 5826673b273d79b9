# What the oracle compares: the shim behind a command line like runc's, runc, and the program that looks around.
prepare_oracle() {
  prepare_corten
  prepare_peers
}

# All but the shim itself.
prepare_peers() {
  prepare_tools runc
  ORACLE_RUNC=$(command -v runc)
  CORTEN_SHIM=$CORTEN_DIST/corten-shim
  export CORTEN_SHIM ORACLE_RUNC ORACLE_RUNTIME ORACLE_PROBE
  (cd "$CORTEN_CHECKOUT" && cargo build --locked --package corten --example oci-runtime)
  ORACLE_RUNTIME=$CARGO_TARGET_DIR/debug/examples/oci-runtime
  build_probe
}

# Static, so that any root file system will do; kept in the cache under a key made of its source.
build_probe() {
  local source=$CORTEN_CHECKOUT/tests/oracle/probe.c
  ORACLE_PROBE=$CORTEN_CACHE/probe-$(sha256sum <"$source" | cut -c1-12)
  [[ ! -x $ORACLE_PROBE ]] || return 0
  mkdir -p "$CORTEN_CACHE"
  gcc -static -O1 -Wall -Wextra -Werror -o "$ORACLE_PROBE.$$" "$source"
  mv -f "$ORACLE_PROBE.$$" "$ORACLE_PROBE"
}
