"""From noise to a picture: samplers, steps, devices and memory."""
