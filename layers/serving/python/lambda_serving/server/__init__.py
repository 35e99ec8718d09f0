"""The long-lived server: its process, its ports, its workers."""
