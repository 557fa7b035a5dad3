"""Which models and adapters a checkpoint was merged of and with which weights, from a sample.

A weighted sum, an added difference, an adapter merged in and any mixture of these are linear. What
they were made of is found by least squares on a few rows of every weight (`sampling`), where the
weights of checkpoints add up to one (`least_squares`): by a search for the fewest that explain it
(`search`), but for relatives that only stand for what is not there (`kinship`). What storing in
half precision loses is known (`rounding`), and so is what an explanation may leave over
(`explaining`).
"""
