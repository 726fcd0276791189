"""Random numbers that depend on seed, kernel and step only.

The same numbers come out eager, in a graph, compiled by XLA and on every device, so that a training
resumed elsewhere goes on as it would have. That is why ``tf.random.stateless_uniform`` is not used:
compiled by XLA its Philox generator gives other numbers than TensorFlow's own kernel.
"""

from larq_filter._keras import tf

_BITS = 24  # float32 holds them exactly, so all dtypes get the same numbers
_WORD = 0xFFFFFFFF


def _mix(x):
    """A bijection of 32-bit words that scatters them: changing one bit changes half the bits.

        x = (x ^ x >> 16) * 0x21F0AAAD
        x = (x ^ x >> 15) * 0x735A2D97
        x = x ^ x >> 15

    Held in int64, which every device multiplies: both factors are below 2^31, so no product of a
    word overflows. Constants: C. Wellons, "Prospecting for hash functions".
    """
    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    word = tf.constant(_WORD, tf.int64)
    for bits, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        x = xor(x, shift(x, tf.constant(bits, tf.int64))) * tf.constant(factor, tf.int64)
        x = tf.bitwise.bitwise_and(x, word)
    return xor(x, shift(x, tf.constant(15, tf.int64)))


def uniform(shape, seed: int, kernel, step, dtype):
    """Uniform random numbers in [0, 1), multiples of 2^-24.

        key = mix(mix(mix(seed) + kernel) + step)
        number = mix(mix(index + key) ^ mix(key + 1)) / 2^32, the upper 24 bits of it

    with every sum modulo 2^32 and ``index`` counting the elements in row-major order.

    Args:
        shape: static shape of the result.
        seed: any integer; counts modulo 2^32.
        kernel: position of the kernel among the binary ones, from 0; integer or scalar tensor.
        step: scalar integer tensor, from 0.
        dtype: float32 and float64 give equal numbers, smaller ones their roundings (1 included).

    Returns:
        A tensor of ``shape`` and ``dtype``.
    """
    shape = tf.TensorShape(shape)
    key = tf.constant(seed & _WORD, tf.int64)
    for number in (kernel, step):
        key = _add(_mix(key), tf.cast(number, tf.int64))
    key = _mix(key)
    index = tf.range(shape.num_elements(), dtype=tf.int64)
    bits = _mix(tf.bitwise.bitwise_xor(_mix(_add(index, key)), _mix(_add(key, 1))))
    bits = tf.bitwise.right_shift(bits, tf.constant(32 - _BITS, tf.int64))
    exact = dtype if dtype == tf.float64 else tf.float32
    return tf.reshape(tf.cast(tf.cast(bits, exact) * 2.0**-_BITS, dtype), shape)


def _add(x, y):
    return tf.bitwise.bitwise_and(x + y, tf.constant(_WORD, tf.int64))
