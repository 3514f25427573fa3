#!/usr/bin/env python3
"""The fused decoder as nvcc compiles it (PTX, interpreted by ptx.py) against its formulas (kernels/ops.h) in numpy.

usage: check_decode.py [--nvcc NVCC] [--arch compute_90] [--long] [--profile] [--faults]

  --long      more shapes, beside the ones that every path of the kernels runs in; with --faults more of these
  --profile   only: instructions of a full tile of the default network by class and by line, conflicts of banks of shared memory
  --faults    only: PTX with a fault written into it, each of which must be found

Rows, phases, packed weights, forward (by mma, and by wgmma as compiled for compute_90a), backward, and the sums around them run as PTX; gradients of weights, cuBLASLt's on a
GPU, are numpy's. What a tile writes is compared stage by stage, each from what the kernel itself wrote before; and the results
with a network of its own that rounds as the kernels say they do, and with one that does not round, whose gradients are
compared with differences of its results. Exit code 1: something differs or is not allowed. 77: no nvcc, or no numpy.
"""
import argparse
import collections
import contextlib
import copy
import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

import ptx
import warpgroups  # noqa: F401 - ptx knows more instructions with it

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
ROWS, PARTS, STAGE, LAYERS_MAX = 128, 2, 320, 8            # decode.h, decode_tile.h, ops.h
PART, WGMMA_PART = ROWS // PARTS, 16                       # rows of a part: decode_tile.h, decode_fused.cu
WGMMA_SHARED = 12 * 16384 + 26 * 8                         # SHARED_BYTES in decode_wgmma.cu
FLAGS = ["-O3", "-std=c++17", "-lineinfo", "-ptx"]         # kernels/cuda/CMakeLists.txt
ROW = np.dtype([("image", "<i4"), ("slot", "<i4"), ("point", "<i4"), ("kx", "<f4"), ("ky", "<f4"), ("sign", "<f4")])
# Largest differences that are allowed: of one sum in float32; of one that stands on a rounded number which the kernel does not
# write; of a whole result, where a rounded number may fall to the other side, and for gradients a relu to another side of 0;
# of these from a network that does not round.
SUM, UNSEEN, SLICE, GRADIENT, SLICE_EXACT, GRADIENT_EXACT = 3e-5, 2e-3, 2e-3, 3e-2, 2e-2, 0.2
FEW = 2e-3   # share of rounded numbers that may fall to the other side

failures = []


def report(name, error, limit):
    bad = not error <= limit
    print(f"    {name:26s} {error:9.2e}  (limit {limit:.0e}){'   DIFFERS' if bad else ''}")
    if bad:
        failures.append(name)


# ---- the formulas ----------------------------------------------------------------------------------------------------------

def bf16(x):
    """Eight digits, ties to even."""
    part, power = np.frexp(x)
    return np.ldexp(np.rint(part * 256) / 256, power)


def exact(x):
    return x


class Problem:
    """A random network with poses; `which` lists the images of the backward, and a call's chunk begins at row `first`."""

    def __init__(self, width, frequencies, layers, images, points, plain, seed, box=32):
        random = np.random.default_rng(seed)
        self.width, self.frequencies, self.layers, self.images = width, frequencies, layers, images
        self.points, self.plain, self.box = points, plain, box
        half = box // 2 - 1
        kxy = [(x * x + y * y, x, y) for x in range(half + 1) for y in range(-half, half + 1) if x > 0 or y >= 0]
        self.kxy = np.array([(x, y) for _, x, y in sorted(kxy)], np.int32)[:points]
        self.at = [0] + [2 * frequencies * width + l * (width * width + width) for l in range(layers)]
        self.params = random.normal(0, (1.5 / width) ** 0.5, self.at[-1] + 2 * width + 2).astype(np.float32)
        self.freq = random.normal(0, box / 4, (frequencies, 3)).astype(np.float32)
        self.rot = np.linalg.qr(random.normal(size=(images, 3, 3)))[0].astype(np.float32)
        self.rot[0] = np.eye(3)   # folds lie on rows
        self.bias = random.normal(0, 0.3, (images, width)).astype(np.float32)
        self.kz = random.normal(0, box / 6, images).astype(np.float32)
        self.dslice = random.normal(size=(images, points, 2)).astype(np.float32)
        self.which = random.permutation(images)[:max(images - 1, 1)].astype(np.int32)

    def inputs(self, layer):
        return 2 * self.frequencies if layer == 0 else self.width

    def weights(self, layer, params=None):
        size = self.inputs(layer) * self.width
        return (self.params if params is None else params)[self.at[layer]:][:size].reshape(-1, self.width).astype(np.float64)

    def layer_bias(self, layer, params=None):
        return (self.params if params is None else params)[self.at[layer] + self.width ** 2:][:self.width].astype(np.float64)

    def output(self, params=None):
        block = (self.params if params is None else params)[self.at[-1]:].astype(np.float64)
        return block[:-2].reshape(-1, 2), block[-2:]


class Network:
    """The formulas for the rows of listed images; in place of what it rounds, `given` may have what a kernel wrote."""

    def __init__(self, problem, listed, kz, rounded, given=None, params=None, rot=None):
        self.p, self.rounded = problem, rounded
        self.params, self.given, self.shares = params, given or {}, []
        self.image = np.repeat(listed, problem.points)
        self.point = np.tile(np.arange(problem.points), len(listed))
        self.k = problem.kxy[self.point].astype(np.float64)
        rot = (problem.rot if rot is None else rot).astype(np.float64)[self.image]
        kz = np.zeros(len(self.image)) if kz is None else kz.astype(np.float64)[self.image]
        self.q = self.k[:, :1] * rot[:, 0] + self.k[:, 1:] * rot[:, 1] + kz[:, None] * rot[:, 2]
        x, y, z = self.q.T
        self.sign = np.sign(np.where(z != 0, z, np.where(y != 0, y, x)))

    def rounded_or_given(self, name, value, close=None):
        """The number that all that follows stands on; `close` marks those that may be 0 in its place."""
        value = self.rounded(value)
        if name not in self.given:
            return value
        its = self.given[name]
        apart = np.abs(value - its)
        allowed = np.maximum(np.abs(value), np.abs(its)) * 2.0 ** -7 + 1e-5 * np.abs(value).max()
        if close is not None:
            apart = np.where(close, 0, apart)
        report(f"{name}, in last digits", float((apart / allowed).max()), 1)
        self.shares.append(float((apart != 0).mean()))
        return its

    def forward(self):
        p = self.p
        phase = 2 * np.pi * (self.q @ p.freq.astype(np.float64).T) / p.box
        self.x = h = self.rounded_or_given("x", np.concatenate([np.cos(phase), self.sign[:, None] * np.sin(phase)], axis=1))
        self.h, self.z = [], []
        for layer in range(p.layers):
            bias = p.bias[self.image].astype(np.float64) if layer == 0 else p.layer_bias(layer, self.params)
            z = h @ self.rounded(p.weights(layer, self.params)) + bias
            h = np.maximum(z, 0) + (h if layer > 0 and not p.plain else 0)
            h = self.rounded_or_given(f"h{layer}", h)
            self.h.append(h)
            self.z.append(z)
        w, b = p.output(self.params)
        out = h @ w + b
        return np.stack([out[:, 0], self.sign * out[:, 1]], axis=1)

    def backward(self, dslice):
        """Fills g, dz, dphase (rows, 2, F)."""
        p = self.p
        self.g = dslice[self.image, self.point] * np.stack([np.ones_like(self.sign), self.sign], axis=1)
        dh = self.g @ p.output(self.params)[0].T
        self.dz = [None] * p.layers
        for layer in range(p.layers - 1, -1, -1):
            close = np.abs(self.z[layer]) < 1e-5 * np.abs(self.z[layer]).max()
            dz = self.dz[layer] = self.rounded_or_given(f"dz{layer}", np.where(self.z[layer] > 0, dh, 0), close)
            back = dz @ self.rounded(p.weights(layer, self.params)).T
            dh = back if p.plain or layer == 0 else dh + back
        f = p.frequencies
        slope = self.sign[:, None] * (self.x[:, :f] * dh[:, f:] - self.x[:, f:] * dh[:, :f])
        self.dphase = self.k[:, :, None] * slope[:, None, :]

    def gradients(self):
        """dparams, drot (two rows), dbias."""
        p = self.p
        blocks = []
        for layer in range(p.layers):
            blocks.append(((self.x if layer == 0 else self.h[layer - 1]).T @ self.dz[layer]).ravel())
            blocks += [self.dz[layer].sum(axis=0)] if layer > 0 else []
        blocks += [(self.h[-1].T @ self.g).ravel(), self.g.sum(axis=0)]
        drot, dbias = np.zeros((p.images, 2, 3)), np.zeros((p.images, p.width))
        np.add.at(dbias, self.image, self.dz[0])
        np.add.at(drot, self.image, self.dphase @ p.freq.astype(np.float64) * (2 * np.pi / p.box))
        return {"dparams": np.concatenate(blocks), "drot": drot, "dbias": dbias}


def check_formulas(p):
    """The gradients of the network that does not round, against a difference of its results, in their own direction. Not at
    folds: these are steps."""
    p, step = copy.copy(p), 1e-7
    p.rot = np.roll(p.rot, 1, axis=2) + np.random.default_rng(5).normal(0, 0.1, p.rot.shape)
    net = Network(p, p.which, None, exact)
    net.forward()
    net.backward(p.dslice)
    found = net.gradients()
    told = (found["dparams"] ** 2).sum() + (found["drot"] ** 2).sum()
    loss = []
    for to in (step / told ** 0.5, -step / told ** 0.5):
        rot = p.rot + to * np.concatenate([found["drot"], np.zeros((p.images, 1, 3))], axis=1)
        moved = Network(p, p.which, None, exact, None, p.params + to * found["dparams"], rot)
        loss.append((moved.forward() * p.dslice[moved.image, moved.point]).sum())
    report("formulas, by differences", abs((loss[0] - loss[1]) / (2 * step) / told ** 0.5 - 1), 1e-3)


# ---- the kernels -----------------------------------------------------------------------------------------------------------

def compile_ptx(nvcc, arch):
    """Texts of the files."""
    texts = []
    with tempfile.TemporaryDirectory() as folder:
        files = {name: arch for name in ("decode_fused", "decode", "long_product")}
        for name, its_arch in {**files, "decode_wgmma": "compute_90a", "decode_wgmma_back": "compute_90a"}.items():
            out = os.path.join(folder, name + ".ptx")
            source = os.path.join(ROOT, "kernels", "cuda", name + ".cu")
            subprocess.run([nvcc, *FLAGS, "-arch=" + its_arch, source, "-o", out], check=True)
            with open(out) as file:
                texts.append(file.read())
    return texts


def tiles(n, size):
    return -(-n // size)


class Device:
    """What decode.cu, decode_fused.cu, decode_wgmma*.cu and, but for products, long_product.cu do around the kernels."""

    def __init__(self, modules, problem, profile=False, less_shared=0):
        self.fused, self.shared_steps, self.long_product, self.wgmma, self.wgmma_back = modules
        self.p, self.profile, self.less_shared = problem, profile, less_shared
        p, memory = problem, ptx.Global()
        self.memory = memory
        self.kxy, self.freq, self.params = memory.put(p.kxy), memory.put(p.freq), memory.put(p.params)
        self.rot, self.bias, self.kz = memory.put(p.rot), memory.put(p.bias), memory.put(p.kz)
        self.dslice, self.which = memory.put(p.dslice), memory.put(p.which)
        self.pack_weights()

    def launch(self, module, name, grid, threads, arguments, bytes_of_shared=0):
        module.launch(name, grid, threads, bytes_of_shared, arguments, self.memory, self.profile)

    def pack_weights(self):
        p = self.p
        squares = sum(p.inputs(l) * p.width // 256 for l in range(p.layers))
        self.forward, self.backward = self.memory.room(squares * 512), self.memory.room(squares * 512)
        at = 0
        for layer in range(p.layers):
            inputs, w = p.inputs(layer), self.params + 4 * p.at[layer]
            count = inputs * p.width // 256
            self.launch(self.fused, "pack_squares", count, (32, 1), [self.forward + at, w, p.width // 16, p.width, 1])
            self.launch(self.fused, "pack_squares", count, (32, 1), [self.backward + at, w, inputs // 16, 1, p.width])
            at += 512 * count

        if self.has_wgmma():
            steps = 2 * (p.frequencies // 16 + 2 * (p.layers - 1) * 8 + tiles(p.frequencies, 128) * 8)
            self.stages = self.memory.room(steps * 8192)
            arguments = [self.stages, self.params, p.frequencies, p.layers, steps]
            self.launch(self.wgmma, "pack_stages", tiles(steps * 512, 256), (256, 1), arguments)

    def has_wgmma(self):
        """het_cuda_wgmma_fits() in decode_wgmma.cu"""
        return self.p.width == 256 and self.p.frequencies % 32 == 0

    def shared_bytes(self, back):
        """layout_of() in decode_tile.h"""
        p = self.p
        size = ROWS * (max(2 * p.frequencies, p.width) + 8) * 2 + ROWS * ROW.itemsize
        if back:
            size += ROWS * 8 + p.layers * 16 * p.width + PARTS * p.width // 32 * STAGE * 4
        return size - self.less_shared

    def chunk(self, which, first, rows):
        p = self.p
        first_image = first // p.points
        self.chunk_images = (first + rows - 1) // p.points - first_image + 1
        return ptx.pack("QQqqqqq", which, self.kxy, p.points, first, rows, first_image, self.chunk_images)

    def prepare(self, chunk, rows, kz, wgmma, parts=0):
        """Rows and phases; the kernel's argument up to what a direction needs."""
        p, f = self.p, self.p.frequencies
        self.rows, self.turns = self.memory.room(rows * ROW.itemsize), self.memory.room(self.chunk_images * 3 * f * 4)
        self.launch(self.shared_steps, "fill_rows", tiles(rows, 256), (256, 1), [self.rows, chunk, self.rot, kz])
        self.launch(self.fused, "fill_turns", tiles(self.chunk_images * 3 * f, 256), (256, 1),
                    [self.turns, chunk, self.freq, self.rot, kz, p.box, f])
        return ptx.pack("QqqqqQQQQQiii4x", self.rows, rows, tiles(rows, ROWS), p.points, parts, self.turns, self.bias, self.params,
                        self.stages if wgmma else self.forward, self.backward, f, p.layers, p.plain)

    def run_forward(self, kz, first, rows, wgmma=False):
        """slice (rows, 2) of a chunk."""
        p = self.p
        job = self.prepare(self.chunk(0, first, rows), rows, self.kz if kz else 0, wgmma)
        slices = self.memory.room(rows * 8)
        job += ptx.pack("22Q", slices, *[0] * 21)
        if wgmma:
            self.launch(self.wgmma, "wgmma_forward", self.wgmma_blocks(rows), (384, 1), [job], WGMMA_SHARED - self.less_shared)
        else:
            self.launch(self.fused, f"fused_forwardILi{p.width}E", tiles(rows, ROWS), (PARTS * p.width, 1), [job], self.shared_bytes(0))
        return self.memory.get(slices, np.float32, (rows, 2))

    def wgmma_blocks(self, rows):
        """Clusters of two, as few as to have blocks with several tiles."""
        return 2 * min(tiles(rows, 2 * ROWS), max(1, rows // 512))

    def run_backward(self, first, rows, wgmma=False):
        """All that the backward writes for a chunk, by name; x, h, dz in float64, of whole tiles (in pairs, by wgmma)."""
        p, memory, count = self.p, self.memory, 2 * tiles(rows, 2 * ROWS) if wgmma else tiles(rows, ROWS)
        self.part = WGMMA_PART if wgmma else PART
        parts = self.parts = count * ROWS // self.part
        self.of_chunk = self.chunk(self.which, first, rows)
        job = self.prepare(self.of_chunk, rows, 0, wgmma, parts)
        x = memory.room(count * ROWS * 2 * p.frequencies * 2)
        h, dz = ([memory.room(count * ROWS * p.width * 2) for _ in range(n)] for n in (p.layers - 1, p.layers))
        out_sums, bias_sums = memory.room(parts * 2 * (p.width + 1) * 4), memory.room((p.layers - 1) * parts * p.width * 4)
        slots = memory.room((parts + self.chunk_images) * (2 * p.frequencies + p.width) * 4)
        fill = [0] * LAYERS_MAX
        job += ptx.pack("22Q", 0, self.dslice, x, *(h + fill)[:LAYERS_MAX], *(dz + fill)[:LAYERS_MAX], out_sums, bias_sums,
                        slots)
        if wgmma:
            self.launch(self.wgmma_back, "wgmma_backward", self.wgmma_blocks(rows), (384, 1), [job], WGMMA_SHARED + 4096 * p.layers - self.less_shared)
        else:
            self.launch(self.fused, f"fused_backwardILi{p.width}E", count, (PARTS * p.width, 1), [job], self.shared_bytes(1))
        self.at = {"out_sums": out_sums, "bias_sums": bias_sums, "slots": slots}
        found = {"x": self.narrow(x, (count * ROWS, 2 * p.frequencies))}
        found.update({f"h{l}": self.narrow(h[l], (count * ROWS, p.width)) for l in range(p.layers - 1)})
        found.update({f"dz{l}": self.narrow(dz[l], (count * ROWS, p.width)) for l in range(p.layers)})
        found["out_sums"] = memory.get(out_sums, np.float32, (parts, p.width + 1, 2))
        found["bias_sums"] = memory.get(bias_sums, np.float32, (p.layers - 1, parts, p.width))
        found["slots"] = memory.get(slots, np.float32, (parts + self.chunk_images, 2 * p.frequencies + p.width), holes=True)
        return found

    def narrow(self, address, shape):
        return ptx.from_bf16(self.memory.get(address, np.uint16, shape)).astype(np.float64)

    def join(self, rows, found):
        """dparams, drot, dbias of the chunk from what the tiles left."""
        p, f, width, memory, parts = self.p, self.p.frequencies, self.p.width, self.memory, self.parts
        params, dphase = memory.zeroed(p.params.nbytes), memory.room(self.chunk_images * 2 * f * 4)
        drot, dbias = memory.zeroed(p.images * 36), memory.zeroed(p.images * width * 4)
        jobs = [(p.at[-1], self.at["out_sums"], 2 * (width + 1))]
        for l in range(1, p.layers):
            jobs.append((p.at[l] + width * width, self.at["bias_sums"] + 4 * (l - 1) * parts * width, width))
        for at, partial, n in jobs:
            self.launch(self.long_product, "join_slices", tiles(n, 32), (32, 32), [params + 4 * at, partial, parts, n])
        self.launch(self.fused, "join_slots", tiles(self.chunk_images * (2 * f + width), 256), (256, 1),
                    [dphase, dbias, self.at["slots"], self.of_chunk, self.part, f, width])
        self.launch(self.shared_steps, "rotation_sums", tiles(self.chunk_images * 6, 256), (256, 1),
                    [drot, dphase, self.freq, self.of_chunk, f, p.box])
        dparams = memory.get(params, np.float32, len(p.params)).astype(np.float64)
        for l in range(p.layers):
            inputs = found["x"] if l == 0 else found[f"h{l - 1}"]
            dparams[p.at[l]:][:p.inputs(l) * width] += (inputs[:rows].T @ found[f"dz{l}"][:rows]).ravel()
        return {"dparams": dparams, "drot": memory.get(drot, np.float32, (p.images, 3, 3))[:, :2],
                "dbias": memory.get(dbias, np.float32, (p.images, width))}


# ---- comparing -------------------------------------------------------------------------------------------------------------

def of_all(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def of_one(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def rows_of(net, first, rows):
    """The network's rows of a chunk alone."""
    for name in ("image", "point", "k", "q", "sign"):
        setattr(net, name, getattr(net, name)[first:first + rows])
    return net


def check_forward(device, kz, first, rows):
    p, all_images = device.p, np.arange(device.p.images)
    for words, wgmma in ((", wgmma", True), ("", False))[not device.has_wgmma():]:
        slices = device.run_forward(kz, first, rows, wgmma)
        for name, rounded, limit in (("slice", bf16, SLICE), ("slice, not rounded", exact, SLICE_EXACT)):
            net = rows_of(Network(p, all_images, p.kz if kz else None, rounded), first, rows)
            report(name + words, of_all(slices, net.forward()), limit)


def check_tiles(device, net, found, first):
    """Sums of the parts of tiles and of a part's rows of one image, from what the kernel wrote."""
    p, images, rows, count = device.p, device.chunk_images, len(net.image), device.parts
    part = np.arange(rows) // device.part
    out, bias = np.zeros((count, p.width + 1, 2)), np.zeros((p.layers - 1, count, p.width))
    np.add.at(out, part, np.concatenate([net.h[-1], np.ones((rows, 1))], axis=1)[:, :, None] * net.g[:, None, :])
    for l in range(1, p.layers):
        np.add.at(bias[l - 1], part, net.dz[l])
    report("out_sums", of_one(found["out_sums"], out), UNSEEN)
    if p.layers > 1:
        report("bias_sums", of_one(found["bias_sums"], bias), SUM)
    slot = part + (first + np.arange(rows)) // p.points - first // p.points
    slots = np.zeros((count + images, 2 * p.frequencies + p.width))
    np.add.at(slots, slot, np.concatenate([net.dphase.reshape(rows, -1), net.dz[0]], axis=1))
    used, f2 = np.unique(slot), 2 * p.frequencies
    report("slots, of phases", of_one(found["slots"][used, :f2], slots[used, :f2]), SUM)
    report("slots, of dbias", of_one(found["slots"][used, f2:], slots[used, f2:]), SUM)


def check_backward(device, first, rows, wgmma=False):
    p = device.p
    found = device.run_backward(first, rows, wgmma)
    beyond = max(float(np.abs(found[f"dz{l}"][rows:]).max(initial=0)) for l in range(p.layers))
    report("dz beyond the last row", beyond, 0)
    given = {name: value[:rows] for name, value in found.items() if name[0] in "xhd"}
    net = rows_of(Network(p, p.which, None, bf16, given), first, rows)
    net.forward()
    net.backward(p.dslice)
    report("share of other last digits", max(net.shares), FEW)
    check_tiles(device, net, found, first)
    results = device.join(rows, found)
    for words, rounded, limit in (("", bf16, GRADIENT), (", not rounded", exact, GRADIENT_EXACT)):
        net = rows_of(Network(p, p.which, None, rounded), first, rows)
        net.forward()
        net.backward(p.dslice)
        for name, value in net.gradients().items():
            report(name + words, of_all(results[name], value), limit)


def check(modules, words, kz, width, frequencies, layers, images, points, plain, first=0, rows=None):
    start = time.time()
    p = Problem(width, frequencies, layers, images, points, plain, 1)
    rows = (len(p.which) * points - first) if rows is None else rows
    print(f"{words}: width {width}, {frequencies} frequencies, {layers} layers{', plain' if plain else ''}; "
          f"{rows} rows from {first} on, {points} of an image")
    check_formulas(p)
    device = Device(modules, p)
    check_forward(device, kz, first, rows)
    check_backward(device, first, rows)
    if device.has_wgmma():
        print("  backward by wgmma")
        check_backward(device, first, rows, wgmma=True)
    print(f"    {time.time() - start:.1f} s", flush=True)


SHAPES = [   # words, kz, width, frequencies, layers, images, points, plain, first row, rows (None: all)
    ("three images in a tile", False, 128, 32, 3, 6, 50, 0),
    ("a chunk amid images, fewer frequencies than warps take", True, 128, 16, 2, 5, 60, 1, 70, 140),
    ("one layer", True, 256, 16, 1, 3, 40, 0),
    ("the default network", False, 256, 192, 4, 3, 70, 0),
    ("blocks with several tiles", True, 256, 32, 2, 7, 100, 1),
]
MORE_SHAPES = [
    ("the default network, plain", True, 256, 192, 4, 4, 60, 1),
    ("many layers", False, 256, 48, 8, 4, 45, 0),
    ("a tile of one image", True, 128, 128, 3, 2, 256, 0),
    ("tiles of many images", False, 128, 64, 2, 40, 7, 1),
]


# ---- figures for tuning ----------------------------------------------------------------------------------------------------

def class_of(instruction):
    first, last = instruction.parts[0], instruction.parts[-1]
    if first in ("ld", "st", "wmma"):
        return "tensor" if instruction.parts[1] == "mma" else "shared" if first == "wmma" else instruction.parts[1]
    if first in ("wgmma", "mbarrier", "shfl"):
        return {"wgmma": "tensor", "mbarrier": "barriers", "shfl": "exchanges"}[first]
    if first in ("bra", "ret", "bar", "mov"):
        return {"bar": "barriers", "mov": "moves"}.get(first, "branches")
    return "float" if last in ("f32", "f64", "bf16") else "integer"


def print_profile(modules):
    """Of a full tile of the default network; by wgmma of two, in a cluster."""
    device = Device(modules, Problem(256, 192, 4, 3, 140, 0, 1), profile=True)
    for wgmma, rows in (False, ROWS), (True, 2 * ROWS):
        device.run_forward(False, 0, rows, wgmma)
        device.run_backward(0, rows, wgmma)
    for module, name, words in ((device.fused, "fused_forwardILi256E", "a tile"), (device.fused, "fused_backwardILi256E", "a tile"),
                                (device.wgmma, "wgmma_forward", "two tiles"), (device.wgmma_back, "wgmma_backward", "two tiles")):
        code = module.entry(name).code
        counts, by_line, lines = collections.Counter(), collections.Counter(), {}
        for i in code:
            counts[class_of(i)] += i.count
            by_line[i.line] += i.count
            if i.accesses and class_of(i) in ("shared", "global"):
                sums = lines.setdefault((class_of(i), i.line, i.opcode), [0, 0, 0])
                sums[:] = sums[0] + i.accesses, sums[1] + i.pieces, sums[2] + i.least
        print(f"{name}: {sum(counts.values())} instructions of warps in {words}; "
              + ", ".join(f"{kind} {count}" for kind, count in counts.most_common()))
        print("  " + ", ".join(f"{line} {count}" for line, count in by_line.most_common(12)))
        for space, unit in (("shared", "wavefronts"), ("global", "sectors of 32 bytes")):
            mine = [(*key[1:], *sums) for key, sums in lines.items() if key[0] == space]
            print(f"  {space} memory: {sum(m[3] for m in mine)} {unit}, at least {sum(m[4] for m in mine)}; most to gain:")
            for line, opcode, times, pieces, least in sorted(mine, key=lambda m: m[4] - m[3])[:6]:
                if pieces > least:
                    print(f"    {line:22s} {opcode:58s} {times:6d} times {pieces / times:6.2f}, least {least / times:5.2f}")


# ---- faults ----------------------------------------------------------------------------------------------------------------

def each(pattern, to):
    """All that match changed; once where labels come in."""
    return lambda text: re.sub(pattern, to, text, count=1 if "$skip" in to else 0)


def nth(pattern, to, n):
    """The n-th of what matches changed."""
    def change(text):
        found = list(re.finditer(pattern, text))[n]
        return text[:found.start()] + found.expand(to) + text[found.end():]
    return change


def without(pattern, n):
    return nth(pattern, "", n)


FORWARD, BACKWARD, PACK = "fused_forwardILi128E", "fused_backwardILi128E", "pack_squares"
WGMMA, WGMMA_BACK = "wgmma_forward", "wgmma_backward"
SKIP = r""".reg .pred %skip<9>; .reg .b32 %own<9>; mov.u32 %own1, %tid.x; setp.lt.u32 %skip1, %own1, 64;
@%skip1 bra $skip;
\1
$skip:
"""
OVER, AT_ONCE = r"mbarrier\.try_wait[^;]*;", "setp.eq.u32 %over, 0, 0;"
PARTLY = """.reg .pred %skip<9>; .reg .b32 %own<9>; mov.u32 %own1, %tid.x; setp.lt.u32 %skip1, %own1, 64;
@%skip1 bra $skip;
mov.u32 %own2, 1;
$skip:
add.s32 %own3, %own2, 1;
"""
FAULTS = [   # words, kernel, change of its text, what must be said
    ("registers of a tile's squares swapped", FORWARD, each(r"(wmma\.load\.a\S+ \{)(%r\d+), (%r\d+)", r"\1\3, \2"), "differ"),
    ("a tile's squares by columns", BACKWARD, each(r"(wmma\.load\.a\.sync\.aligned\.)row", r"\1col"), "differ"),
    ("squares of weights by rows", PACK, each(r"(wmma\.load\.b\.sync\.aligned\.)col", r"\1row"), "differ"),
    ("registers of products swapped", BACKWARD, each(r"(wmma\.mma[^{]*\{)(%f\d+), (%f\d+)", r"\1\3, \2"), "differ"),
    ("3.14 for pi", BACKWARD, each("0f40C90FDB", "0f40C8F5C3"), "differ"),
    ("cosines for sines", FORWARD, each(r"sin\.approx", "cos.approx"), "differ"),
    ("relu's other side", BACKWARD, each(r"max\.NaN\.f32", "min.NaN.f32"), "differ"),
    ("kx for ky", BACKWARD, each(r"(ld\.shared\.v2\.f32 \t\{)(%f\d+), (%f\d+)", r"\1\3, \2"), "differ"),
    ("an instruction that is not known", FORWARD, each(r"cvt\.rn\.bf16", "cvt.rz.bf16"), "not known"),
    ("vectors 8 bytes off", FORWARD, each(r"(ld\.shared\.v4\.u32 [^;]*\[%r\d+)\]", r"\1+8]"), "no multiple of 16"),
    ("a row too many", FORWARD, each(r"setp\.ge\.s64", "setp.gt.s64"), "outside of any buffer"),
    ("a global address as one of shared memory", FORWARD, each(r"ld\.global\.v4", "ld.shared.v4"), "32 bits"),
    ("a barrier that half of the threads skip", FORWARD, each(r"(bar\.sync[^;]*;)", SKIP), "barrier"),
    ("a warp that meets without half of its lanes", PACK, each(r"(bar\.warp[^;]*;)", SKIP.replace("64", "16")), "elsewhere"),
    ("a register that some threads have not written", FORWARD, each(r"(bar\.sync[^;]*;)", r"\1" + PARTLY), "have not written"),
]
FAULTS += [(f"forward without barrier {n + 1}", FORWARD, without(r"bar\.sync[^;]*;", n), "race") for n in range(4)]
FAULTS += [(f"forward without meeting {n + 1}", FORWARD, without(r"bar\.warp\.sync[^;]*;", n), "race") for n in range(2)]
FAULTS += [(f"backward without barrier {n + 1}", BACKWARD, without(r"bar\.sync[^;]*;", n), "race") for n in range(6)]
FAULTS += [(f"backward without meeting {n + 1}", BACKWARD, without(r"bar\.warp\.sync[^;]*;", n), "race") for n in range(7)]

def first_weights(text):
    """No wait for them: the first look at the barrier that the first product waits for."""
    barrier = re.findall(r"try_wait\S+ %over, \[(%r\d+)\]", text[:text.index("wgmma.fence")])[-1]
    return re.sub(r"mbarrier\.try_wait\S+ %over, \[" + barrier + r"\][^;]*;", AT_ONCE, text, count=1)


STRIDES = str(16 << 32 | 8 << 16)   # of the descriptor
FAULTS += [
    ("wgmma: words of inputs swapped", WGMMA, each(r"(\}, \{)(%r\d+), (%r\d+)(, %r\d+, %r\d+\}, %rd)", r"\1\3, \2\4"), "differ"),
    ("wgmma: sums swapped", WGMMA, each(r"(bf16\.bf16 \{)(%f\d+), (%f\d+), (%f\d+)", r"\1\4, \3, \2"), "differ"),
    ("wgmma: strides of the descriptor swapped", WGMMA, each(STRIDES, str(8 << 32 | 16 << 16)), "differ"),
    ("wgmma: swizzled", WGMMA, each(STRIDES, str(1 << 62 | 16 << 32 | 8 << 16)), "only without swizzle"),
    ("wgmma: no sums from the product before", WGMMA, each(r"setp\.ne\.s32 %add", "setp.eq.s32 %add"), "differ"),
    ("wgmma: half of the bytes expected", WGMMA, each(r"(expect_tx[^;]*, )%r\d+;", r"\g<1>8192;"), "on their way"),
    ("wgmma: a slot free when one group has left", WGMMA, nth(r"(mbarrier\.init[^;]*, )%r\d+;", r"\g<1>4;", 1), "more arrivals"),
    ("wgmma: barriers made unseen", WGMMA, without(r"barrier\.cluster\.arrive[^;]*;", 0), "may not see"),
    ("wgmma: copies that begin 8 bytes off", WGMMA, each(r"(cp\.async\.bulk\S+ \[%r\d+\], \[%rd\d+)\]", r"\1+8]"), "multiples of 16"),
    ("wgmma: a slot filled before it is free", WGMMA, nth(OVER, AT_ONCE, 0), "more arrivals"),
    ("wgmma: weights not waited for", WGMMA, first_weights, "on their way"),
    ("wgmma: weights for one block of two", WGMMA, each(r"mov\.u16 (\t%rs\d+), 3;", r"mov.u16 \1, 1;"), "does not come"),
    ("wgmma: a slot left in one block alone", WGMMA, each(r"(setp\.lt\.u32 %one, %r\d+, )2;", r"\g<1>1;"), "does not come"),
    ("wgmma: no meeting at the end", WGMMA, without(r"barrier\.cluster\.wait[^;]*;", 1), "has left"),
    ("wgmma: sums of other lanes", WGMMA, each(r"(shfl\.sync\.bfly\.b32[^,]*, %r\d+, )%r\d+", r"\g<1>3"), "differ"),
]
FAULTS += [
    ("wgmma back: words for other lanes", WGMMA_BACK, nth(r"(shfl\.sync\.bfly\.b32[^,]*, %r\d+, )%r\d+", r"\g<1>3", 0), "differ"),
    ("wgmma back: x read before all have written", WGMMA_BACK, without(r"bar\.warp\.sync[^;]*;", 0), "race"),
    ("wgmma back: a word of masks for another", WGMMA_BACK, nth(r"(ld\.shared\.u32[^;]*\[%r\d+\+)(\d+)\]", r"\g<1>196816]", 1), "differ"),
    ("wgmma back: dz not waited for", WGMMA_BACK, without(r"wgmma\.wait_group[^;]*0;", 3), "differ"),
    ("wgmma back: dh changed without fence", WGMMA_BACK, without(r"wgmma\.fence[^;]*;", 10), "fence"),
]
# Not found: a wait left out just before another one, as the tenth is, with no time for the slot to be filled.
WITHOUT = [("wait", r"wgmma\.wait_group[^;]*;", "differ", (0, 1, 2, 10), (3, 4, 5, 6, 7, 8)),
           ("fence", r"wgmma\.fence[^;]*;", "fence", (0, 1, 2), ()),
           ("commit", r"wgmma\.commit[^;]*;", "differ", (0, 2), (1, 3, 4, 5, 6, 7, 8, 9)),
           ("arrival", r"@%(?:first|one) mbarrier\.arrive[^;]*;", "does not come", (0, 2, 3), (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))]
FAULTS += [(f"wgmma without {words} {n + 1}", WGMMA, without(form, n), wanted) for words, form, wanted, some, _ in WITHOUT for n in some]
MORE_FAULTS = [(f"wgmma without {words} {n + 1}", WGMMA, without(form, n), wanted) for words, form, wanted, _, more in WITHOUT
               for n in more]


@functools.cache
def module_of(text):
    return ptx.Module(text)


def what_is_said(texts, kernel, change, less_shared=0):
    """About a file with this change in one kernel."""
    its = {WGMMA: 3, WGMMA_BACK: 4}.get(kernel, 0)
    begin = re.search(r"\.entry \w*" + kernel, texts[its]).start()
    end = texts[its].index("\n}\n", begin)
    changed = change(texts[its][begin:end])
    if changed == texts[its][begin:end] and not less_shared:
        return "the change changes nothing"
    modules = [module_of(text) for text in texts]
    modules[its] = ptx.Module(texts[its][:begin] + changed + texts[its][end:])
    problem = {WGMMA: (256, 64, 2, 8, 50, 0, 1), WGMMA_BACK: (256, 32, 2, 5, 50, 0, 1)}.get(kernel, (128, 32, 2, 3, 50, 0, 1))
    problem = Problem(*problem)
    failures.clear()
    try:
        device = Device(modules, problem, less_shared=less_shared)
        if kernel == WGMMA:   # four tiles: each block's second one takes every slot of the ring once more
            slices = device.run_forward(False, 0, 400, wgmma=True)
            report("slice", of_all(slices, Network(problem, np.arange(8), None, bf16).forward()), SLICE)
        elif kernel == WGMMA_BACK:
            check_backward(device, 0, 200, wgmma=True)
        elif kernel == BACKWARD:
            check_backward(device, 0, 100)
        else:
            check_forward(device, False, 0, 100)
    except ptx.Fault as why:
        return str(why)
    return f"{len(failures)} figures differ" if failures else "all agree"


def check_faults(texts, more):
    """Exit code 1: one was not found."""
    missed = 0
    for words, kernel, change, wanted in FAULTS + (MORE_FAULTS if more else []) + [("16 bytes of shared memory too few", FORWARD, None, "outside")]:
        with contextlib.redirect_stdout(io.StringIO()):
            said = what_is_said(texts, kernel, change or (lambda text: text), 0 if change else 16)
        missed += wanted not in said
        print(f"{words}: {'' if wanted in said else 'NOT FOUND: '}{said}", flush=True)
    return 1 if missed else 0


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nvcc", default="nvcc")
    options.add_argument("--arch", default="compute_90")
    options.add_argument("--long", action="store_true")
    options.add_argument("--profile", action="store_true")
    options.add_argument("--faults", action="store_true")
    given = options.parse_args()
    if shutil.which(given.nvcc) is None:
        print("skipped: no nvcc")
        sys.exit(77)
    texts = compile_ptx(given.nvcc, given.arch)
    if given.faults:
        sys.exit(check_faults(texts, given.long))
    modules = [ptx.Module(text) for text in texts]
    if given.profile:
        sys.exit(print_profile(modules))
    for shape in SHAPES + (MORE_SHAPES if given.long else []):
        try:
            check(modules, *shape)
        except ptx.Fault as why:
            failures.append(f"{shape[0]}: {why}")
    print("\n".join(["NOT AS IT MUST BE:", *failures]) if failures else "all agree")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
