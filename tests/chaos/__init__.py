"""The chaos level: faults by a seeded schedule under open-loop load, and every id compared in the end."""
