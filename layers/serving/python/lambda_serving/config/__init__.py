"""What operators set: flags, model config files, version policies."""
