"""The level of the soak: shipped settings, faults that last, and a limit on every wait."""
