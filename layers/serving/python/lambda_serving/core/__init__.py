"""The versions of models, from aspired to loaded to unloaded."""
