"""The model of this program once more, in PyTorch: networks, image formation and the losses of both tasks.

Written from the formulas in kernels/ops.h and src/model.h, with automatic differentiation instead of
hand-written backward passes, to compare numbers (in float64, tests/data/make_torch_dump.py) and speed (in
float32 and bfloat16, compare.py). Parameters come from and go to the flat block of src/nn/layout.h. Everything lives
on torch's default device (torch.set_default_device). Needs: pip install torch numpy h5py"""
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

import philox

MIRROR_MAP = torch.tensor([-1.0, 1.0, -1.0])


@dataclass
class Config:
    """The keys of src/config.h that the networks and tasks depend on, and what a data set adds."""
    box: int = 32
    apix: float = 3.0
    batch: int = 4
    groups: int = 1
    z_dim: int = 8
    encoder_width: int = 64
    pool: str = "flatten"
    stem_pool: bool = True
    stem_stride: int = 2
    head: int = 256
    window_inner: float = 0.85
    window_outer: float = 0.99
    norm: str = "batch"
    shift_unit: str = "box"
    standardise: str = "set"
    separate_stats: bool = True
    stats_momentum: float = 0.05
    decoder_width: int = 256
    frequencies: int = 192
    layers: int = 4
    residual: bool = True
    sigma: float = 1.0
    seed: int = 1
    rate_encoder: float = 3e-4
    rate_decoder: float = 1e-3
    lambda_z: float = 1e-4
    lambda_t: float = 1e-3
    lambda_pose: float = 0.3
    pose_images: int = 1
    mirror: bool = True
    augment: bool = False
    freeze_z: str = "zero"
    pds: bool = True
    asn: bool = True
    shift_range: float = 2.0
    snr: float = 1.0
    noise_variance: float = 1.0


# ---- parameters --------------------------------------------------------------------------------------------


def blocks(c):
    """The eight residual blocks: name, channels in and out, stride."""
    channels = c.encoder_width
    for i in range(8):
        out, stride = c.encoder_width << i // 2, 2 if i % 2 == 0 and i > 0 else 1
        yield f"encoder.layer{i // 2 + 1}.{i % 2}", channels, out, stride
        channels = out


def units(c):
    """Every convolution with its normalisation, in order: name, channels in and out, kernel."""
    yield "encoder.stem", 1, c.encoder_width, 7
    for name, channels, out, stride in blocks(c):
        yield name + ".a", channels, out, 3
        yield name + ".b", out, out, 3
        if stride != 1 or channels != out:
            yield name + ".d", channels, out, 1


def last_side(c):
    side = (c.box - 1) // c.stem_stride + 1
    side = (side + 1) // 2 if c.stem_pool else side
    for _ in range(3):
        side = (side + 1) // 2
    return side


def layout(c):
    """Parameters of the flat block in order: name -> (offset, shape, start, fan, gain); total of floats."""
    table, total = {}, 0

    def add(name, shape, start, fan=0, gain=1.0):
        nonlocal total
        table[name] = total, shape, start, fan, gain
        total += (int(np.prod(shape)) + 15) // 16 * 16

    for name, channels, out, kernel in units(c):
        add(name + ".conv", (out, kernel, kernel, channels), "conv", out * kernel * kernel)
        add(name + ".gamma", (out,), "one")
        add(name + ".beta", (out,), "zero")
    features = c.encoder_width * 8 * (last_side(c)**2 if c.pool == "flatten" else 1)
    for name, out, gain in (("rotation", 6, 1.0), ("shift", 2, 0.1), ("latent", 2 * c.z_dim, 1.0)):
        add(f"encoder.{name}.w1", (c.head, features), "linear", features)
        add(f"encoder.{name}.b1", (c.head,), "linear", features)
        add(f"encoder.{name}.w2", (out, c.head), "linear", c.head, gain)
        add(f"encoder.{name}.b2", (out,), "linear", c.head, gain)
    add("encoder.statistics", (2 * sum(out for _, _, out, _ in units(c)),), "zero")
    width, two_f = c.decoder_width, 2 * c.frequencies
    add("decoder.z.w", (width, c.z_dim), "linear", two_f)
    add("decoder.0.b", (width,), "linear", two_f)
    add("decoder.0.w", (two_f, width), "linear", two_f)
    for l in range(1, c.layers):
        add(f"decoder.{l}.w", (width, width), "linear", width)
        add(f"decoder.{l}.b", (width,), "linear", width)
    add("decoder.out.w", (width, 2), "linear", width)
    add("decoder.out.b", (2,), "zero")
    return table, total


def initial(c):
    """The block as the program starts it from its seed."""
    table, total = layout(c)
    block = np.zeros(total, dtype=np.float32)
    for index, (offset, shape, start, fan, gain) in enumerate(table.values()):
        n = int(np.prod(shape))
        if start == "one":
            block[offset:offset + n] = 1.0
        elif start == "conv":
            block[offset:offset + n] = np.sqrt(2.0 / fan) * philox.normal(c.seed, philox.INIT, 0, index, n)
        elif start == "linear":
            u = philox.uniform(c.seed, philox.INIT, 0, index, n)
            block[offset:offset + n] = gain * (2.0 * u - 1.0) / np.sqrt(fan)
    return block


def half_disc(box):
    """Fourier points kx > 0 or kx = 0 <= ky, radius up to box/2-1, sorted by radius, then kx, then ky."""
    r = box // 2 - 1
    all_points = [(x, y) for x in range(r + 1) for y in range(-r, r + 1)
                  if x * x + y * y <= r * r and (x > 0 or y >= 0)]
    return np.array(sorted(all_points, key=lambda k: (k[0]**2 + k[1]**2, k)), dtype=np.int64)


# ---- small pieces ------------------------------------------------------------------------------------------


def s2s2(v):
    """Rows e1, e2, e3 by Gram-Schmidt: (B,6) -> (B,3,3)."""
    a, b = v[:, :3], v[:, 3:]
    e1 = F.normalize(a, dim=1)
    e2 = F.normalize(b - (e1 * b).sum(1, keepdim=True) * e1, dim=1)
    return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], dim=1)


def latent(head, eps):
    mu, logvar = head.chunk(2, dim=1)
    logvar = logvar.clamp(-10.0, 10.0)
    kl = 0.5 * (mu**2 + logvar.exp() - 1.0 - logvar).sum(1)
    return mu + torch.exp(0.5 * logvar) * eps, kl


def rotation_of(u1, u2, u3):
    """Uniform rotation from three uniform numbers (Shoemake 1992), as src/physics/rotation.c."""
    a, b, t = np.sqrt(1.0 - u1), np.sqrt(u1), 2.0 * np.pi
    w, x, y, z = b * np.cos(t * u3), a * np.sin(t * u2), a * np.cos(t * u2), b * np.sin(t * u3)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def wavelength(voltage):
    h, m, e, c = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
    return 1e10 * h / (2.0 * m * e)**0.5 / torch.sqrt(voltage * (1.0 + e / (2.0 * m * c * c) * voltage))


class ReplayedDraws:
    """The program's own random numbers, so that both can be compared number by number."""

    def __init__(self, c, like):
        self.c, self.like = c, like

    def _tensor(self, rows):
        return torch.as_tensor(np.stack(rows)).to(self.like)

    def eps(self, step, first, n):
        return self._tensor([philox.normal(self.c.seed, philox.LATENT, step, first + i, self.c.z_dim)
                             for i in range(n)])

    def poses(self, step, first, n):
        seed = self.c.seed
        rot = [rotation_of(*philox.uniform(seed, philox.ROTATION, step, first + i, 3)) for i in range(n)]
        shift = [2.0 * philox.uniform(seed, philox.SHIFT, step, first + i, 2) - 1.0 for i in range(n)]
        return self._tensor(rot), self._tensor(shift) * self.c.shift_range

    def quarters(self, step, first, n):
        return [int(philox.words(self.c.seed, philox.TURN, step, first + i, 2)[1]) % 4 for i in range(n)]

    def noise(self, step, first, n, points):
        return self._tensor([philox.point_noise(self.c.seed, step, first + i, points) for i in range(n)])


class FastDraws:
    """PyTorch's own generator: for timings."""

    def __init__(self, c, like):
        self.c, self.like = c, like

    def eps(self, step, first, n):
        return torch.randn(n, self.c.z_dim).to(self.like)

    def poses(self, step, first, n):
        rot = s2s2(torch.randn(n, 6).to(self.like)) # two normal vectors, orthogonalised: uniform on SO(3)
        return rot, ((2.0 * torch.rand(n, 2) - 1.0) * self.c.shift_range).to(self.like)

    def quarters(self, step, first, n):
        return torch.randint(4, (n,)).tolist()

    def noise(self, step, first, n, points):
        return torch.randn(n, points, 2).to(self.like) * 0.5**0.5


# ---- the model ---------------------------------------------------------------------------------------------


class Model:
    """Networks, constants of the box and the two tasks, in `dtype`; matrix products may be autocast."""

    def __init__(self, c, dtype=torch.float64, block=None, draws=ReplayedDraws):
        self.c, self.dtype = c, dtype
        self.table, self.total = layout(c)
        self.params = {}
        self.set_block(initial(c) if block is None else block)
        freq = philox.normal(c.seed, philox.INIT, 1, 0, 3 * c.frequencies) * np.float32(c.sigma * c.box / 4.0)
        self.freq = torch.as_tensor(freq.reshape(-1, 3)).to(dtype)
        self.draws = draws(c, torch.zeros(1, dtype=dtype))
        self.kxy = half_disc(c.box)
        self.k = torch.as_tensor(self.kxy).to(dtype)
        self.weight = torch.full((len(self.k),), 2.0, dtype=dtype)
        self.weight[0] = 1.0
        place = {tuple(k): i for i, k in enumerate(self.kxy.tolist())}
        # the mirror: F'(kx,ky) = conj F(kx,-ky), and F'(0,ky) = F(0,ky)
        self.mirror_index = torch.tensor([place[(x, y if x == 0 else -y)] for x, y in self.kxy.tolist()])
        self.mirror_sign = torch.tensor([[1.0, 1.0 if x == 0 else -1.0] for x, _ in self.kxy]).to(dtype)
        self.centre = torch.as_tensor((-1.0)**(self.kxy.sum(1) % 2)).to(dtype)
        k = torch.as_tensor(self.kxy).double() / (c.box * c.apix)
        self.polar = (k**2).sum(1), torch.atan2(k[:, 1], k[:, 0])
        self.window = self._window()
        self.unit = c.box if c.shift_unit == "box" else 1.0 # pixels in a unit of the shift head
        self.envelope = torch.ones(len(self.k), dtype=dtype)
        self.active, self.real_scale = len(self.k), 1.0
        self.record = True        # keep batch statistics for running averages
        self.winners_only = False # a second decoder pass for the winners alone, not a backward through both
        self.autocast = False     # bfloat16 convolutions and matrix products
        self.form = "fair"        # or "reference": features as public code of this family computes them
        self.full_disc = False    # evaluate k and -k, though one is the other's conjugate
        self.ctf_dtype = torch.float64
        self.given = None         # running statistics to use instead of those of the batch
        self.images_seen = None

    def set_block(self, block):
        for name, (offset, shape, *_) in self.table.items():
            part = torch.as_tensor(np.array(block[offset:offset + int(np.prod(shape))])).to(self.dtype)
            self.params[name] = part.reshape(shape).requires_grad_(name != "encoder.statistics")

    def flat(self, of):
        """A flat block in double precision of the tensors that of(parameter) gives (None: zeros)."""
        block = np.zeros(self.total)
        for name, (offset, shape, *_) in self.table.items():
            value = of(self.params[name])
            if value is not None:
                block[offset:offset + int(np.prod(shape))] = value.detach().double().cpu().numpy().reshape(-1)
        return block

    def part(self, prefix):
        return [p for name, p in self.params.items() if name.startswith(prefix) and p.requires_grad]

    def _window(self):
        c, half = self.c, self.c.box / 2.0
        axis = torch.arange(c.box, dtype=self.dtype) - half
        r = torch.hypot(axis[:, None], axis[None, :]) / half
        t = ((r - c.window_inner) / (c.window_outer - c.window_inner)).clamp(0.0, 1.0)
        return 0.5 * (1.0 + torch.cos(np.pi * t))

    def set_survey(self, envelope, power, radius):
        """Radial amplitude and power per shell; the disc of `radius` is used."""
        r = np.hypot(self.kxy[:, 0], self.kxy[:, 1])
        self.envelope = torch.as_tensor(np.interp(r, np.arange(len(envelope)), envelope)).to(self.dtype)
        self.active = int((r <= radius + 1e-9).sum())
        k = self.kxy[:self.active]
        axis = np.flatnonzero((k[:, 0] == 0) & (k[:, 1] > 0))
        self.row, self.column = torch.as_tensor(k[:, 1] % self.c.box), torch.as_tensor(k[:, 0])
        self.axis, self.axis_row = torch.as_tensor(axis), torch.as_tensor(-k[axis, 1] % self.c.box)
        variance = sum(p for shell, p in enumerate(power) if shell <= radius)
        self.real_scale = float(variance**-0.5)

    # -- encoder --

    def _normalise(self, name, x):
        gamma, beta = self.params[name + ".gamma"], self.params[name + ".beta"]
        if self.c.norm == "group":
            self.batch_stats[name] = [torch.zeros_like(gamma), torch.zeros_like(beta)] # none are kept
            return F.group_norm(x, len(gamma) // 16, gamma, beta, 1e-5)
        if self.given is not None:
            mean, var = self.given[name]
            return F.batch_norm(x, mean, var, gamma, beta, False, 0.0, 1e-5)
        if self.record:
            with torch.no_grad():
                parts = [(g.mean((0, 2, 3)), g.var((0, 2, 3), unbiased=False))
                         for g in x.detach().chunk(self.c.groups)]
                self.batch_stats[name] = [torch.stack(s).mean(0) for s in zip(*parts)]
        parts = [F.batch_norm(g, None, None, gamma, beta, True, 0.0, 1e-5) for g in x.chunk(self.c.groups)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _unit(self, name, x, stride, relu):
        w = self.params[name + ".conv"].permute(0, 3, 1, 2) # stored channels last
        x = self._normalise(name, F.conv2d(x, w, stride=stride, padding=w.shape[2] // 2))
        return F.relu(x) if relu else x

    def encode(self, image):
        """(B,D,D) -> heads: rotation (B,6), shift (B,2), latent (B,2Z)."""
        with self._mixed():
            return [head.to(self.dtype) for head in self._encode(image)]

    def _mixed(self):
        return torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=self.autocast)

    def _encode(self, image):
        c = self.c
        if self.record:
            self.batch_stats = {}
        x = image[:, None].to(memory_format=torch.channels_last)
        x = self._unit("encoder.stem", x, c.stem_stride, True)
        if c.stem_pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for name, channels, out, stride in blocks(c):
            skip = x if stride == 1 and channels == out else self._unit(name + ".d", x, stride, False)
            x = F.relu(self._unit(name + ".b", self._unit(name + ".a", x, stride, True), 1, False) + skip)
        feature = x.permute(0, 2, 3, 1).flatten(1) if c.pool == "flatten" else x.mean((2, 3))
        heads = []
        for name in ("rotation", "shift", "latent"):
            w1, b1, w2, b2 = (self.params[f"encoder.{name}.{which}"] for which in ("w1", "b1", "w2", "b2"))
            heads.append(F.linear(F.relu(F.linear(feature, w1, b1)), w2, b2))
        return heads

    def statistics(self):
        """Batch statistics of the last encode, in the order of the block."""
        return torch.cat([torch.cat(self.batch_stats[name]) for name, *_ in units(self.c)])

    # -- decoder --

    def decode(self, rot, z):
        """(B,3,3), (B,Z) -> slice (B,P,2) on the active points."""
        k = self.k[:self.active]
        if not self.full_disc:
            return self._slice(k, rot, z)
        half, other = self._slice(torch.cat([k, -k]), rot, z).chunk(2, dim=1)
        return 0.5 * torch.stack([half[..., 0] + other[..., 0], half[..., 1] - other[..., 1]], dim=2)

    def _slice(self, k, rot, z):
        with torch.no_grad(): # the side of the half-space: 0 only at the origin
            x, y, z_ = (k @ rot[:, :2]).unbind(2)
            sign = torch.sign(torch.where(z_ != 0, z_, torch.where(y != 0, y, x)))
        turn = 2.0 * np.pi / self.c.box
        if self.form == "reference": # coordinates times frequencies as (B,P,F,3), then a sum; z beside every point's features
            at = (k @ rot[:, :2])[:, :, None, :] * (self.freq * turn)
            phase = at.sum(3)
        else:
            phase = k @ (rot[:, :2] @ self.freq.T * turn) # (P,2) x (B,2,F): never (B,P,F,3)
        x = torch.cat([torch.cos(phase), sign[..., None] * torch.sin(phase)], dim=2)
        with self._mixed():
            out = self._perceptron(x, z).to(self.dtype)
        return torch.stack([out[..., 0], sign * out[..., 1]], dim=2)

    def _first_layer(self, x, z):
        p = self.params
        if self.form == "reference":
            x = torch.cat([x, z[:, None].expand(-1, x.shape[1], -1)], dim=2)
            return F.linear(x, torch.cat([p["decoder.0.w"].T, p["decoder.z.w"]], dim=1), p["decoder.0.b"])
        with torch.autocast(torch.get_default_device().type, enabled=False): # one bias for each image, in full precision
            bias = F.linear(z, p["decoder.z.w"], p["decoder.0.b"])
        h = x @ p["decoder.0.w"]
        return h + bias[:, None].to(h.dtype)

    def _perceptron(self, x, z):
        p = self.params
        h = F.relu(self._first_layer(x, z))
        for l in range(1, self.c.layers):
            h = (h if self.c.residual else 0.0) + F.relu(F.linear(h, p[f"decoder.{l}.w"].T, p[f"decoder.{l}.b"]))
        return F.linear(h, p["decoder.out.w"].T, p["decoder.out.b"])

    # -- image formation --

    def image_to_points(self, image):
        spectrum = torch.fft.rfft2(image)
        picked = spectrum[:, self.row, self.column] * (self.centre[:self.active] / self.c.box)
        return torch.view_as_real(picked)

    def points_to_image(self, points, scale):
        d = self.c.box
        value = torch.view_as_complex(points.contiguous()) * (self.centre[:self.active] * d)
        spectrum = torch.zeros(len(points), d, d // 2 + 1, dtype=value.dtype)
        spectrum[:, self.axis_row, 0] = value[:, self.axis].conj()
        spectrum[:, self.row, self.column] = value
        image = self.window * torch.fft.irfft2(spectrum, s=(d, d)) * scale
        if self.c.standardise == "image":
            image = image - self.window * (image.sum((1, 2)) / self.window.sum())[:, None, None]
            image = image * torch.rsqrt((image**2).mean((1, 2)))[:, None, None]
        return image

    def turn(self, images, quarters):
        """Images turned from x to y about pixel (D/2,D/2), and by what to turn their poses back."""
        back = -torch.arange(self.c.box) % self.c.box
        turned, turns = [], []
        for image, n in zip(images, quarters):
            q = torch.eye(3, dtype=self.dtype)
            for _ in range(n):
                image = image.T[:, back]
                q = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=self.dtype) @ q
            turned.append(image)
            turns.append(q.T)
        return torch.stack(turned), torch.stack(turns)

    def mirror_pairs(self, points):
        p = self.active
        mirrored = points[:, self.mirror_index[:p]] * self.mirror_sign[:p]
        return torch.stack([points, mirrored], dim=1).flatten(0, 1)

    def ctf(self, rows, mirrored):
        """(B,P) from rows (B,7) in double: defocus u, v, angle, voltage, cs, amplitude, phase."""
        u, v, angle, voltage, cs, w, phase = (column[:, None] for column in rows.to(self.ctf_dtype).T)
        angle = torch.where(mirrored[:, None], np.pi - angle, angle)
        s2, theta = (value[:self.active].to(self.ctf_dtype) for value in self.polar)
        lam = wavelength(voltage.clamp(min=1.0))
        defocus = 0.5 * (u + v + (u - v) * torch.cos(2.0 * (theta - angle)))
        gamma = np.pi * lam * s2 * (defocus - 0.5 * cs * lam**2 * s2) + phase
        value = -(torch.sqrt(1.0 - w * w) * torch.sin(gamma) + w * torch.cos(gamma))
        return torch.where(voltage > 0, value, 1.0).to(self.dtype) * self.envelope[:self.active]

    def project(self, slice_, ctf, shift_px):
        turn = (-2.0 * np.pi / self.c.box) * (shift_px @ self.k[:self.active].T)
        re, im = ctf * torch.cos(turn), ctf * torch.sin(turn)
        x, y = slice_.unbind(2)
        return torch.stack([re * x - im * y, re * y + im * x], dim=2)

    def slices(self, rot, z, ctf, shift_px):
        return self.project(self.decode(rot, z), ctf, shift_px)

    def misfit(self, rot, z, ctf, shift_px, target):
        return self.power(target - self.slices(rot, z, ctf, shift_px))

    def power(self, points):
        """Variance per pixel of each image."""
        return ((points**2).sum(2) * self.weight[:self.active]).sum(1) / self.c.box**2

    # -- the tasks --

    def show(self, images, rows):
        """What the encoder sees, targets, CTF of images (n,D,D): rows 2i and 2i+1 are image i and mirror."""
        points = self.image_to_points(images)
        pairs = 2 if self.c.mirror else 1
        target = self.mirror_pairs(points) if pairs == 2 else points
        mirrored = torch.arange(len(target)) % pairs == 1
        ctf = self.ctf(rows.repeat_interleave(pairs, dim=0), mirrored)
        return self.points_to_image(target, self.real_scale), target, ctf

    def image_task(self, images, rows, step, frozen=False, first=0):
        """Task one; `objective` is what to differentiate."""
        c, out = self.c, {}
        pairs = 2 if c.mirror else 1
        seen, target, ctf = self.show(images, rows)
        if c.augment:
            quarters = self.draws.quarters(step, first, len(images))
            seen, back = self.turn(seen, [q for q in quarters for _ in range(pairs)])
        heads = self.encode(seen)
        rot, shift = s2s2(heads[0]), heads[1]
        shift_px = shift * self.unit
        if c.augment:
            rot, shift_px = back @ rot, (back[:, :2, :2] @ shift_px[..., None])[..., 0]
        eps = self.draws.eps(step, first * pairs, len(target))
        z, kl = latent(heads[2], eps)
        if frozen:
            z, kl = (torch.zeros_like(z) if c.freeze_z == "zero" else eps), torch.zeros_like(kl)

        def reconstruct(i):
            loss = self.misfit(rot[i], z[i], ctf[i], shift_px[i], target[i])
            return loss, loss + c.lambda_z * kl[i] + 0.5 * c.lambda_t * shift[i].abs().sum(1)

        if self.winners_only:
            with torch.no_grad():
                loss, total = reconstruct(slice(None))
        else:
            loss, total = reconstruct(slice(None))
        which = torch.arange(len(images))
        if pairs == 2:
            which = 2 * which + (total[1::2] < total[0::2]).long()
        won = reconstruct(which)[1] if self.winners_only else total[which]
        self.images_seen = rows, z[which].detach()
        out.update(seen=seen, heads=heads, rot=rot, z=z, kl=kl, loss=loss, total=total, which=which,
                   objective=won.sum() / c.batch)
        return out

    def pose_task(self, step, frozen=False, first=0):
        """Task two on the images that task one saw last."""
        c = self.c
        rows, z = self.images_seen
        n = len(rows) * c.pose_images
        with torch.no_grad():
            rot, shift_px = self.draws.poses(step, first * c.pose_images, n)
            z = z.repeat_interleave(c.pose_images, dim=0)
            if not c.pds and not (frozen and c.freeze_z == "zero"):
                z = self.draws.eps(step, first * c.pose_images, n)
            ctf = self.ctf(rows.repeat_interleave(c.pose_images, dim=0), torch.zeros(n, dtype=torch.bool))
            points = self.slices(rot, z, ctf, shift_px)

            def group_mean(power):
                return power.reshape(c.groups, -1).mean(1).repeat_interleave(n // c.groups)
            clean = group_mean(self.power(points))
            sigma2 = clean / c.snr if c.asn else torch.full_like(clean, c.noise_variance)
            noise = self.draws.noise(step, first * c.pose_images, n, self.active)
            points = points + torch.sqrt(sigma2)[:, None, None] * noise
            scale = torch.rsqrt(group_mean(self.power(points)).clamp(min=1e-12))
            seen = self.points_to_image(points, scale[:, None, None])
        heads = self.encode(seen)
        got = s2s2(heads[0])
        loss = ((got - rot)**2).sum((1, 2)) / 9.0 + 0.5 * (heads[1] - shift_px / self.unit).abs().sum(1)
        objective = c.lambda_pose * loss.sum() / (c.batch * c.pose_images)
        return dict(seen=seen, heads=heads, rot=got, rot_true=rot, shift_true=shift_px / self.unit, z=z,
                    sigma2=sigma2, loss=loss, objective=objective)

    # -- learning --

    def start(self, fused=False):
        """Optimisers and running statistics, as het_model_update keeps them."""
        c = self.c
        kind = dict(betas=(0.9, 0.999), eps=1e-8, fused=fused)
        self.optimisers = (torch.optim.Adam(self.part("encoder."), lr=c.rate_encoder, **kind),
                           torch.optim.Adam(self.part("decoder."), lr=c.rate_decoder, **kind))
        self.seen = [0, 0] # batches in each set of running statistics
        self.running = [None, None]
        for p in self.params.values():
            p.grad = torch.zeros_like(p) if p.requires_grad else None

    def zero_grad(self, to_none=False):
        for p in self.params.values():
            if to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()

    def update(self, pose):
        """One Adam step of what the task trains; a head without a gradient takes part with 0."""
        self.optimisers[0].step()
        if not pose:
            self.optimisers[1].step()
        if self.record:
            which = int(pose and self.c.separate_stats)
            self.seen[which] += 1
            momentum = max(self.c.stats_momentum, 1.0 / self.seen[which])
            old = self.running[which]
            new = self.statistics()
            self.running[which] = new if old is None else (1.0 - momentum) * old + momentum * new

    def use_running(self, statistics):
        """Normalise with these statistics from now on (until `given` is None again): inference."""
        self.given, at = {}, 0
        for name, _, out, _ in units(self.c):
            self.given[name] = statistics[at:at + out], statistics[at + out:at + 2 * out]
            at += 2 * out

    def infer(self, images, rows, frozen=False):
        """Pose, mean of z and loss per image; the better of image and mirror, mapped back (METHOD 4)."""
        seen, target, ctf = self.show(images, rows)
        heads = self.encode(seen)
        rot, shift, mu = s2s2(heads[0]), heads[1] * self.unit, heads[2].chunk(2, dim=1)[0]
        z = torch.zeros_like(mu) if frozen else mu
        loss = self.misfit(rot, z, ctf, shift, target)
        row = torch.arange(len(images))
        mirrored = torch.zeros(len(images), dtype=torch.bool)
        if self.c.mirror:
            mirrored = loss[1::2] < loss[0::2]
            row = 2 * row + mirrored.long()
        rot, shift = rot[row].clone(), shift[row].clone()
        rot[mirrored] *= MIRROR_MAP.to(rot)[:, None]
        shift[mirrored, 0] *= -1.0
        return dict(rot=rot, shift=shift, mu=mu[row], loss=loss[row], mirrored=mirrored)
