"""The Pixano server's configuration: the embedded model, several requests answered as one batch.

pixano-inference --config examples/pixano_server/models.py
"""

from pathlib import Path

from pixano_inference.configs.base import DeploymentConfig, ModelConfig

import pixano_vlm

models = [
    ModelConfig(
        name="shapes",
        model_class="TransformersVLMModel",
        model_params={"path": str(Path(pixano_vlm.__file__).parent / "shapes" / "model")},
        # Requests that come within a tenth of a second are answered together.
        deployment=DeploymentConfig(max_batch_size=16, max_ongoing_requests=32, max_replicas=1),
    )
]
