"""A user's own project: its folder, its environments, and what is deployed of it."""
