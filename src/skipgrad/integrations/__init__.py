"""Plugs into other people's training loops: `skipgrad.integrations.lightning`. Imports none of them itself."""
