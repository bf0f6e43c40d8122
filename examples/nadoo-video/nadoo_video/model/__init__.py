"""The world model: predicts the next pictures of a site from the last ones and the crane's controls."""

from nadoo_video.model.export import export
from nadoo_video.model.rollout import predict, rollout, to_pictures, to_tensor
from nadoo_video.model.transformer import Shape, WorldModel
from nadoo_video.model.weights import generate_weights, load, save, streamed, weight_bytes

__all__ = [
    "Shape",
    "WorldModel",
    "export",
    "generate_weights",
    "load",
    "predict",
    "rollout",
    "save",
    "streamed",
    "to_pictures",
    "to_tensor",
    "weight_bytes",
]
