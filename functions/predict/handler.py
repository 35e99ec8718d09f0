"""One model version as a Lambda function, loaded and warmed when its environment starts."""

import os

from lambda_serving import function
from lambda_serving.config.server_flags import Settings

# A run may take what Lambda leaves of the time, unless a setting says less.
_environment = {"REST_API_TIMEOUT_IN_MS": "0", **os.environ}
handler = function.start(
    Settings.from_environment(_environment),
    stack=os.environ.get("SYSTEM") or "none",
    base_path=os.environ.get("API_BASE_PATH", ""),
)
