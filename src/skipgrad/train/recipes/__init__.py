"""Recipes as TOML files; each says in its head where its settings come from."""
