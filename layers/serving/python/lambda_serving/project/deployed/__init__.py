"""What is deployed: looked at, reckoned up, removed. It only reads, except for `removal`."""
