#!/bin/sh
# Installs Debian's Chromium and its driver for the browser tests, where that can be done; says why where it cannot.
# Quiet and instant when both are there. Always succeeds: without a browser those tests are skipped, saying so.
[ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ] && exit 0

skipped() {
    echo "browser tests will be skipped: $1"
    exit 0
}

command -v apt-get >/dev/null 2>&1 || skipped "no Chromium at /usr/bin/chromium, and no apt-get to install it with"
[ "$(id -u)" = 0 ] || skipped "no Chromium; as root, run: apt-get install chromium chromium-driver"

log=$(mktemp) || skipped "no room for a temporary file"
export DEBIAN_FRONTEND=noninteractive
if apt-get update -qq >"$log" 2>&1 &&
    apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >>"$log" 2>&1; then
    rm -f "$log"
else
    tail -n 3 "$log"
    rm -f "$log"
    skipped "apt-get could not install chromium and chromium-driver (its last words are above)"
fi
exit 0
