#!/usr/bin/env python3
"""How training scales over ranks: short trainings on a stack, by turns, and one table of all of them.

  scaling.py PROGRAM STACK -o RESULTS.jsonl [options]      measure, append to RESULTS.jsonl, print the table of all that is in it
  scaling.py -o RESULTS.jsonl                              print the table

  --layouts 1x1,2x1,1x2  RANKSxTHREADS of each run; the first is what the others are compared with
  --strong B             the same batch B for all (0: none; default 64)
  --weak B               batch B for each rank (0: none; default 0)
  --rounds N             all layouts by turns, N times (default 3)
  --cycles N             steps of task one that are measured in each run, after as many to warm up (default 4)
  --launch COMMAND       in front of "-np RANKS PROGRAM ..." (default: mpirun --oversubscribe --bind-to none); {ranks} in it is
                         replaced, and -np left out
  --network NAME         what the ranks are joined by, for the table (default: loopback)
  --set KEY=VALUE        of training; may be repeated. Unless given: no start, full disc, nothing frozen, one pose step with one
                         image per image

Seconds are of one cycle (a step of task one and those of task two) on rank 0, from log.jsonl: compute; sums (of gradients and losses,
as far as they are not hidden behind compute, waiting for other ranks among them); data (waiting for images); other (decisions, agreement).
Efficiency: images per second and core, over those of the first layout of the same kind. Medians over rounds, [least .. most].
Needs Python 3 only."""
import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

USUAL = {"init.method": "none", "train.march_start": "0", "train.freeze_epochs": "0", "train.pose_steps": "1",
         "train.pose_images": "1"}
PHASES = ["compute", "sums", "data", "other"]


def train(args, kind, ranks, threads, batch):
    """One training; its line of results."""
    keys = dict(USUAL)
    keys.update(item.split("=", 1) for item in args.set)
    cycle = 1 + int(keys["train.pose_steps"])
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=args.work) as folder:
        steps = args.images // batch
        keys.update({"train.batch": batch, "train.threads": threads, "train.epochs": (2 * args.cycles + 0.5) / steps,
                     "run.log_steps": args.cycles, "run.checkpoint_minutes": 1e6})
        launch = shlex.split(args.launch.replace("{ranks}", str(ranks)))
        if "{ranks}" not in args.launch:
            launch += ["-np", str(ranks)]
        command = launch + [args.program, "train", args.stack, "-o", folder + "/run"]
        for key, value in keys.items():
            command += ["--set", "%s=%s" % (key, value)]
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="passive")
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit("scaling.py: exit code %d: %s\n%s" % (done.returncode, shlex.join(command), done.stderr[-2000:]))
        with open(folder + "/run/log.jsonl") as file:
            report = [json.loads(line) for line in file][1]
        parameters = float(re.search(r"([0-9.]+) million parameters", done.stderr).group(1)) * 1e6
    seconds = {phase: report["seconds"][phase] / args.cycles for phase in PHASES}
    return {"network": args.network, "kind": kind, "ranks": ranks, "threads": threads, "batch": batch, "images_per_second": report["images_per_second"],
            "parameters": parameters, "pose_steps": cycle - 1, **seconds}


def spread(values, form):
    values = [v for v in values if v is not None]
    text = form % statistics.median(values)
    return text if len(values) == 1 else "%s [%s .. %s]" % (text, form % min(values), form % max(values))


def table(lines):
    groups = {}
    for line in lines:
        groups.setdefault((line["network"], line["kind"], line["ranks"], line["threads"]), []).append(line)
    first = {}
    for (_, kind, ranks, threads), group in groups.items():
        first.setdefault(kind, statistics.median(g["images_per_second"] / ranks / threads for g in group))
    rows = [["network", "kind", "ranks x threads", "batch", "rounds", "images/s", "efficiency %", "cycle ms"] + ["%s %%" % p for p in PHASES]]
    for (network, kind, ranks, threads), group in groups.items():
        total = [sum(g[p] for p in PHASES) for g in group]
        rows.append([network, kind, "%d x %d" % (ranks, threads), str(group[-1]["batch"]), str(len(group)),
                     spread([g["images_per_second"] for g in group], "%.2f"),
                     spread([100 * g["images_per_second"] / ranks / threads / first[kind] for g in group], "%.1f"),
                     spread([1e3 * t for t in total], "%.0f")] +
                    [spread([100 * g[p] / t for g, t in zip(group, total)], "%.1f") for p in PHASES])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("stack", nargs="?")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--layouts", default="1x1,2x1,1x2")
    parser.add_argument("--strong", type=int, default=64)
    parser.add_argument("--weak", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=4)
    parser.add_argument("--launch", default="mpirun --oversubscribe --bind-to none")
    parser.add_argument("--network", default="loopback")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--work", default=None, help="where run folders are made for a while")
    args = parser.parse_args()
    if args.program and not args.stack:
        parser.error("a stack is needed")
    if args.program:
        said = subprocess.run([args.program, "info", args.stack], check=True, capture_output=True, text=True).stdout
        args.images = int(said.split("images")[1].split(" of ")[0])
    layouts = [tuple(int(n) for n in layout.split("x")) for layout in args.layouts.split(",")]
    for _ in range(args.rounds if args.program else 0):
        for ranks, threads in layouts:
            for kind, batch in (("strong", args.strong), ("weak", args.weak * ranks)):
                if batch > 0:
                    line = train(args, kind, ranks, threads, batch)
                    with open(args.output, "a") as file:
                        file.write(json.dumps(line) + "\n")
    with open(args.output) as file:
        table([json.loads(line) for line in file])


if __name__ == "__main__":
    main()
