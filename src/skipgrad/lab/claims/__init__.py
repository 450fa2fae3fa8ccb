"""One file a claim; each registers itself in `CLAIMS`, which imports them when it is first looked into."""
