"""What skipgrad does to a running program, and what it asks of the machine."""
