"""The chart as people install it: rendered by the real Helm, in every way in which its values can be combined."""
