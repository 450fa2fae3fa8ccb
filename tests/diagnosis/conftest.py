"""Benchmarks that are tested here."""

import clinic_package  # noqa: F401  # so that `clinic` is found
