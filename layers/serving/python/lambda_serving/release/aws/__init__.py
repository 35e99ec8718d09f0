"""The calls of AWS that a release makes."""
