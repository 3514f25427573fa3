#!/usr/bin/env python3
"""Train, predict and evaluate every setting of a suite on every set with every seed, and keep a table.

usage: run.py SUITE.json -o OUT [options]    run what is not done yet, then print the table
       run.py --table OUT                    print the table

  -o DIR             sets, runs and DIR/results.jsonl, one line per run
  --jobs N           trainings at a time, each with one thread on a core of its own (1)
  --hours H          stop a training after H hours and measure what it has reached (the suite's, else no limit)
  --only A,B         only these settings
  --sets A,B         only these sets
  --seeds 1-3        only these seeds (numbers and ranges, separated by commas)
  --set KEY=VALUE    for every run, over the suite's; may be repeated
  --keep             keep the checkpoints of finished trainings (some 200 MB each)

A second start goes on: runs that are done are left out, interrupted ones go on from their checkpoint, failed ones are tried
again, and those whose command has changed start anew. The program is build/release/hetacumn, or $HETACUMN, copied to DIR at
the start: a build in the meantime does not matter. Settings with a key or an option that it does not have are left out,
with a line that says so.

A suite is JSON: "about"; "sets" {name: arguments of bench/datasets/make.sh}; "seeds" as above; "new_images" (true: the seed
is that of the images, too); "hours"; "share_start" (true: settings of one set and seed share the poses of their start, and the time
of those after the first is without it); "set" [key=value ..] for all; "settings" {name: {"set": [..], "config": FILE (from the
top folder), "train": [more arguments], "predict": [more arguments], "refine": true for a second result, "NAME refined"}}.
"""
import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading

from table import print_tables

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
STOPPED_EARLY = 75      # the program's exit code: there is a checkpoint, the same command goes on
KEPT = ["rot", "rot_within_0.1", "class_rot_own", "trans_raw", "trans_corrected", "res", "res143", "res_own", "err", "err_best",
        "corr", "entanglement", "e_pose", "e_z"]
KEPT_OF_ENCODER = ["rot", "err", "corr"]  # of its own answers, as rot_encoder ..
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
               "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
                                 # HETACUMN is added by take_program()

stopping = threading.Event()
lock = threading.Lock()          # of results.jsonl, `children` and `making`
children = set()
making = {}                      # a lock for each folder of images


def say(*words):
    print("run.py:", *words, file=sys.stderr, flush=True)


def numbers(text):
    """"1-3,7" -> [1, 2, 3, 7]"""
    found = []
    for part in str(text).split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def take_program(out):
    """Copy the program to out; which one it is: the start of its SHA-256."""
    source = os.environ.get("HETACUMN", os.path.join(ROOT, "build", "release", "hetacumn"))
    with open(source, "rb") as file:
        version = hashlib.sha256(file.read()).hexdigest()[:8]
    copy = os.path.join(out, "hetacumn-" + version)
    if not os.path.exists(copy):
        shutil.copy2(source, copy + ".tmp")
        os.replace(copy + ".tmp", copy)
    ENVIRONMENT["HETACUMN"] = copy
    return version


def ask(*words):
    """What the program answers."""
    return subprocess.run([ENVIRONMENT["HETACUMN"], *words], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
                          check=True).stdout


def call(core, command, folder, name, state=None):
    """Run a command on one core, its words in folder/name.log (after those of an earlier start); its exit code. Its CPU time,
    which on one thread is what an idle core takes, is added to state["seconds"]."""
    with open(os.path.join(folder, name + ".log"), "a") as log:
        child = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=log, stderr=log, env=ENVIRONMENT,
                                 stdin=subprocess.DEVNULL, start_new_session=True)
        with lock:
            children.add(child)
        if stopping.is_set():
            child.terminate()
        _, waited, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(waited)
        with lock:
            children.discard(child)
    if state is not None:
        state["seconds"] += usage.ru_utime + usage.ru_stime
    return child.returncode


def stop(*_):
    """Ask the trainings to end with a checkpoint."""
    stopping.set()
    for child in list(children):
        child.terminate()


def warnings(folder):
    """What the program itself warned of, each once, in order."""
    said = []
    for name in ("train", "predict", "evaluate"):
        path = os.path.join(folder, name + ".log")
        for line in open(path, errors="replace") if os.path.exists(path) else ():
            found = re.search(r"hetacumn: warning: (.*)", line)
            if found and found[1] not in said:
                said.append(found[1])
    return said


def images_seen(run):
    path = os.path.join(run, "log.jsonl")
    lines = open(path).read().splitlines() if os.path.exists(path) else []
    return json.loads(lines[-1]).get("images") if lines else None


def load(path, otherwise):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return otherwise


def save(path, what):
    with open(path, "w") as file:
        json.dump(what, file)


class Job:
    """One training: a setting on a set with a seed."""

    def __init__(self, suite, out, setting, data, seed, options):
        self.setting, self.set, self.seed, self.keep = setting, data, seed, options.keep
        self.hours = options.hours if options.hours is not None else suite.get("hours")
        choice = suite["settings"][setting]
        image_seed = seed if suite.get("new_images") else 1
        self.images = os.path.join(out, "sets", "%s-%d" % (data, image_seed))
        self.stack = os.path.join(self.images, "stack.h5")
        self.start = os.path.join(self.images, "start-%d.h5" % seed) if suite.get("share_start") else None
        self.stages = [setting, setting + " refined"] if choice.get("refine") else [setting]
        self.folder = os.path.join(out, "runs", data, re.sub(r"[^\w.=-]+", "_", setting), "seed-%d" % seed)
        self.make = [os.path.join(ROOT, "bench", "datasets", "make.sh"), *shlex.split(suite["sets"][data]), "--seed",
                     str(image_seed), "-o", self.images]
        values = [*suite.get("set", []), *choice.get("set", []), *options.set, "train.seed=%d" % seed, "train.threads=1"]
        self.train = [*choice.get("train", []), *[word for value in values for word in ("--set", value)]]
        self.words = [("train", word) for word in choice.get("train", [])] + \
            [("predict", word) for word in choice.get("predict", [])] + [("keys", v.partition("=")[0]) for v in values]
        if "config" in choice:
            self.train += ["--config", os.path.join(ROOT, choice["config"])]
        self.predict = choice.get("predict", [])
        self.name = "%s, %s, seed %d" % (data, setting, seed)
        self.command = shlex.join([*self.make[1:-2], "|", *self.train, "|", *self.predict, *self.stages[1:]])
        self.command = self.command.replace(ROOT + os.sep, "")

    def done(self, results):
        """Whether results of this very command are there; one cut off by time counts unless there is more time now."""
        mine = [line for line in results if line["setting"] in self.stages and
                all(line.get(key) == getattr(self, key) for key in ("set", "seed", "command"))]
        cut_off = [line for line in mine if line["exit"] == STOPPED_EARLY and self.hours is not None and
                   line["hours"] >= self.hours]
        return bool(cut_off) or {line["setting"] for line in mine if line["exit"] == 0} == set(self.stages)

    def run(self, core):
        """All steps; the results, one for each stage up to one that does not end well; none when it was interrupted."""
        state_path, run = os.path.join(self.folder, "state.json"), os.path.join(self.folder, "run")
        state = load(state_path, {})
        if state.get("command") != self.command:
            shutil.rmtree(self.folder, ignore_errors=True)
            state = {"command": self.command, "seconds": 0}
        os.makedirs(run, exist_ok=True)
        save(state_path, state)
        with lock:
            turn = making.setdefault(self.images, threading.Lock())
        with turn:
            code = call(core, self.make, self.folder, "make")
        if self.start is not None and os.path.exists(self.start) and not os.path.exists(os.path.join(run, "start.h5")):
            shutil.copy2(self.start, os.path.join(run, "start.h5"))
        results = []
        for stage in self.stages:
            if code == 0:
                code = self.train_stage(core, run, [] if stage == self.setting else ["--refine"], state)
                save(state_path, state)
            results.append(self.measure(core, run, stage, code, state))
            code = results[-1]["exit"]
            if stopping.is_set():
                return []
            if code != 0:
                break
        if self.start is not None and not os.path.exists(self.start) and os.path.exists(os.path.join(run, "start.h5")):
            shutil.copy2(os.path.join(run, "start.h5"), self.start)
        if code == 0 and not self.keep:
            shutil.rmtree(os.path.join(run, "checkpoints"), ignore_errors=True)
        return results

    def train_stage(self, core, run, more, state):
        limit = [] if self.hours is None else ["--max-hours", "%g" % max(self.hours - state["seconds"] / 3600, 1e-6)]
        return call(core, [ENVIRONMENT["HETACUMN"], "train", self.stack, "-o", run, *self.train, *more, *limit], self.folder,
                    "train", state)

    def measure(self, core, run, stage, code, state):
        """The line of results.jsonl."""
        program, measures = ENVIRONMENT["HETACUMN"], {}
        if code in (0, STOPPED_EARLY):
            late = call(core, [program, "predict", run, self.stack, *self.predict], self.folder, "predict")
            late = late or call(core, [program, "evaluate", run, "--truth", self.stack, *self.maps()], self.folder, "evaluate")
            code = late or code
            measures = load(os.path.join(run, "metrics.json"), {}) if late == 0 else {}
        encoder = self.measure_encoder(core, run, self.stack) if measures else {}
        return {"setting": stage, "set": self.set, "seed": self.seed, "exit": code, "images": images_seen(run),
                **{key: measures.get(key) for key in KEPT},
                **{key + "_encoder": encoder.get(key) for key in KEPT_OF_ENCODER}, "seconds": round(state["seconds"], 1),
                "hours": self.hours, "warnings": warnings(self.folder), "program": os.path.basename(program).partition("-")[2],
                "command": self.command}

    def measure_encoder(self, core, run, stack):
        """Measures of the encoder's own answers, whatever training found image by image; {} where there are none."""
        program, answers, measures = ENVIRONMENT["HETACUMN"], os.path.join(run, "encoder.h5"), os.path.join(run, "encoder.json")
        late = call(core, [program, "predict", run, stack, "--amortised", "-o", answers], self.folder, "encoder")
        late = late or call(core, [program, "evaluate", run, "--truth", stack, "--predictions", answers, "--json", measures],
                            self.folder, "encoder")
        return load(measures, {}) if late == 0 else {}

    def maps(self):
        count = len(glob.glob(os.path.join(self.images, "truth", "class*.mrc")))
        return ["--maps", ",".join(os.path.join(self.images, "truth", "class%d.mrc" % k) for k in range(count))]


def plan(suite, out, options):
    """The jobs of a suite, seed by seed, so that a table of what is done compares settings on equal terms."""
    chosen = lambda names, wanted: [n for n in names if wanted is None or n in wanted.split(",")]
    known = {"keys": ask("train", "--keys").split(), "train": ask("train", "--help"), "predict": ask("predict", "--help")}
    jobs, refused = [], set()
    for seed in numbers(options.seeds or suite["seeds"]):
        for data in chosen(suite["sets"], options.sets):
            for setting in chosen(suite["settings"], options.only):
                job = Job(suite, out, setting, data, seed, options)
                missing = [word for where, word in job.words
                           if (where == "keys" or word.startswith("--")) and word not in known[where]]
                if missing and setting not in refused:
                    say("left out: %s: the program does not know %s" % (setting, ", ".join(missing)))
                refused.update([setting] if missing else [])
                jobs += [] if missing else [job]
    return jobs


def run_all(jobs, out, count):
    path = os.path.join(out, "results.jsonl")
    results = read_results(out)
    todo = [job for job in jobs if not job.done(results)]
    say("%d runs, %d of them done" % (len(jobs), len(jobs) - len(todo)))
    available = sorted(os.sched_getaffinity(0))
    cores = queue.Queue()
    for i in range(count):
        cores.put(available[i % len(available)])

    def work(job):
        if stopping.is_set():
            return
        core = cores.get()
        say("begins:", job.name)
        results = job.run(core)
        cores.put(core)
        for result in results:
            with lock, open(path, "a") as file:
                file.write(json.dumps(result) + "\n")
            say("done: %s, %s, seed %d: exit %s, Rot %s, %.0f s" %
                (job.set, result["setting"], job.seed, result["exit"], result["rot"], result["seconds"]))

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for finished in concurrent.futures.as_completed([pool.submit(work, job) for job in todo]):
            finished.result()


def read_results(out):
    path = os.path.join(out, "results.jsonl")
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("suite", nargs="?")
    parser.add_argument("-o", "--out")
    parser.add_argument("--table")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--hours", type=float)
    for name in ("--only", "--sets", "--seeds"):
        parser.add_argument(name)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    options = parser.parse_args()
    if options.help:
        print(__doc__.strip())
        return 0
    if options.table is not None:
        print_tables(read_results(options.table))
        return 0
    if options.suite is None or options.out is None or options.jobs < 1:
        parser.error("give a suite and -o OUT, and at least one job")
    with open(options.suite) as file:
        suite = json.load(file)
    out = os.path.abspath(options.out)
    os.makedirs(out, exist_ok=True)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    say("program", take_program(out))
    run_all(plan(suite, out, options), out, options.jobs)
    print_tables(read_results(out))
    return STOPPED_EARLY if stopping.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
