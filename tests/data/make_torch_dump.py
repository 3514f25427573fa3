"""Writes torch_dump.h5 and torch_open.h5: what bench/pytorch/reference.py computes in float64 for a few small models
(tests/test_model.c).

    python make_torch_dump.py                              pip install torch numpy h5py

Parameters and random numbers are not stored: both sides draw them from the seed. Large arrays are stored as
digests: norm, dot products with four vectors of random signs, and the first eight numbers."""
import os
import sys
from dataclasses import asdict

import h5py
import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/pytorch"))
import philox
from reference import Config, Model

PROBES, VALUES = 4, 8
IMAGES_SAMPLE = 1000 # of the sign vectors of images; parameters use their index
KEYS = dict(z_dim="z_dim", encoder_width="encoder.width", pool="encoder.pool", stem_pool="encoder.stem_pool",
            stem_stride="encoder.stem_stride", head="encoder.head", separate_stats="encoder.separate_stats",
            norm="encoder.norm", shift_unit="encoder.shift_unit", standardise="encoder.standardise",
            residual="decoder.residual", augment="train.augment",
            stats_momentum="encoder.stats_momentum", decoder_width="decoder.width",
            frequencies="decoder.frequencies", layers="decoder.layers", sigma="decoder.sigma",
            seed="train.seed", lambda_z="train.lambda_z", lambda_t="train.lambda_t",
            lambda_pose="train.lambda_pose", pose_images="train.pose_images",
            mirror="train.mirror", freeze_z="train.freeze_z", pds="ablation.pds", asn="ablation.asn",
            rate_encoder="train.rate_encoder", rate_decoder="train.rate_decoder")
SMALL = dict(encoder_width=16, decoder_width=32, frequencies=32, head=64, z_dim=3, shift_range=3.0, snr=0.5,
             noise_variance=0.7, lambda_z=0.01, lambda_t=0.05, lambda_pose=0.8)
# Float32 may turn a relu the other way whose argument is next to zero, and a gradient jumps. Narrow limits
# hold where no argument is: few points and low frequencies, which do not amplify the rotations' deviations of
# about 1e-5, and seeds that keep a margin (`KINK`; found by trying). One case has the whole disc and a wide
# limit, and no learning, which makes more of such jumps. Columns: configuration, radius, FCH, limit of the
# gradients' deviation.
KINK = 4e-6
CASES = {
    "disc": (Config(stem_pool=False, layers=4, seed=4, sigma=0.5, **SMALL), 15.0, False, 2e-2),
    "flatten": (Config(stem_pool=False, layers=3, seed=17, sigma=0.1, **SMALL), 6.0, False, 5e-4),
    "average": (Config(pool="avg", stem_stride=1, seed=36, groups=2, freeze_z="normal", stats_momentum=0.3,
                       separate_stats=False, sigma=0.1, **SMALL), 6.5, True, 5e-4),
    "frozen": (Config(box=16, stem_pool=False, seed=2, pose_images=2, sigma=0.1, **SMALL), 5.0, True, 5e-4),
    "single": (Config(stem_pool=False, seed=19, pose_images=3, mirror=False, pds=False, asn=False, layers=2,
                      sigma=0.1, **SMALL), 7.0, False, 5e-4),
}
# In a file of its own: the choices that the paper leaves open, other than their defaults.
OPEN_CASES = {
    "open": (Config(box=16, stem_pool=False, layers=3, seed=46, norm="group", shift_unit="pixel", standardise="image",
                    residual=False, augment=True, groups=2, sigma=0.1, **SMALL), 5.0, False, 5e-4),
}


def digest(x, sample):
    x = np.asarray(x, dtype=np.float64).reshape(-1)
    bits = philox.words(7, philox.SEARCH, 0, sample, len(x))
    signs = [1.0 - 2.0 * ((bits >> np.uint64(k)) & np.uint64(1)).astype(np.float64) for k in range(PROBES)]
    first = np.zeros(VALUES)
    first[:min(VALUES, len(x))] = x[:VALUES]
    return np.concatenate([[np.sqrt((x * x).sum())], [x @ s for s in signs], first])


def block_digest(model, of):
    block = model.flat(of)
    rows = [digest(block[o:o + int(np.prod(s))], i) for i, (o, s, *_) in enumerate(model.table.values())]
    return np.stack(rows)


def particles(c):
    """Blobs in noise, unit variance: something with structure at every radius."""
    rng = np.random.default_rng(c.seed)
    axis = np.arange(c.box) - c.box / 2
    images = np.zeros((c.batch, c.box, c.box))
    for image in images:
        for _ in range(6):
            x, y = rng.normal(0, c.box / 8, 2)
            r2 = (axis[None] - x)**2 + (axis[:, None] - y)**2
            image += rng.uniform(0.5, 1.5) * np.exp(-r2 / (2 * rng.uniform(1, 3)**2))
    images = images / images.std() + rng.normal(0, 1, images.shape)
    images = (images - images.mean()) / images.std()
    rows = np.array([[15000, 14000, 0.4, 300e3, 2.7e7, 0.1, 0], [21000, 18000, -1.1, 200e3, 2.0e7, 0.07, 0.5],
                     [9000, 9000, 0, 0, 0, 0, 0], [12500, 13500, 2.2, 300e3, 2.7e7, 0.1, 0]])
    shells = np.arange(c.box // 2)
    envelope, power = 2.0 * np.exp(-shells / 8.0) + 0.1, 0.1 * np.exp(-shells / 6.0)
    return tuple(x.astype(np.float32) for x in (images, rows[:c.batch], envelope, power))


def put(group, name, value):
    if isinstance(value, torch.Tensor):
        value = value.detach().double().numpy()
    group.create_dataset(name, data=np.asarray(value, dtype=np.float32))


def put_common(group, out, model):
    for name, head in zip(("rotation", "shift", "latent"), out["heads"]):
        put(group, name, head)
        if head.grad is not None:
            put(group, name + "_gradient", head.grad)
    for name in ("rot", "z", "loss"):
        put(group, name, out[name])
    put(group, "seen", digest(out["seen"], IMAGES_SAMPLE))
    put(group, "gradient", block_digest(model, lambda p: p.grad))
    put(group, "statistics", digest(model.statistics(), IMAGES_SAMPLE + 1))


def differentiate(out):
    for head in out["heads"]:
        head.retain_grad()
    out["objective"].backward()


class WatchedRelu:
    """Remembers how close arguments came to 0."""

    def __init__(self):
        self.relu, self.least = torch.nn.functional.relu, np.inf

    def __call__(self, x):
        if torch.is_grad_enabled():
            self.least = min(self.least, x.detach().abs().min().item())
        return self.relu(x)

    def __enter__(self):
        torch.nn.functional.relu = self
        return self

    def __exit__(self, *_):
        torch.nn.functional.relu = self.relu


def write_case(group, c, radius, frozen, limit, dtype=torch.float64):
    images, rows, envelope, power = particles(c)
    settings = [f"{key}={str(asdict(c)[field]).lower()}" for field, key in KEYS.items()]
    group.attrs["settings"] = np.bytes_("\n".join(settings))
    for name in ("box", "apix", "batch", "groups", "shift_range", "snr", "noise_variance"):
        group.attrs[name] = float(getattr(c, name))
    group.attrs["radius"], group.attrs["frozen"], group.attrs["limit"] = radius, float(frozen), limit
    for name, value in (("images", images), ("ctf", rows), ("envelope", envelope), ("power", power)):
        put(group, name, value)
    model = Model(c, dtype)
    model.set_survey(envelope.astype(np.float64), power.astype(np.float64), radius)
    model.start()
    batch = torch.as_tensor(images).to(dtype), torch.as_tensor(rows)

    put(group, "initial", block_digest(model, lambda p: p))
    with WatchedRelu() as watched:
        out = model.image_task(*batch, step=0, frozen=frozen)
    margin = (out["total"][0::2] - out["total"][1::2]).abs().min() if c.mirror else torch.ones(())
    assert margin > 3e-3, f"{group.name}: winners are too close for float32, {margin:.1e}: take another seed"
    differentiate(out)
    put_common(group.create_group("image"), out, model)
    for name in ("kl", "total", "which", "objective"):
        put(group["image"], name, out[name])
    infer = group.create_group("infer")
    with torch.no_grad():
        model.use_running(model.statistics())
        for name, value in model.infer(*batch, frozen=frozen).items():
            put(infer, name, value)
        model.given = None
    model.zero_grad()
    with watched:
        out = model.pose_task(step=1, frozen=frozen)
    assert watched.least > KINK or limit > 1e-3, (
        f"{group.name}: a relu's argument is {watched.least:.1e}: take another seed")
    differentiate(out)
    put_common(group.create_group("pose"), out, model)
    for name in ("rot_true", "shift_true", "sigma2", "objective"):
        put(group["pose"], name, out[name])

    if limit > 1e-3:
        return
    after = group.create_group("after")
    for pose in (False, True):
        model.zero_grad()
        out = model.pose_task(1, frozen) if pose else model.image_task(*batch, 0, frozen)
        out["objective"].backward()
        model.update(pose)
        put(after, "pose_params" if pose else "image_params", block_digest(model, lambda p: p))
        put(after, "pose_loss" if pose else "image_loss", out["loss"])
    put(after, "running", np.stack([digest(s, IMAGES_SAMPLE + 1) for s in model.running if s is not None]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for path, cases in (("torch_dump.h5", CASES), ("torch_open.h5", OPEN_CASES)):
        with h5py.File(path, "w", libver="earliest") as file:
            for case, row in cases.items():
                write_case(file.create_group(case), *row)
        print(path, os.path.getsize(path), "bytes")
