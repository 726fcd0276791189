"""Flags of a network that is trained already: which one, and how it takes its images.

``export`` and ``predict`` read them alike, by ``networks``. A training of larq-filter leaves
``model.images.json`` beside its model, which says how images are scaled; a model of another
training has none.
"""

from absl import flags

from larq_filter.cli import command_line

command_line.define_path("run", None, "Run folder of larq-filter train: its model, and its data.")
command_line.define_path(
    "model_file",
    None,
    "The file of a trained model, in place of --run: .keras, or .npz of models.pack; predict takes "
    ".tflite too.",
)
flags.DEFINE_string(
    "model",
    None,
    "module:function that the run was trained with, or whose module registers the layers that a "
    ".keras file names. It is imported only if it stands here; as --import.",
)
flags.DEFINE_list(
    "mean",
    None,
    "What the training of --model_file subtracted from the pixels (0 to 255 in image files); a "
    "number, or one a channel. Default: with --std 0; else the mean of the training images.",
)
flags.DEFINE_list(
    "std",
    None,
    "What it divided them by: --std=255 for pixels from 0 to 1. Default: with --mean 1; else the "
    "deviation of the training images.",
)
