"""What is special in Gemma 3n's checkpoints."""

from test_models import place
from tiny_checkpoints import models


def test_names_of_transformers_4() -> None:
    """It puts the language model's beginning before each "model", and keeps what layers share."""
    model = next(model for model in models() if model.name == "gemma3n")
    weights = {
        name.replace("model.", "model.language_model.", 1).replace("_model_", "_model.language_model_"): x
        for name, x in model.weights().items()
    }
    for shared in (3, 4):
        for name in ("k_proj", "k_norm", "v_proj"):
            begin, end = "model.language_model.layers.", f".self_attn.{name}.weight"
            weights[f"{begin}{shared}{end}"] = weights[f"{begin}2{end}"]
    place(model, weights)
