"""``skipgrad train``: the loop with a folder – run file, checkpoints, evaluation, signals."""

from skipgrad.train.job.options import STATES, TrainOptions, TrainResult
from skipgrad.train.job.recipes import RECIPES, named_recipe, recipe_names
from skipgrad.train.job.train import train

__all__ = ["RECIPES", "STATES", "TrainOptions", "TrainResult", "named_recipe", "recipe_names", "train"]
