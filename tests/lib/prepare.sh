# What a tier with a runtime makes before it enters its node, where there is no way out to any registry.

# Builds (or finds in the cache) the images, crictl, and the named runtime; the programs go to PATH.
prepare_runtime() {
  export CORTEN_TEST_RUNTIME=$1 CORTEN_IMAGES
  case $1 in
    corten) prepare_corten ;;
    containerd) prepare_tools containerd runc ;;
    *) echo "no runtime $1" >&2; return 2 ;;
  esac
  prepare_tools cri-tools
  CORTEN_IMAGES=$("$CORTEN_CHECKOUT/tests/images/build")
}

# The release programs, or those in the folder $CORTEN_PREBUILT: while one thing is worked on, a debug build will do.
prepare_corten() {
  if [[ -n ${CORTEN_PREBUILT:-} ]]; then export CORTEN_DIST=$CORTEN_PREBUILT; else "$CORTEN_CHECKOUT/deploy/build"; fi
}

# Builds Go modules of tests/tools and puts their programs into PATH.
prepare_tools() {
  local folders
  folders=$("$CORTEN_CHECKOUT/tests/tools/build" "$@")
  PATH=${folders//$'\n'/:}:$PATH
}

# Programs with failpoints, which no other tier has and deploy/build refuses, or those in the folder $CORTEN_FAULTY.
prepare_failpoints() {
  export CORTEN_TEST_RUNTIME=corten CORTEN_DIST=${CORTEN_FAULTY:-} CORTEN_IMAGES
  if [[ -z $CORTEN_DIST ]]; then
    CORTEN_DIST=$CARGO_TARGET_DIR/corten-failpoints
    build_failpoints
  fi
  prepare_tools cri-tools
  CORTEN_IMAGES=$("$CORTEN_CHECKOUT/tests/images/build")
}

# A debug build: the dependencies are those of the unit tier. Copied, since the next build without them takes the place.
build_failpoints() {
  local program
  (cd "$CORTEN_CHECKOUT" && cargo build --locked --package corten --package corten-shim --package corten-cni --bins \
    --features corten/failpoints,corten-shim/failpoints)
  mkdir -p "$CORTEN_DIST"
  for program in corten corten-shim corten-cni; do
    install -m 0755 "$CARGO_TARGET_DIR/debug/$program" "$CORTEN_DIST/.new"
    mv -f "$CORTEN_DIST/.new" "$CORTEN_DIST/$program"
  done
}
