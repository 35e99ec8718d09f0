"""Several processes that serve on the same ports, and their parent, which serves nothing itself."""
