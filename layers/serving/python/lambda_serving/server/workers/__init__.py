"""Several processes that serve on the same ports, and their parent, which serves nothing itself."""

from lambda_serving.server.workers.supervisor import supervise

__all__ = ["supervise"]
