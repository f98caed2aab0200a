"""The record: what the checks find of the flaw collection, and how often they cry on the healthy set, by effort."""
