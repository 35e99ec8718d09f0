"""A version's life: aspired, loaded, unloaded."""
