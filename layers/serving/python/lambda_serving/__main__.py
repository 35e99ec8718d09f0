"""`python -m lambda_serving` is `lambda-serving`, where the package is not installed."""

from lambda_serving.cli import main

main()
