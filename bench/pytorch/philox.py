"""The program's random numbers in numpy: Philox4x32-10 keyed by (seed, stream, step, sample), see src/rng.h.

Logarithms and cosines are those of double precision, rounded to float32 at the end: a number may differ from
the program's in its last bit."""
import numpy as np

INIT, SHUFFLE, LATENT, ROTATION, SHIFT, NOISE, SIMULATE, SEARCH, TURN = range(1, 10)


def words(seed, stream, step, sample, count):
    """The first `count` 32-bit words of a sequence."""
    mask = np.uint64(0xFFFFFFFF)
    blocks = (count + 3) // 4
    k0 = seed & 0xFFFFFFFF
    k1 = (seed >> 32 & 0xFFFFFFFF) ^ ((step >> 32) * 0x85EBCA6B & 0xFFFFFFFF)
    c = [np.arange(blocks, dtype=np.uint64)] + [
        np.full(blocks, w, dtype=np.uint64)
        for w in (sample & 0xFFFFFFFF, (sample >> 32 & 0xFFFFFFFF) ^ (stream << 24), step & 0xFFFFFFFF)]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & mask,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count]


def to_uniform(w):
    return ((w >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23


def uniform(seed, stream, step, sample, count):
    """Numbers in (0, 1), exact in float32."""
    return to_uniform(words(seed, stream, step, sample, count))


def normal(seed, stream, step, sample, count):
    """Box-Muller, two uniform numbers each."""
    u = uniform(seed, stream, step, sample, 2 * count)
    return (np.sqrt(-2.0 * np.log(u[0::2])) * np.cos(2.0 * np.pi * u[1::2])).astype(np.float32)


def point_noise(seed, step, sample, points):
    """Noise of variance 1 per Fourier point of one synthetic image (points, 2): kernels/ops.h, add_noise."""
    u = uniform(seed, NOISE, step, sample, 2 * points)
    radius, turn = np.sqrt(-np.log(u[0::2])), 2.0 * np.pi * u[1::2]
    noise = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    noise[0] = noise[0, 0] * np.sqrt(2.0), 0.0
    return noise
