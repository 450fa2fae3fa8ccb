#!/bin/sh
# Installs what some tests need of the system, where that can be done, and says why where it cannot: Debian's Chromium and
# its driver for the browser tests, Graphviz for the test that its `dot` takes our drawings. Quiet and instant when all are
# there. Always succeeds: those tests are skipped where it is missing, saying so.
needed=""
what=""
if [ ! -x /usr/bin/chromium ] || [ ! -x /usr/bin/chromedriver ]; then
    needed="chromium chromium-driver fonts-dejavu-core"
    what="browser tests"
fi
if ! command -v dot >/dev/null 2>&1; then
    needed="$needed graphviz"
    what="${what:+$what and }Graphviz tests"
fi
[ -n "$needed" ] || exit 0

skipped() {
    echo "$what will be skipped: $1"
    exit 0
}

command -v apt-get >/dev/null 2>&1 || skipped "no apt-get to install ${needed# } with"
[ "$(id -u)" = 0 ] || skipped "as root, run: apt-get install ${needed# }"

log=$(mktemp) || skipped "no room for a temporary file"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >"$log" 2>&1
failed=""
# One by one, so that one that cannot be had does not take the others with it.
for package in $needed; do
    apt-get install -y -qq --no-install-recommends "$package" >>"$log" 2>&1 || failed="$failed $package"
done
if [ -n "$failed" ]; then
    tail -n 3 "$log"
    rm -f "$log"
    skipped "apt-get could not install${failed} (its last words are above)"
fi
rm -f "$log"
exit 0
