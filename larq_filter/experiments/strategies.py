"""Several devices and several machines: the strategies of ``tf.distribute`` by name.

All of them are synchronous. A global batch is split over the replicas, gradients are summed over
them, and every replica takes the same step; so the kernels are those of one device on the same
global batches, but for the order in which floating point numbers are added. What breaks this is a
batch normalisation that takes its statistics from its own replica's images: see
``synchronize_batch_norm``.

| name | replicas |
|---|---|
| ``mirrored`` | all GPUs of this machine; without one, logical CPUs, to try it out |
| ``multi_worker`` | all GPUs of every machine that ``TF_CONFIG`` names; a CPU where there is none |

``training.run`` takes any other synchronous strategy too, such as ``TPUStrategy``: untried.

A run of several machines is backed up and resumed by Keras' ``BackupAndRestore``. Rejected:
parameter servers, whose gradients are stale: a filter would remember those of other weights. And
restarting a lost worker from here: that is the work of whatever started it.
"""

import atexit
import json
import logging
import os
import pathlib
import shutil
import tempfile

from larq_filter import binary
from larq_filter._keras import keras, tf

logger = logging.getLogger(__name__)

NAMES = ("none", "mirrored", "multi_worker")
EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def make(name: str, replicas: int | None = None):
    """The strategy of that name. Call it before TensorFlow computes anything.

    Args:
        name: one of ``NAMES``; "none" gives None.
        replicas: for "mirrored" only. Default: all GPUs, or two logical CPUs where there is none.

    Raises:
        ValueError: unknown name, ``replicas`` that the machine or the strategy does not have,
            ``TF_CONFIG`` missing or malformed.
        RuntimeError: TensorFlow has already started with fewer logical CPUs.
    """
    if name not in NAMES:
        raise ValueError(f"Unknown strategy {name!r}; choose one of {', '.join(NAMES)}.")
    if replicas is not None and name != "mirrored":
        raise ValueError(f"replicas={replicas} is for the strategy mirrored only, not for {name}.")
    if replicas is not None and replicas < 1:
        raise ValueError(f"replicas is {replicas}; it must be at least 1.")
    if name == "mirrored":
        return _mirrored(replicas)
    if name == "multi_worker":
        check_tf_config(os.environ.get("TF_CONFIG"))
        return tf.distribute.MultiWorkerMirroredStrategy()
    return None


def _mirrored(replicas: int | None):
    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus:
        if replicas is not None and replicas > gpus:
            raise ValueError(f"replicas is {replicas}, but this machine has {gpus} GPUs.")
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(replicas or gpus)])
    replicas = replicas or 2
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * replicas,
        )
    except RuntimeError as error:  # TensorFlow has started; it may have enough of them
        found = len(tf.config.list_logical_devices("CPU"))
        if found < replicas:
            raise RuntimeError(
                f"TensorFlow has already started with {found} logical CPUs, and {replicas} are "
                "needed: make the strategy before anything is computed."
            ) from error
    # Collectives between CPUs of one process are numbered process-wide: two strategies would meet.
    reduction = tf.distribute.ReductionToOneDevice()
    devices = [f"CPU:{i}" for i in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def check_tf_config(text: str | None) -> None:
    """Raises unless ``text`` is a TF_CONFIG that names all workers and which one this is.

    Raises:
        ValueError: with what is wrong and an example.
    """

    def refuse(what: str):
        raise ValueError(
            f"The strategy multi_worker reads the environment variable TF_CONFIG, and {what}. "
            f"On the first of two machines it is, for example: TF_CONFIG='{EXAMPLE}'"
        )

    if not text:
        refuse("it is not set")
    try:
        content = json.loads(text)
    except ValueError as error:
        refuse(f"it is no JSON ({error})")
    cluster = content.get("cluster") if isinstance(content, dict) else None
    if not isinstance(cluster, dict) or not cluster.get("worker"):
        refuse('its "cluster" names no "worker"')
    strange = sorted(set(cluster) - {"chief", "worker"})
    if strange:
        refuse(f'its "cluster" may hold "chief" and "worker" only, not {", ".join(strange)}')
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list) or not all(map(_is_address, addresses)):
            refuse(f'"{kind}" is {addresses!r}, not a list of "host:port"')
    task = content.get("task")
    if not isinstance(task, dict) or task.get("type") not in cluster:
        refuse(f'its "task" is {task!r}; its "type" must be one of {", ".join(cluster)}')
    try:
        index = int(task.get("index"))
    except (TypeError, ValueError):
        index = -1
    tasks = len(cluster[task["type"]])
    if not 0 <= index < tasks:
        refuse(f'the "index" of its "task" is {task.get("index")!r}, not in 0, ..., {tasks - 1}')


def _is_address(text) -> bool:
    return isinstance(text, str) and text.rpartition(":")[2].isdigit() and ":" in text[1:]


def describe(strategy, synchronized: bool = True) -> dict | None:
    """What config.json says of a strategy: enough to tell two runs apart; None for none."""
    if strategy is None:
        return None
    return {
        "type": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "workers": workers(strategy),
        "synchronized_batch_norm": synchronized,
    }


def workers(strategy) -> int:
    """Processes that train together, each with its own copy of the program."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    spec = strategy.cluster_resolver.cluster_spec().as_dict()
    return sum(len(addresses) for addresses in spec.values()) or 1


def is_chief(strategy) -> bool:
    """Whether this process writes the files that people look at."""
    return workers(strategy) == 1 or strategy.extended.should_checkpoint


def wait_for_all(strategy) -> None:
    """Returns once every worker has come here: what one wrote before, the others then see."""
    if workers(strategy) > 1:
        ones = strategy.run(tf.function(lambda: tf.ones([]), autograph=False))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None).numpy()


def is_lost_worker(error) -> bool:
    """Whether ``error`` is what TensorFlow raises where another worker has ended."""
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError)
    return isinstance(error, kinds) and "ollective" in str(error)


def require_even(strategy, batch_size: int) -> None:
    """Raises unless every replica gets as many images of a global batch as the others.

    Raises:
        ValueError: the mean over replicas would not be the mean over images.
    """
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if batch_size % replicas:
        below, above = batch_size // replicas * replicas, -(-batch_size // replicas) * replicas
        near = f"{below} or {above}" if below else str(above)
        raise ValueError(
            f"batch_size is {batch_size}, the images of one step of all {replicas} replicas "
            f"together; it must be a multiple of {replicas}: {near}, for example."
        )


def synchronize_batch_norm(model) -> list[str]:
    """Has the batch normalisations of ``model`` take their statistics from all replicas.

    Sets the layers' own attributes, before the first training step. Rejected: a copy of the model
    by the layers' configs, since Keras 2 leaves ``synchronized`` out of them. For the same reason
    the saved model is an ordinary one.

    Returns:
        The names of those that can't: with ``renorm`` or ``virtual_batch_size``.
    """
    left_alone = []
    for layer in binary.layers_of(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.renorm or layer.virtual_batch_size is not None:
                left_alone.append(layer.name)
            else:
                layer.synchronized, layer.fused = True, False
    return left_alone


def prepare(model, strategy, synchronized: bool) -> None:
    """Gets a model ready for several replicas, and says what they share and what they don't.

    Args:
        model: compiled in the scope of ``strategy``, not trained yet.
        strategy: None is one device, for which there is nothing to do.
        synchronized: whether batch normalisations take their statistics from all replicas.
    """
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if replicas == 1:
        return
    logger.info("%s: %d replicas share each batch.", type(strategy).__name__, replicas)
    norms = [
        layer.name
        for layer in binary.layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    alone = synchronize_batch_norm(model) if synchronized else norms
    if alone:
        logger.warning(
            "%d of %d batch normalisations (%s, ...) take their statistics from the images of one "
            "replica: the binary kernels will be others than those of one device.",
            len(alone),
            len(norms),
            alone[0],
        )


def own_folder(folder: pathlib.Path, strategy) -> pathlib.Path:
    """Where this process writes: the run folder; for all workers but the first a temporary one.

    They have to write too: what the replicas average is read by all workers together. The temporary
    folder goes when the process ends.
    """
    if is_chief(strategy):
        return folder
    own = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return pathlib.Path(own)


def sharded(dataset, strategy):
    """``dataset`` of global batches, each of which is split over workers and their replicas.

    TensorFlow's own choice may split files over workers, which gives other batches than one device.
    """
    if strategy is None:
        return dataset
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)
