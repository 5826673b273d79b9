# Debian packages for a tier, installed only when absent.

# Prints those of the named packages that are not installed.
missing_packages() {
  local package
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

# Installs what is missing. Without starting services: a test starts its own, on its own port.
need_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [[ ${#missing[@]} -gt 0 ]] || return 0
  [[ $EUID -eq 0 ]] || { echo "needs the packages ${missing[*]} (apt-get install, as root)"; return 1; }
  install_packages "${missing[@]}" || { echo "apt-get could not install ${missing[*]}: see $CORTEN_TEST_LOGS/apt.log"; return 1; }
}

install_packages() {
  local fence
  fence=$(mktemp -d)
  # invoke-rc.d asks this program: 101 means "do not start it".
  printf '#!/bin/sh\nexit 101\n' >"$fence/policy-rc.d"
  chmod +x "$fence/policy-rc.d"
  { [[ -e /usr/sbin/policy-rc.d ]] || { cp "$fence/policy-rc.d" /usr/sbin/policy-rc.d && touch "$fence/mine"; }
    apt-get update -q && apt-get install -y -q --no-install-recommends "$@"
  } >>"$CORTEN_TEST_LOGS/apt.log" 2>&1 </dev/null
  local status=$?
  [[ ! -e $fence/mine ]] || rm -f /usr/sbin/policy-rc.d
  rm -rf "$fence"
  return $status
}
