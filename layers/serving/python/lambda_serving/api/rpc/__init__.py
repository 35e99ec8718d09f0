"""TensorFlow Serving's gRPC services, over gRPC (`grpc_server`) and gRPC-Web (`grpc_web`)."""

from lambda_serving.api.rpc.grpc_web_mount import with_grpc_web

__all__ = ["with_grpc_web"]
