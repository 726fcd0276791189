"""The shortest way from a Larq model to a trained binary network: no latent weights.

python examples/quickstart.py
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import larq_filter as lf  # first: it makes sure that tf.keras is Keras 2

import larq as lq
import tensorflow as tf

tf.keras.utils.set_random_seed(0)

# 1,797 images of handwritten digits, 8x8 pixels of 0..16, scaled to -1..1.
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 8 - 1).astype("float32")
x, x_validation, y, y_validation = train_test_split(
    images, labels, test_size=360, stratify=labels, random_state=0
)

# An ordinary Larq model: nothing in it knows of filters.
binary = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
model = tf.keras.Sequential(
    [
        lq.layers.QuantConv2D(64, 3, padding="same", input_shape=(8, 8, 1), **binary),
        tf.keras.layers.BatchNormalization(momentum=0.9),
        lq.layers.QuantConv2D(64, 3, padding="same", input_quantizer="ste_sign", **binary),
        tf.keras.layers.MaxPool2D(),
        tf.keras.layers.BatchNormalization(momentum=0.9),
        lq.layers.QuantConv2D(64, 3, padding="same", input_quantizer="ste_sign", **binary),
        tf.keras.layers.BatchNormalization(momentum=0.9),
        tf.keras.layers.GlobalAveragePooling2D(),
        tf.keras.layers.Dense(10, activation="softmax"),
    ]
)

# Binary kernels are filtered, everything else is trained by Adam.
model.compile(lf.FilterOptimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=15, validation_data=(x_validation, y_validation), verbose=2)

loss, accuracy = model.evaluate(x_validation, y_validation, verbose=0)
print(f"validation accuracy {accuracy:.3f}, loss {loss:.3f}")
