# What a tier with a runtime makes before it enters its node, where there is no way out to any registry.

# Builds (or finds in the cache) the images, crictl, and the named runtime; the programs go to PATH.
prepare_runtime() {
  export CORTEN_TEST_RUNTIME=$1 CORTEN_IMAGES
  case $1 in
    corten) "$CORTEN_CHECKOUT/deploy/build" >/dev/null ;;
    containerd) prepare_tools containerd runc ;;
    *) echo "no runtime $1" >&2; return 2 ;;
  esac
  prepare_tools cri-tools
  CORTEN_IMAGES=$("$CORTEN_CHECKOUT/tests/images/build")
}

# Builds Go modules of tests/tools and puts their programs into PATH.
prepare_tools() {
  local folders
  folders=$("$CORTEN_CHECKOUT/tests/tools/build" "$@")
  PATH=${folders//$'\n'/:}:$PATH
}
