"""A user's model as every room meets it: its wrappers, its calls, its faults, its seeds; leaving it as it was."""
