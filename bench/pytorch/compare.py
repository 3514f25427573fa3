"""The program against PyTorch on one machine: first whether both compute the same, then how fast.

    python compare.py --program ../../build/release/bench/bench_step [--box 32 64] [--threads 1 2] ...
    pip install torch numpy

Agreement: 20 steps, task one and task two in turn, in float32 from the same parameters, images and random
numbers; both are compared with the same steps in float64. Adam's first steps go by the signs of gradients, so
what float32 cannot tell from zero moves by the full rate one way or the other, and deviations grow with the
rate. Two runs: a calm one, with small rates and low frequencies, must stay below 2e-5 in the median and 1e-3
in every step (single steps reach 1e-4 in PyTorch's float32 too); one as in training must start below 1e-4 and
stay within `--growth` times the deviations of PyTorch's own float32.

Timing: one cycle (a step of each task, with learning, without data loading). The program and a PyTorch
variant take turns, `--rounds` times, on four batches in turn; every sample stands between two runs of a loop
of multiply-adds and is dropped where that loop's rate changed by more than 20 % meanwhile. Reported: medians,
and the median and range of the paired ratios.

PyTorch is given what a careful user would give it: channels last, phases as one product k @ (R B^T) instead
of an array of rotated coordinates, the half-disc, fused Adam, as many threads as the program, no spinning
threads. Variants:
    eager      backward through image and mirror, as automatic differentiation does it by itself
    winners    loss without gradient first, then forward and backward of the winners alone
    compile    `winners` (or what --compile-of says) under torch.compile, where it works
with float32, or bfloat16 autocast against the program's bf16."""
import argparse
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive") # before torch starts its threads

import numpy as np
import torch

from reference import Config, FastDraws, Model

BATCHES = 4


def inputs(c):
    """Images of unit variance, CTF rows, amplitude and power per shell."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(BATCHES, c.batch, c.box, c.box)).astype(np.float32)
    axis = np.linspace(-2, 2, c.box)
    images += 2.0 * np.exp(-axis[None, :]**2 - 2 * axis[:, None]**2).astype(np.float32)
    images = (images - images.mean()) / images.std()
    rows = np.zeros((BATCHES, c.batch, 7), dtype=np.float32)
    rows[..., 0] = rng.uniform(12000, 25000, (BATCHES, c.batch))
    rows[..., 1] = rows[..., 0] - rng.uniform(0, 800, (BATCHES, c.batch))
    rows[..., 2] = rng.uniform(-3, 3, (BATCHES, c.batch))
    rows[..., 3:6] = 3e5, 2.7e7, 0.1
    shells = np.arange(c.box // 2)
    return images, rows, (0.1 + 2.0 * np.exp(-shells / 8.0)).astype(np.float32), (
        0.1 * np.exp(-shells / 6.0)).astype(np.float32)


class Program:
    """bench_step in its serving mode."""

    def __init__(self, path, c, data, threads, precision):
        images, rows, envelope, power = data
        self.file = tempfile.NamedTemporaryFile(suffix=".f32")
        for part in (envelope, power, images, rows):
            self.file.write(part.tobytes())
        self.file.flush()
        settings = {"train.batch": c.batch, "train.pose_images": 1, "train.seed": c.seed,
                    "train.threads": threads, "train.precision": precision,
                    "train.rate_encoder": c.rate_encoder, "train.rate_decoder": c.rate_decoder,
                    "train.lambda_pose": c.lambda_pose, "decoder.sigma": c.sigma}
        command = [path, "serve", self.file.name, c.box, BATCHES, c.apix, c.snr, c.shift_range, c.box / 2 - 1]
        command = [str(word) for word in command] + [f"{k}={v}" for k, v in settings.items()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        bufsize=1)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("bench_step ended; its message is above")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.file.close()


class Learner:
    """The PyTorch side."""

    def __init__(self, c, data, dtype=torch.float32, fast=False, winners=False, autocast=False,
                 compiled=False):
        images, rows, envelope, power = data
        self.images = torch.as_tensor(images).to(dtype)
        self.rows = torch.as_tensor(rows)
        self.model = Model(c, dtype, draws=FastDraws) if fast else Model(c, dtype)
        self.model.set_survey(envelope.astype(np.float64), power.astype(np.float64), c.box / 2 - 1)
        self.model.start(fused=fast)
        self.fast, self.steps = fast, 0
        self.model.winners_only, self.model.autocast, self.model.record = winners, autocast, not fast
        if fast:
            self.model.ctf_dtype = torch.float32
        if compiled:
            self.model.encode = torch.compile(self.model.encode, dynamic=False)
            self.model.decode = torch.compile(self.model.decode, dynamic=False)

    def step(self, batch, step, pose):
        model = self.model
        model.zero_grad(to_none=self.fast)
        out = model.pose_task(step) if pose else model.image_task(self.images[batch], self.rows[batch], step)
        out["objective"].backward()
        model.update(pose)
        return out["objective"].item()

    def cycle(self, batch):
        start = time.perf_counter()
        self.step(batch, self.steps, False)
        self.step(batch, self.steps + 1, True)
        self.steps += 2
        return 1e3 * (time.perf_counter() - start)


def agree(args, c, calm):
    """Objectives of the program and of PyTorch in float32, each against PyTorch in float64."""
    data = inputs(c)
    torch.set_num_threads(max(args.threads))
    program = Program(args.program, c, data, max(args.threads), "fp32")
    exact, single = Learner(c, data, torch.float64), Learner(c, data)
    print(f"D={c.box}, batch {c.batch}, rates {c.rate_encoder:g} and {c.rate_decoder:g}, "
          f"frequencies {c.sigma:g} D/4:\n"
          "  step, task, objective in float64, relative deviation of the program, of PyTorch float32")
    ours, theirs = [], []
    for k in range(args.steps):
        batch, pose = k // 2 % BATCHES, k % 2 == 1
        truth = exact.step(batch, k, pose)
        ours.append(abs(program.ask(f"step {batch} {k} {2 if pose else 1}") / truth - 1.0))
        theirs.append(abs(single.step(batch, k, pose) / truth - 1.0))
        print(f"  {k:3d} {2 if pose else 1}  {truth:.8f}  {ours[-1]:.1e}  {theirs[-1]:.1e}", flush=True)
    program.close()
    good = ours[0] < 1e-4 and (max(ours) < 1e-3 and np.median(ours) < 2e-5 if calm else
                               max(ours) < args.growth * max(theirs))
    print("  agreed" if good else "  NOT AGREED")
    return good


def agree_both(args, box):
    calm = Config(box=box, batch=args.agree_batch, rate_encoder=1e-6, rate_decoder=1e-5, sigma=0.1)
    return agree(args, calm, True) and agree(args, Config(box=box, batch=args.agree_batch), False)


def spread(values):
    return f"{np.median(values):.2f} [{np.min(values):.2f}..{np.max(values):.2f}]"


def compare(args, box, threads, precision, variant):
    c = Config(box=box, batch=args.batch)
    data = inputs(c)
    torch.set_num_threads(threads)
    program = Program(args.program, c, data, threads, precision)
    winners = args.compile_of == "winners" if variant == "compile" else variant == "winners"
    learner = Learner(c, data, fast=True, winners=winners, autocast=precision == "bf16",
                      compiled=variant == "compile")
    ours, theirs = [], []
    for k in range(-4, args.rounds): # four cycles to warm up
        rates = [program.ask("rate")]
        a = program.ask(f"cycle {k % BATCHES}")
        rates.append(program.ask("rate"))
        b = learner.cycle(k % BATCHES)
        rates.append(program.ask("rate"))
        if k >= 0 and min(rates) >= args.quiet * max(rates):
            ours.append(a)
            theirs.append(b)
    program.close()
    name = f"D={box} {precision} {threads} thread{'s' if threads > 1 else ''}, {variant}"
    if not ours:
        print(f"{name}: no sample on a quiet machine")
        return
    ratio = np.array(theirs) / np.array(ours)
    print(f"{name}: program {spread(ours)} ms, {1e3 * c.batch / np.median(ours):.1f} images/s; "
          f"PyTorch {spread(theirs)} ms; ratio {spread(ratio)}, {len(ours)} of {args.rounds} samples",
          flush=True)


def main():
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--program", required=True)
    parser.add_argument("--box", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--variant", nargs="+", default=["eager", "winners", "compile"])
    parser.add_argument("--compile-of", choices=["eager", "winners"], default="winners")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--agree-batch", type=int, default=16)
    parser.add_argument("--growth", type=float, default=20.0)
    parser.add_argument("--quiet", type=float, default=0.8, help="least over greatest rate of the loop")
    parser.add_argument("--skip-agreement", action="store_true")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    if not args.skip_agreement and not all([agree_both(args, box) for box in args.box]):
        sys.exit("they do not compute the same: timings would mean nothing")
    for box in args.box:
        for threads in args.threads:
            for precision in args.precision:
                for variant in args.variant:
                    try:
                        compare(args, box, threads, precision, variant)
                    except Exception as error: # torch.compile needs a compiler and Python's headers
                        if variant != "compile":
                            raise
                        reason = str(error).splitlines()[0]
                        print(f"D={box} {precision} compile: does not work here: {reason}")


if __name__ == "__main__":
    main()
