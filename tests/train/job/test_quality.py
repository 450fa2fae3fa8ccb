"""What the small recipes reach, on samples held out; the dated figures are in benchmarks/results."""

import pytest

from skipgrad.train.job import TrainOptions, named_recipe, train

UNET = {"in_channels": 2}


@pytest.mark.parametrize(
    ("name", "model", "args", "data", "figure", "reached"),
    [
        ("digits-small", "skipgrad:resnet20", {}, "digits", "accuracy", 0.97),
        pytest.param("detection-small", "skipgrad:fasterrcnn", {}, "detection", "map", 0.6, marks=pytest.mark.slow),
        pytest.param("unet-shapes-small", "skipgrad:unet", {}, "shapes", "iou", 0.75, marks=pytest.mark.slow),
        # A byte of Python source at chance costs ln 256 = 5.5; by how often each comes, 3.3.
        pytest.param("charlm-small", "skipgrad:preln2", {}, "text", "loss", 2.2, marks=pytest.mark.slow),
        # The squared error of no flow at all is the flow's variance, about 0.36.
        pytest.param(
            "flow-small", "skipgrad:unet", {**UNET, "num_classes": 2}, "flow", "loss", 0.1, marks=pytest.mark.slow
        ),
        # The noise has the variance 1.
        pytest.param(
            "diffusion-small",
            "skipgrad:unet",
            {**UNET, "num_classes": 1},
            "denoise:digits",
            "loss",
            0.5,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_small_recipe_reaches_what_it_says(name, model, args, data, figure, reached, tmp_path):
    recipe = named_recipe(name).with_values({"measure_every": 0})
    result = train(TrainOptions(model, data, tmp_path, args, recipe, threads=1))
    assert result.state == "finished"
    assert result.metric == figure
    last = result.evaluations[-1][figure]
    assert (last >= reached) if figure in ("accuracy", "iou", "map") else (last <= reached)
