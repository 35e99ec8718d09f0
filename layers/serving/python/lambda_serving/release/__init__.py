"""Makes the aspired versions of a model the ones that a function serves, a step at a time.

Level-triggered: look (`deployment`), decide (`actions`, pure), apply (`gateway`), look again
(`reconcile`). Nothing is remembered between two looks: a step may be repeated, and die, anywhere.
"""
