"""The recipes of the reference models of the town: shared parts, one training loop, one recipe file a model.

`shapes` holds what determines a model, `run` trains it; `pixart`, `sd3`, `sdxl` and `flux` say what a family needs;
`texts`, `tokens`, `marks` and `teach` are about reading captions; `denoise` is the loop, `onward` its later stages;
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
