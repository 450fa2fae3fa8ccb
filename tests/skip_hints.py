"""How to enable what a test was skipped for."""

from __future__ import annotations

# What is in the reason, and what to do.
HINTS = {
    "Graphviz": "`make system`, or apt-get install graphviz",
    "chrom": "`make system`, or apt-get install chromium chromium-driver",
    "could not import": "`make test` installs it: pip install -c constraints.txt -e '.[test]'",
    "Ray": "`make test` installs it where there is a build for this Python",
    "root may write anywhere": "run the tests as another user than root",
    "not repeatable here": "nothing to do: here this net gives other bits from one run to the next",
    "quantized engine": "needs a build of torch with FBGEMM or QNNPACK",
    "has the device": "run on a machine without a GPU",
    "cgroup": "run as root on the machine itself, or in a container with a writable /sys/fs/cgroup",
}


def hint(reason: str) -> str:
    """What to do about a reason, or nothing."""
    return next((todo for word, todo in HINTS.items() if word in reason), "")
