"""TensorFlow Serving's gRPC services: over gRPC (`server`), and as gRPC-Web beside the REST API."""

from lambda_serving.api.rpc.grpc_web_mount import with_grpc_web

__all__ = ["with_grpc_web"]
