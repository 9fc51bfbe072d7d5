"""The recipes of the reference models: shared parts, one training loop, one recipe file per model.

`shapes` holds what determines a model, and `run` trains it. `models/` has one file per family. `texts`, `tokens`,
`marks` and `teach` are about reading captions. `denoise` is the training loop of denoisers, `onward` its later stages.
`folder` writes the result.
"""

from reference.recipes.run import FAMILIES, NAMES, recipe_for, train
from reference.recipes.shapes import ModelName, ModelShape, Onward, Recipe, SharedRecipe, TextShape

__all__ = [
    "FAMILIES",
    "NAMES",
    "ModelName",
    "ModelShape",
    "Onward",
    "Recipe",
    "SharedRecipe",
    "TextShape",
    "recipe_for",
    "train",
]
