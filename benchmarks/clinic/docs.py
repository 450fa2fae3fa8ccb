"""Writes the tables into the pages of the checks."""


def write(rows):
    raise SystemExit("later")
