"""Makes a function serve the aspired versions of a model, one step at a time.

`reconcile` looks at the model (`aws.deployed_model`), decides on the next step (`deciding`, pure),
takes it, and looks again. It remembers nothing between two looks, so a run may die anywhere.
"""
