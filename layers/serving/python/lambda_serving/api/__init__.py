"""TensorFlow Serving's API on any transport: REST and JSON, gRPC and gRPC-Web."""
