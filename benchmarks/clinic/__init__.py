"""Healthy nets and sick ones: what the checks find, what they miss, and where they give a false alarm."""
