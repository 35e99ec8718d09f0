"""Images of model versions: the build function and what it does."""
