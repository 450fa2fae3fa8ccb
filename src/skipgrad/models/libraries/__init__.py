"""One file per library that models come from; each resolves a name to a `ModelSource`."""
