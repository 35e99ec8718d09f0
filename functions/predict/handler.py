"""One model version as a Lambda function, loaded and warmed when its environment starts."""

import os

from lambda_serving import function
from lambda_serving.settings import Settings

handler = function.start(
    Settings.from_environment(os.environ), stack=os.environ.get("SYSTEM") or "none"
)
