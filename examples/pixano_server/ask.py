"""Asks the server about an example picture, over HTTP.

python examples/pixano_server/ask.py
"""

import base64
from pathlib import Path

from pixano_inference.client import SyncPixanoInferenceClient
from pixano_inference.schemas.inference import VLMRequest

PICTURE = Path(__file__).parents[1] / "shapes" / "images" / "001.jpg"


def main() -> None:
    """Prints the model's answer."""
    picture = "data:image/jpeg;base64," + base64.b64encode(PICTURE.read_bytes()).decode("ascii")
    client = SyncPixanoInferenceClient.connect("http://127.0.0.1:7463")
    request = VLMRequest(
        model="shapes", prompt="What do you see?", images=[picture], max_new_tokens=32, temperature=0
    )
    print(client.vlm(request).data.generated_text)


if __name__ == "__main__":
    main()
