"""Asks a server which digits it sees: the first ten MNIST test digits, or one picture.

    python client.py
    python client.py digit.png
    python client.py --signature_name call    for the model of saved_with_signature

A picture of any size is scaled to 28x28 and sent in grey. It should be white on black, as MNIST is.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import requests
from numpy.typing import NDArray

import mnist

_HERE = Path(__file__).parent
_TIMEOUT_SECONDS = 60
_INK = 0.3  # A printed pixel above this is ink.


class PredictError(Exception):
    """The server could not be reached, or answered something else than predictions."""


def predict(
    url: str, pixels: NDArray[np.float32], signature_name: str | None = None
) -> NDArray[np.float64]:
    """Probabilities [n, 10] of the digits 0 to 9 for pixels [n, 28, 28, 1] from 0 to 1.

    Raises PredictError with the server's own words where it has any.
    """
    request = {"instances": pixels.tolist()}
    if signature_name is not None:
        request["signature_name"] = signature_name
    try:
        response = requests.post(url, json=request, timeout=_TIMEOUT_SECONDS)
        answer: object = response.json()
    except requests.JSONDecodeError as error:
        raise PredictError(f"{url} answered {response.status_code} without JSON") from error
    except requests.RequestException as error:
        raise PredictError(f"Could not reach {url} ({type(error).__name__})") from error
    match answer:
        case {"predictions": list(predictions)}:
            return np.array(predictions)
        case {"error": str(message)}:
            raise PredictError(f"The server answered {response.status_code}: {message}")
    raise PredictError(f"{url} answered {response.status_code} without predictions")


def read_picture(path: Path) -> NDArray[np.float32]:
    """A picture as one instance, pixels [1, 28, 28, 1]; raises OSError if it is no picture."""
    from PIL import Image  # Only pictures need Pillow.

    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((28, 28), Image.Resampling.BILINEAR)
    grey = np.round(np.asarray(small) @ np.array([0.299, 0.587, 0.114])) / 255
    return np.asarray(grey, np.float32).reshape(1, 28, 28, 1)


def show(pixels: NDArray[np.float32]) -> None:
    """Prints one instance [28, 28, 1] as 28 lines: ink is blank, paper is 1."""
    for row in pixels[..., 0]:
        print(" ".join(" " if value > _INK else "1" for value in row))


def _guess_test_digits(url: str, signature_name: str | None) -> None:
    digits = mnist.load(_HERE / "digits", "t10k-100").first(10)
    predictions = predict(url, digits.pixels(), signature_name)
    print("predicted", predictions.argmax(axis=1))
    print("true     ", digits.labels)


def _guess_picture(path: Path, url: str, signature_name: str | None) -> None:
    pixels = read_picture(path)
    show(pixels[0])
    for probabilities in predict(url, pixels, signature_name):
        digit = probabilities.argmax()
        print(f"This is a {digit}, with probability {probabilities[digit]}")


def main() -> None:
    """Prints the guesses; ends with code 1 and one sentence where there are none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, nargs="?", help="picture of one digit")
    parser.add_argument("--url", default="http://localhost:8501/v1/models/MLP:predict")
    parser.add_argument("--signature_name", help="needed where the model has no serving_default")
    arguments = parser.parse_args()
    try:
        if arguments.image is None:
            _guess_test_digits(arguments.url, arguments.signature_name)
        else:
            _guess_picture(arguments.image, arguments.url, arguments.signature_name)
    except (PredictError, mnist.MnistError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
