"""The algorithm, in the order in which the data flow through it."""
