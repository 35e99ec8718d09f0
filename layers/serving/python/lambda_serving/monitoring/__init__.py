"""What the long-lived server reports about its calls: metrics, access log, request log."""

from lambda_serving.monitoring.access_log import access_logger, log_access
from lambda_serving.monitoring.metrics import Snapshot, counters, text
from lambda_serving.monitoring.prometheus import page_path, with_page
from lambda_serving.monitoring.request_log import RequestLog
from lambda_serving.monitoring.server_metrics import ServerMetrics

__all__ = [
    "RequestLog",
    "ServerMetrics",
    "Snapshot",
    "access_logger",
    "counters",
    "log_access",
    "page_path",
    "text",
    "with_page",
]
