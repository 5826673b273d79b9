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
