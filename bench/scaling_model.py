#!/usr/bin/env python3
"""A model of how training scales: an alpha-beta model of the sums over ranks, on top of a measured step.

  scaling_model.py fit SUMS.json ...                      alpha and beta of a network from the output of bench_allreduce
  scaling_model.py check RESULTS.jsonl NAME=SUMS.json ... cycles of scaling.py --network NAME: predicted against measured
  scaling_model.py predict [options]                      cycle and efficiency on 8 to 4,096 GPUs (--help: the assumptions)

A sum of M bytes over N ranks, with alpha seconds for a message and beta for a byte (Thakur, Rabenseifner, Gropp 2005), takes by
    ring                   2 (N-1) alpha + 2 (N-1)/N M beta
    recursive doubling     log2(N) (alpha + M beta)
    halving and doubling   2 log2(N) alpha + 2 (N-1)/N M beta
fit and check: halving and doubling, which src/mpi/comm.c has Open MPI take for sums in the background. predict: the fastest.

A cycle is a step of task one, which sums the gradients of all parameters, and steps of task two, which sum the encoder's:
    cycle = compute + exposed,   exposed of a step = max(sum/16, sum - hidden x compute of the step):
gradients go in sixteenths as the backward pass finishes them, and the last one cannot be hidden.

check takes compute and the rest from the runs of the same layout on the first network in RESULTS.jsonl, and hidden = 0: MPI over TCP
moves little while a rank computes. Needs Python 3 only."""
import argparse
import json
import math
import statistics

PIECES = 16
PARAMETERS, DECODER = 13.06e6, 0.3e6  # of the default network at box 64: all, and those of the decoder
# Assumed, from published figures; nothing of it was measured here. Seconds a message, bytes a second of a GPU.
NVLINK = (3e-6, 308e9)   # H100, 8 in a node: 47.5 MB in 0.27 ms
INFINIBAND = (8e-6, 45e9)  # NDR, 400 Gb/s for each GPU
RATES = {64: 33000.0, 128: 9500.0}  # images a second of one H100 at 128 images a step: a target
FLOOR = 1e-3             # seconds of a cycle that do not shrink with the batch: kernels one after the other
NODE = 8


def ring(n, size, alpha, beta):
    return 2 * (n - 1) * alpha + 2 * (n - 1) / n * size * beta


def doubling(n, size, alpha, beta):
    return math.log2(n) * (alpha + size * beta)


def halving(n, size, alpha, beta):
    return 2 * math.log2(n) * alpha + 2 * (n - 1) / n * size * beta


def allreduce(n, size, alpha, beta):
    return 0.0 if n == 1 else min(f(n, size, alpha, beta) for f in (ring, doubling, halving))


def fit(path):
    """(ranks, alpha, beta), each alpha and beta the median over the lines of the file."""
    with open(path) as file:
        lines = [json.loads(line) for line in file if line.startswith("{")]
    n = lines[0]["ranks"]
    small, large = lines[0]["sums"][0][0], lines[0]["sums"][-1][0]
    alpha = statistics.median(line["sums"][0][1] for line in lines) / halving(n, small, 1.0, 0.0)
    beta = statistics.median(line["sums"][-1][1] for line in lines) / halving(n, large, 0.0, 1.0)
    return n, alpha, beta


def exposed(total, hidden):
    return max(total / PIECES, total - hidden) if hidden > 0 else total


def check(path, networks):
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    groups = {}
    for line in lines:
        groups.setdefault((line["kind"], line["ranks"], line["threads"], line["network"]), []).append(line)
    print("%-10s %-7s %6s %9s %12s %12s %14s %13s %7s" % ("network", "kind", "ranks", "alpha us", "beta MB/s", "compute ms",
                                                        "predicted ms", "measured ms", "error"))
    for (kind, ranks, threads, network), group in groups.items():
        base = groups.get((kind, ranks, threads, lines[0]["network"]))
        if (network, ranks) not in networks or base is None:
            continue
        alpha, beta = networks[network, ranks]
        compute = statistics.median(g["compute"] + g["data"] + g["other"] for g in base)
        sums = halving(ranks, 4 * group[0]["parameters"], alpha, beta)
        sums += group[0]["pose_steps"] * halving(ranks, 4 * (group[0]["parameters"] - DECODER), alpha, beta)
        predicted = compute + sums
        measured = statistics.median(g["compute"] + g["data"] + g["other"] + g["sums"] for g in group)
        print("%-10s %-7s %6d %9.1f %12.0f %12.0f %14.0f %13.0f %6.1f%%" %
              (network, kind, ranks, 1e6 * alpha, 1e-6 / beta, 1e3 * compute, 1e3 * predicted, 1e3 * measured,
               100 * (predicted / measured - 1)))


def gpu_sum(n, size):
    """Within the node, and over nodes an eighth of the bytes for each GPU."""
    inside = allreduce(min(n, NODE), size, NVLINK[0], 1 / NVLINK[1])
    return inside + allreduce(max(1, n // NODE), size / NODE, INFINIBAND[0], 1 / INFINIBAND[1])


def cycle(n, images, per_image, hidden):
    """Seconds of a cycle with `images` on each of n GPUs."""
    compute = FLOOR + images * per_image
    total = 0.0
    for share, parameters in ((0.5, PARAMETERS), (0.5, PARAMETERS - DECODER)):
        total += exposed(gpu_sum(n, 4 * parameters), hidden * share * compute) if n > 1 else 0.0
    return compute + total


def predict(args):
    rate = args.rate or RATES[args.box]
    per_image = (args.batch / rate - FLOOR) / args.batch
    print("Assumed, not measured: one GPU does %.0f images/s of box %d at batch %d (both tasks), %.1f ms of a cycle do not shrink with "
          "the batch;\nNVLink %.0f GB/s and %.0f us, InfiniBand %.0f GB/s for each GPU and %.0f us; %d GPUs in a node; %.0f and %.0f "
          "MB of gradients in the two steps;\nloading and checkpoints cost nothing; half of each step is a backward pass that sums can "
          "hide behind (\"nothing hidden\": none is)." %
          (rate, args.box, args.batch, 1e3 * FLOOR, NVLINK[1] / 1e9, 1e6 * NVLINK[0], INFINIBAND[1] / 1e9, 1e6 * INFINIBAND[0],
           NODE, 4e-6 * PARAMETERS, 4e-6 * (PARAMETERS - DECODER)))
    print("%6s %9s | weak, %d images each: %s | strong, %d images: %s" % (
        "GPUs", "sum ms", args.batch, "cycle ms, efficiency, nothing hidden", args.strong, "each, cycle ms, efficiency"))
    weak1, strong1 = cycle(1, args.batch, per_image, 0.5), cycle(1, args.strong, per_image, 0.5)
    for n in (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
        weak, bare = cycle(n, args.batch, per_image, 0.5), cycle(n, args.batch, per_image, 0.0)
        total = gpu_sum(n, 4 * PARAMETERS) if n > 1 else 0.0
        strong = "-"
        if args.strong >= n:
            time = cycle(n, args.strong / n, per_image, 0.5)
            strong = "%6.1f %9.2f %9.0f%%" % (args.strong / n, 1e3 * time, 100 * strong1 / time / n)
        print("%6d %9.2f | %30.2f %9.0f%% %15.0f%% | %s" % (n, 1e3 * total, 1e3 * weak, 100 * weak1 / weak, 100 * weak1 / bare, strong))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fit")
    one.add_argument("sums", nargs="+")
    two = commands.add_parser("check")
    two.add_argument("results")
    two.add_argument("networks", nargs="+", metavar="NAME=SUMS.json")
    three = commands.add_parser("predict")
    three.add_argument("--box", type=int, default=64, choices=sorted(RATES))
    three.add_argument("--batch", type=int, default=128, help="images on each GPU, weak scaling")
    three.add_argument("--strong", type=int, default=512, help="images of all GPUs, strong scaling")
    three.add_argument("--rate", type=float, default=0.0, help="images a second of one GPU")
    args = parser.parse_args()
    if args.command == "fit":
        for path in args.sums:
            print("%s: %d ranks, alpha %.1f us, %.0f MB/s" % ((path,) + (lambda n, a, b: (n, 1e6 * a, 1e-6 / b))(*fit(path))))
    elif args.command == "check":
        networks = {}
        for item in args.networks:
            name, path = item.split("=", 1)
            ranks, alpha, beta = fit(path)
            networks[name, ranks] = (alpha, beta)
        check(args.results, networks)
    else:
        predict(args)


if __name__ == "__main__":
    main()
