"""The program against PyTorch on one machine: first whether both compute the same, then how fast. ../compare builds
the program's side and calls this.

    compare.py --program ../../build/release/bench/bench_step [--device cuda] [--box 32 64] [--threads 2] ...
    pip install torch numpy

Agreement: 20 steps, task one and task two in turn, from the parameters that the program hands over, the same images
and random numbers; both sides are compared with the same steps in float64. Adam's first steps go by the signs of
gradients, so what float32 cannot tell from zero moves by the full rate one way or the other, and deviations grow
with the rate. With small rates and low frequencies the losses must agree, in float32 to 1e-4 in the median and to 1e-3
in every step (the slice is not continuous where a point passes from one half-space into the other, and single steps
show that, PyTorch's float32 too); in bf16 the 10 losses of task one, as a vector, to 1e-2, and those of task two to
1e-2 or to one and a half times what PyTorch's own autocast deviates. With rates as in training float32 must start
below 1e-4 and stay within `--growth` times the deviations of PyTorch's own float32.

Timing: one cycle (a step of each task, with learning, without data loading). The program and a PyTorch
variant take turns, `--rounds` times, on four batches in turn. On the CPU every sample stands between two runs of a
loop of multiply-adds and is dropped where that loop's rate changed by more than 20 % meanwhile. Reported: medians, the
median and range of the paired ratios, and the arithmetic of the cycle as the program does it (GFLOP, of which half is
multiplications) per second, beside what a large matrix product reaches on the same device in the same run.

PyTorch is given what a careful user would give it: channels last, the half-disc, fused Adam, as many threads as the
program, no spinning threads, the data set on the device. Variants:
    reference  features as public code of this family has them: rotated coordinates times frequencies as an array
               [images, points, F, 3], then the sum, cosine and sine, and z concatenated to every point's features
    fair       phases as one product k @ (R B^T), z as a bias
    winners    fair; loss without gradient first, then forward and backward of the better of image and mirror alone
    compile    winners (or what --compile-of says) under torch.compile (--compile-mode), where it works
and what savings are worth (ablations):
    full       fair, the slice evaluated at k and -k
    both       no PyTorch: the program as it is against itself with the decoder's backward pass for losers too
and, on a GPU, the program against itself with
    launches   the work of a step launched kernel by kernel (HET_CUDA_GRAPH=off)
    fused      the decoder in one kernel by mma in place of wgmma (HET_CUDA_DECODE=fused), in bf16 on an H100
    layers     the decoder layer by layer (HET_CUDA_DECODE=plain)
in float32, or bfloat16 autocast against the program's bf16."""
import argparse
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive") # before torch starts its threads

import numpy as np
import torch
import torch._inductor.config

from reference import Config, FastDraws, Model, blocks, last_side

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

    def __init__(self, args, c, data, threads, precision, **environment):
        images, rows, envelope, power = data
        self.file = tempfile.NamedTemporaryFile(suffix=".f32")
        for part in (envelope, power, images, rows):
            self.file.write(part.tobytes())
        self.file.flush()
        settings = {"train.batch": c.batch, "train.pose_images": 1, "train.seed": c.seed,
                    "train.threads": threads, "train.precision": precision,
                    "train.rate_encoder": c.rate_encoder, "train.rate_decoder": c.rate_decoder,
                    "train.lambda_pose": c.lambda_pose, "decoder.sigma": c.sigma}
        command = [args.program, "serve", self.file.name, c.box, BATCHES, c.apix, c.snr, c.shift_range, c.box / 2 - 1]
        command = [str(word) for word in command] + [f"{k}={v}" for k, v in settings.items()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        bufsize=1, env={**os.environ, "HET_BENCH_DEVICE": args.device, **environment})

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("bench_step ended; its message is above")
        return float(answer)

    def parameters(self):
        with tempfile.NamedTemporaryFile(suffix=".f32") as file:
            count = int(self.ask(f"save {file.name}"))
            return np.fromfile(file.name, dtype=np.float32, count=count)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.file.close()


class Learner:
    """The PyTorch side, from the program's parameters. `variant` None: step by step with the program's random numbers."""

    def __init__(self, c, data, block, dtype=torch.float32, mixed=False, variant=None, args=None):
        images, rows, envelope, power = data
        self.images = torch.as_tensor(images).to(dtype)
        self.rows = torch.as_tensor(rows)
        self.steps, self.timed = 0, variant is not None
        self.model = model = Model(c, dtype, block, draws=FastDraws) if self.timed else Model(c, dtype, block)
        model.set_survey(envelope.astype(np.float64), power.astype(np.float64), c.box / 2 - 1)
        model.start(fused=self.timed)
        model.autocast, model.record = mixed, not self.timed
        if self.timed:
            model.ctf_dtype = torch.float32
            kind = args.compile_of if variant == "compile" else variant
            model.winners_only = kind == "winners"
            model.form = "reference" if kind == "reference" else "fair"
            model.full_disc = kind == "full"
        if variant == "compile":
            for parameter in model.params.values(): # else each call copies them to where its graph wants them
                torch._dynamo.mark_static_address(parameter)
            torch._inductor.config.autotune_num_choices_displayed = 0 # no word on each
            for name in ("encode", "misfit", "slices", "ctf"):
                setattr(model, name, torch.compile(getattr(model, name), dynamic=False, mode=args.compile_mode))

    def step(self, batch, step, pose):
        model = self.model
        if self.timed:
            torch.compiler.cudagraph_mark_step_begin()
        model.zero_grad(to_none=self.timed)
        out = model.pose_task(step) if pose else model.image_task(self.images[batch], self.rows[batch], step)
        out["objective"].backward()
        model.update(pose)
        return out["objective"].detach()

    def cycle(self, batch, count):
        """Milliseconds of each of `count` cycles from this batch on."""
        settle()
        start = time.perf_counter()
        for k in range(count):
            self.step((batch + k) % BATCHES, self.steps, False)
            self.step((batch + k) % BATCHES, self.steps + 1, True)
            self.steps += 2
        settle()
        return 1e3 * (time.perf_counter() - start) / count


def settle():
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()


# ---- agreement ---------------------------------------------------------------------------------------------


def deviations(args, c, precision):
    """Relative deviations (steps, 2) from float64 of the objectives of the program and of PyTorch in that precision."""
    data = inputs(c)
    program = Program(args, c, data, max(args.threads), precision)
    block = program.parameters()
    exact = Learner(c, data, block, torch.float64)
    other = Learner(c, data, block, mixed=precision == "bf16")
    print(f"D={c.box}, batch {c.batch}, {precision}, rates {c.rate_encoder:g} and {c.rate_decoder:g}, "
          f"frequencies {c.sigma:g} D/4:\n"
          "  step, task, objective in float64, relative deviation of the program, of PyTorch in this precision")
    rows = []
    for k in range(args.steps):
        batch, pose = k // 2 % BATCHES, k % 2 == 1
        truth = exact.step(batch, k, pose).item()
        ours, theirs = program.ask(f"step {batch} {k} {2 if pose else 1}"), other.step(batch, k, pose).item()
        rows.append((truth, ours - truth, theirs - truth))
        print(f"  {k:3d} {2 if pose else 1}  {truth:.8f}  {abs(ours / truth - 1):.1e}  {abs(theirs / truth - 1):.1e}", flush=True)
    program.close()
    return np.array(rows)


def agree(args, box, precision):
    calm = Config(box=box, batch=args.agree_batch, rate_encoder=1e-6, rate_decoder=1e-5, sigma=0.1)
    rows = deviations(args, calm, precision)
    each = np.abs(rows[:, 1:] / rows[:, :1])
    if precision == "fp32":
        what, ours, theirs = "median of both tasks", *np.median(each, axis=0)
        good = ours < 1e-4 and each[:, 0].max() < 1e-3
    else:
        whole = [np.linalg.norm(rows[task::2, 1:], axis=0) / np.linalg.norm(rows[task::2, 0]) for task in (0, 1)]
        what, ours, theirs = "the worse of the two trajectories", *np.max(whole, axis=0)
        good = whole[0][0] < 1e-2 and ours < max(1e-2, 1.5 * theirs)
    print(f"  {what}: program {ours:.1e}, PyTorch {theirs:.1e}: {'agreed' if good else 'NOT AGREED'}", flush=True)
    return good


def agree_in_training(args, box):
    rows = deviations(args, Config(box=box, batch=args.agree_batch), "fp32")
    ours, theirs = np.abs(rows[:, 1:] / rows[:, :1]).T
    good = ours[0] < 1e-4 and max(ours) < args.growth * max(theirs)
    print("  agreed" if good else "  NOT AGREED", flush=True)
    return good


# ---- timing ------------------------------------------------------------------------------------------------


def work(c, points):
    """FLOP of a cycle for each image as the program does it: forward and backward of the encoder for image, mirror and
    synthetic image, three forward passes of the decoder and the backward pass for the better pose."""
    side = (c.box - 1) // c.stem_stride + 1
    encoder = 2 * 49 * c.encoder_width * side**2
    side = (side + 1) // 2 if c.stem_pool else side
    for name, channels, out, stride in blocks(c):
        side = (side - 1) // stride + 1
        skip = channels if stride != 1 or channels != out else 0
        encoder += 2 * side**2 * out * (9 * channels + 9 * out + skip)
    features = c.encoder_width * 8 * (last_side(c)**2 if c.pool == "flatten" else 1)
    encoder += 2 * c.head * (3 * features + 8 + 2 * c.z_dim)
    decoder = 2 * points * c.decoder_width * (2 * c.frequencies + (c.layers - 1) * c.decoder_width + 2)
    return 3 * 3 * encoder + (2 + 2 + 1) * decoder


def ceiling(precision):
    """GFLOP/s of a large matrix product."""
    n = 8192 if torch.get_default_device().type == "cuda" else 2048
    a, b = (torch.randn(n, n).to(torch.bfloat16 if precision == "bf16" else torch.float32) for _ in range(2))
    best = 0.0
    for _ in range(8):
        settle()
        start = time.perf_counter()
        a @ b
        settle()
        best = max(best, 2e-9 * n**3 / (time.perf_counter() - start))
    return best


def spread(values):
    return f"{np.median(values):.2f} [{np.min(values):.2f}..{np.max(values):.2f}]"


def in_turn(args, program, other, learner, word):
    """Milliseconds of a cycle, of the program and of what it is compared with. A GPU's samples are of many cycles, as in training, so
    that waiting for the last one and waking up for the first do not count; a CPU's of one, between two loops that tell
    whether the machine was quiet."""
    quiet, count = args.device == "cpu", args.cycles or (1 if args.device == "cpu" else 20)
    ours, theirs = [], []
    for k in range(-4, args.rounds): # four samples to warm up
        rates = [program.ask("rate")] if quiet else [1.0]
        a = program.ask(f"cycle {k % BATCHES} {count}")
        if quiet:
            rates.append(program.ask("rate"))
        b = learner.cycle(k % BATCHES, count) if learner else other.ask(f"{word} {k % BATCHES} {count}")
        if quiet:
            rates.append(program.ask("rate"))
        if k >= 0 and min(rates) >= args.quiet * max(rates):
            ours.append(a)
            theirs.append(b)
    return ours, theirs


LEFT_OUT = {   # variants of the program: what they are called, and how they are had
    "launches": ("kernel by kernel", {"HET_CUDA_GRAPH": "off"}),
    "fused": ("without wgmma", {"HET_CUDA_DECODE": "fused"}),
    "layers": ("layer by layer", {"HET_CUDA_DECODE": "plain"}),
}


def compare(args, box, threads, precision, variant):
    c = Config(box=box, batch=args.batch)
    data = inputs(c)
    torch.set_num_threads(threads)
    program = Program(args, c, data, threads, precision)
    other = program
    try:
        if variant in LEFT_OUT:
            other = Program(args, c, data, threads, precision, **LEFT_OUT[variant][1])
        learner = None
        if variant != "both" and variant not in LEFT_OUT:
            learner = Learner(c, data, program.parameters(), mixed=precision == "bf16", variant=variant, args=args)
        ours, theirs = in_turn(args, program, other, learner, "both" if variant == "both" else "cycle")
    finally:
        program.close()
        if other is not program:
            other.close()
    name = f"D={box} {precision} {threads} thread{'s' if threads > 1 else ''}, {variant}"
    if not ours:
        print(f"{name}: no sample on a quiet machine", flush=True)
        return
    points = Model(Config(box=box, encoder_width=16, decoder_width=16, frequencies=16)).active
    gflop, most = 1e-9 * work(c, points) * c.batch, ceiling(precision)
    def speed(ms):
        rate = gflop / (1e-3 * np.median(ms))
        return f"{spread(ms)} ms, {1e3 * c.batch / np.median(ms):.1f} images/s, {rate:.0f} GFLOP/s ({100 * rate / most:.0f} %)"
    ratio = np.array(theirs) / np.array(ours)
    against = LEFT_OUT[variant][0] if variant in LEFT_OUT else "with losers" if variant == "both" else "PyTorch"
    print(f"{name}: program {speed(ours)}; {against} {speed(theirs)}; "
          f"ratio {spread(ratio)}, {len(ours)} of {args.rounds} samples; matrix product {most:.0f} GFLOP/s", flush=True)


def main():
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--program", required=True)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--box", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--variant", nargs="+", choices=["reference", "fair", "winners", "compile", "full", "both", *LEFT_OUT],
                        default=["reference", "fair", "winners", "compile", "full", "both"])
    parser.add_argument("--compile-of", choices=["fair", "winners"], default="winners")
    parser.add_argument("--compile-mode", default="max-autotune", help="as torch.compile(mode=...)")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--cycles", type=int, default=0, help="in a sample; 0: 20 on a GPU, 1 on a CPU")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--agree-batch", type=int, default=16)
    parser.add_argument("--growth", type=float, default=20.0)
    parser.add_argument("--quiet", type=float, default=0.8, help="least over greatest rate of the loop")
    parser.add_argument("--skip-agreement", action="store_true")
    parser.add_argument("--skip-timing", action="store_true")
    args = parser.parse_args()
    torch.set_default_device(args.device)
    torch.set_num_threads(max(args.threads))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False # fp32 is fp32 on both sides
    torch.backends.cudnn.benchmark = True
    print(f"torch {torch.__version__}, "
          f"{torch.cuda.get_device_name() if args.device != 'cpu' else torch.backends.cpu.get_cpu_capability()}")
    if not args.skip_agreement:
        good = [agree(args, box, precision) for box in args.box for precision in args.precision]
        good += [agree_in_training(args, box) for box in args.box if "fp32" in args.precision]
        if not all(good):
            sys.exit("they do not compute the same: timings would mean nothing")
    runs = [] if args.skip_timing else [(box, threads, precision, variant) for box in args.box for threads in args.threads
                                        for precision in args.precision for variant in args.variant]
    for run in runs:
        try:
            compare(args, *run)
        except Exception as error: # torch.compile needs a compiler and Python's headers
            if run[-1] != "compile":
                raise
            print(f"D={run[0]} {run[2]} compile ({args.compile_mode}): does not work here: {(str(error) or repr(error)).splitlines()[0]}")


if __name__ == "__main__":
    main()
