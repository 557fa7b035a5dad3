"""The sampler's own process: jobs in, results out, one line each."""
