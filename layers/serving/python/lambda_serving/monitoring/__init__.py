"""What the long-lived server reports about its calls: metrics, access log, request log."""
