"""Speed and memory, side by side with the peer or the physical limit; never part of the tests."""
