"""A user's model as every room meets it, and the machine it runs on: wrappers, calls, faults, seeds, threads."""
