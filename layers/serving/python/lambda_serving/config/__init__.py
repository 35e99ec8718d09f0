"""What operators configure: flags, model config files, version policies."""
