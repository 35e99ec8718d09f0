"""What is reported about calls: metrics, access log, request log."""
