"""The checks, one a file; each registers itself in `CHECKS`, which imports them when it is first looked into."""
