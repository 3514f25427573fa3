"""A small interpreter of PTX, the code that nvcc makes of a kernel, with numpy.

    module = Module(text)                             what `nvcc -ptx` wrote
    memory = Global()                                 a GPU's memory: put(array) -> address, room(bytes), get(address, ..)
    module.launch("name", grid, (x, y), bytes, arguments, memory)

A block runs as one vector of its threads, those of a cluster by turns. Where threads part, those at the lowest instruction run
first, until they meet again. It knows the instructions that kernels/cuda has needed so far; any other is a Fault, and so is what a GPU would refuse
or leave open, and what would pass on one machine and not on another:

  addresses    outside any buffer, or not a multiple of what is read there; one state space's address used in another
  values       memory or registers read before anything was written there; a write over an input
  barriers     reached by some threads of a block, or of a warp
  races        between blocks: the same number written by two, or read by one and written by another; between two barriers
               the same of two warps of a block in shared memory; without bar.warp.sync the same of two threads of a warp

Fragments of wmma lie in lanes as mma.m16n8k16's do (PTX ISA), which is also where an A100 and an H100 have them.
"""
import re
import struct

import numpy as np

NUMBER = {"u16": np.uint16, "s16": np.int16, "b16": np.uint16, "u32": np.uint32, "s32": np.int32, "b32": np.uint32,
          "f32": np.float32, "u64": np.uint64, "s64": np.int64, "b64": np.uint64, "f64": np.float64, "pred": np.bool_}
BITS = {1: np.bool_, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SHARED, SHARED_WINDOW, PARAM, GLOBAL = 1024, 0x7E0000000000, 1 << 20, 0x7F0000000000  # where each begins
LANES, UNITS = 32, 33   # of a warp; a warp as a whole counts as one unit more
FENCE = 256
NOBODYS, EMPTY, INPUT, ROOM = -1, 0, 1, 2   # epochs of a cell; later ones are of launches


MORE = []   # functions like build_arithmetic, of instructions that other modules know (warpgroups.py)


class Fault(Exception):
    """What would go wrong on a GPU, or is not known here."""


class Asleep:
    """What an instruction returns that these threads are to try again after a wake()."""

    def __init__(self, mask):
        self.mask = mask


# ---- memory --------------------------------------------------------------------------------------------------------------

class Clock:
    """Epochs count up at every barrier of a block and at every block; `launch` and `block` are where these began."""

    def __init__(self):
        self.epoch = self.block = self.launch = ROOM + 1

    def tick(self, block=False, launch=False):
        self.epoch += 1
        if block or launch:
            self.block = self.epoch
        if launch:
            self.launch = self.epoch


class Memory:
    """Bytes, and for each cell of two of them who wrote and who read it last."""

    def __init__(self, name, base, size, clock, state, note_reads):
        self.name, self.base, self.size, self.clock, self.note_reads = name, base, size, clock, note_reads
        size = -size % 16 + size
        self.bytes = np.zeros(size, np.uint8)
        self.views = {kind: self.bytes.view(kind) for kind in NUMBER.values() if kind != np.bool_}
        cells = size // 2
        self.written = np.full(cells, state, np.int32)
        self.writer, self.write_sync = np.zeros(cells, np.int32), np.zeros(cells, np.int32)
        if note_reads:
            self.read, self.read_sync = np.zeros(cells, np.int32), np.zeros(cells, np.int32)
            self.low, self.high = np.zeros(cells, np.int32), np.zeros(cells, np.int32)

    def cells(self, address, bytes_each):
        """Of accesses, one row each."""
        at = address.astype(np.int64) - self.base
        if at.min() < 0 or at.max() > self.size - bytes_each:
            worst = address[np.argmax((at < 0) | (at > self.size - bytes_each))]
            raise Fault(f"{self.name}: address {int(worst):#x} is outside")
        if (at % bytes_each).any():
            worst = address[np.argmax(at % bytes_each != 0)]
            raise Fault(f"{self.name}: address {int(worst):#x} is no multiple of {bytes_each}")
        return at, (at >> 1)[:, None] + np.arange(bytes_each // 2)

    def refuse(self, cells, which, words):
        if which.any():
            raise Fault(f"{self.name}: {words}, at {self.base + 2 * int(cells.ravel()[np.argmax(which)]):#x}")

    def clash_with_writers(self, cells, written, unit, sync):
        apart = self.writer[cells]
        apart = (apart // UNITS != unit // UNITS) | ((apart != unit) & (self.write_sync[cells] == sync))
        return ((written >= self.clock.launch) & (written < self.clock.block)) | ((written == self.clock.epoch) & apart)

    def note_read(self, cells, unit, sync):
        written = self.written[cells]
        self.refuse(cells, written == NOBODYS, "read outside of any buffer")
        self.refuse(cells, written == EMPTY, "read where nothing was written")
        if written.max() >= self.clock.launch:
            self.refuse(cells, self.clash_with_writers(cells, written, unit, sync), "race: read of what another thread writes")
        if not self.note_reads:
            return
        unit, sync = np.broadcast_to(unit, cells.shape), np.broadcast_to(sync, cells.shape)
        old = cells[self.read[cells] != self.clock.epoch]
        self.low[old], self.high[old] = np.iinfo(np.int32).max, -1
        np.minimum.at(self.low, cells, unit)
        np.maximum.at(self.high, cells, unit)
        self.read[cells], self.read_sync[cells] = self.clock.epoch, sync

    def note_write(self, cells, unit, sync):
        written = self.written[cells]
        self.refuse(cells, written == NOBODYS, "written outside of any buffer")
        self.refuse(cells, written == INPUT, "written over an input")
        if written.max() >= self.clock.launch:
            clash = self.clash_with_writers(cells, written, unit, sync)
            self.refuse(cells, clash, "race: write over what another thread writes")
        if self.note_reads:
            low, high, warp = self.low[cells], self.high[cells], unit // UNITS
            others = (low // UNITS != warp) | (high // UNITS != warp)
            same_warp = ((low != unit) | (high != unit)) & (self.read_sync[cells] == sync)
            clash = (self.read[cells] == self.clock.epoch) & (others | same_warp)
            self.refuse(cells, clash, "race: write over what another thread reads")
        self.writer[cells] = unit
        self.refuse(cells, self.writer[cells] != unit, "race: two threads write in one instruction")
        self.written[cells], self.write_sync[cells] = self.clock.epoch, sync


class Global(Memory):
    """Buffers with fences between them."""

    def __init__(self, size=64 << 20):
        super().__init__("global memory", GLOBAL, size, Clock(), NOBODYS, False)
        self.used = FENCE

    def take(self, size, state):
        at = self.used
        self.used = at + size + FENCE + -size % FENCE
        if self.used > self.size:
            raise Fault("global memory: too small for the test")
        self.written[at // 2:(at + size) // 2] = state
        return at

    def put(self, array):
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        at = self.take(len(data), INPUT)
        self.bytes[at:at + len(data)] = data
        return self.base + at

    def room(self, size):
        return self.base + self.take(size, EMPTY)

    def zeroed(self, size):
        return self.base + self.take(size, ROOM)

    def get(self, address, kind, shape, holes=False):
        """What a kernel left there; it must have written all of it, unless there may be holes, which are NaN or 0."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        at = address - self.base
        if not holes and (self.written[at // 2:(at + size) // 2] < ROOM).any():
            raise Fault(f"global memory: a kernel has left {int((self.written[at // 2:(at + size) // 2] < ROOM).sum())} of "
                        f"{size // 2} pairs of bytes unwritten")
        return self.bytes[at:at + size].view(kind).reshape(shape).copy()


# ---- reading ---------------------------------------------------------------------------------------------------------------

class Instruction:
    def __init__(self, text, line):
        self.text, self.line = text, line
        guard, self.opcode, rest = re.fullmatch(r"(?:@(!?%\w+)\s+)?([\w.:]+)\s*(.*)", text).groups()
        self.guard = None if guard is None else guard.lstrip("!")
        self.guard_is = guard is None or not guard.startswith("!")
        self.operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)
        self.parts = self.opcode.split(".")
        self.count = 0                                     # of warps
        self.accesses = self.pieces = self.least = 0       # where profiled: of memory (note_pieces)


class Entry:
    """A kernel: its parameters, its variables in shared memory, its instructions."""

    def __init__(self, name, parameters, body, files):
        self.name = name
        self.parameters, self.size = {}, 0
        for align, kind, at, length in re.findall(r"\.param(?: \.align (\d+))? \.(\w+) (\w+)(?:\[(\d+)\])?", parameters):
            size = int(length) if length else int(kind[1:]) // 8
            begin = -(-self.size // (int(align or size))) * int(align or size)
            self.parameters[at], self.size = (begin, size), begin + size
        self.most_threads = None
        self.widths, self.shared, self.static, self.code, self.labels = {}, {}, 0, [], {}
        self.index, self.registers = {}, 0
        self.fenced = set()   # registers of which it is noted when they were written
        self.read_body(body, files)

    def read_body(self, body, files):
        line = ""
        for text in body.split("\n"):
            text = text.split("//")[0].strip()
            where = re.match(r"\.loc\s+(\d+) (\d+)", text)
            label = re.match(r"(\$\w+):", text)
            if where:
                line = f"{files.get(where[1], where[1])}:{where[2]}" if where[2] != "0" else line
            elif label:
                self.labels[label[1]] = len(self.code)
            else:
                for statement in re.sub(r"^\{(?=\s*\.reg|$)", "", text).split(";"):
                    self.read_statement(statement.strip(), line)

    def read_statement(self, text, line):
        register = re.match(r"\.reg \.(\w+)\s+(%\w+)(?:<(\d+)>)?", text)
        variable = re.match(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]", text)
        if register:
            kind, name, count = register.groups()
            for each in [name] if count is None else [f"{name}{i}" for i in range(int(count))]:
                self.widths[each] = np.dtype(NUMBER[kind]).itemsize
                self.index.setdefault(each, len(self.index))
        elif variable:
            begin = -(-self.static // int(variable[1])) * int(variable[1])
            self.shared[variable[2]] = SHARED + begin
            self.static = begin + int(variable[3])
        elif text.startswith("."):
            if not text.startswith(".pragma"):
                raise Fault(f"not known: {text}")
        elif text and text != "}":
            self.code.append(Instruction(text, line))


class Module:
    """The kernels of a file, each read and built when it is first wanted."""

    def __init__(self, text):
        self.files = {number: name.split("/")[-1] for number, name in re.findall(r'\.file\s+(\d+) "([^"]+)"', text)}
        self.dynamic = re.findall(r"\.extern \.shared \.align \d+ \.b8 (\w+)\[\]", text)
        kernel = r"\.entry (\w+)\(\n(.*?)\n\)\n(.*?)\{\n(.*?)\n\}\n"
        self.texts = {name: rest for name, *rest in re.findall(kernel, text, re.S)}
        self.entries = {}

    def entry(self, name):
        """The one whose name has this in it."""
        found = [key for key in self.texts if name in key]
        if len(found) != 1:
            raise Fault(f"{len(found)} kernels are called {name}")
        if found[0] not in self.entries:
            self.entries[found[0]] = self.build(found[0], *self.texts[found[0]])
        return self.entries[found[0]]

    def build(self, name, parameters, limits, body):
        entry = Entry(name, parameters, body, self.files)
        most = re.search(r"\.maxntid (\d+), (\d+), (\d+)", limits)
        entry.most_threads = most and int(most[1]) * int(most[2]) * int(most[3])
        cluster = re.search(r"\.reqnctapercluster (\d+), 1, 1", limits)
        entry.cluster = int(cluster[1]) if cluster else 1
        entry.static = -(-entry.static // 128) * 128
        entry.shared.update({variable: SHARED + entry.static for variable in self.dynamic})
        for instruction in entry.code:
            try:
                instruction.run = build(entry, instruction)
            except Fault as why:
                raise Fault(f"{name}: {instruction.text[:120]} ({instruction.line}): {why}") from None
        return entry

    def launch(self, name, grid, threads, bytes_of_shared, arguments, memory, profile=False):
        """Arguments: numbers, and structs as bytes. Profile: also count pieces of memory (note_pieces)."""
        entry = self.entry(name)
        if entry.most_threads is not None and threads[0] * threads[1] > entry.most_threads:
            raise Fault(f"{name}: {threads} threads, its limit is {entry.most_threads}")
        arguments = [a if isinstance(a, bytes) else int(a).to_bytes(size, "little", signed=a < 0)
                     for a, (_, size) in zip(arguments, entry.parameters.values(), strict=True)]
        if [len(a) for a in arguments] != [size for _, size in entry.parameters.values()]:
            raise Fault(f"{name}: other arguments than its parameters")
        memory.clock.tick(launch=True)
        parameters = Memory("parameters", PARAM, entry.size, memory.clock, INPUT, False)
        for argument, (at, size) in zip(arguments, entry.parameters.values()):
            parameters.bytes[at:at + size] = np.frombuffer(argument, np.uint8)
        if grid % entry.cluster:
            raise Fault(f"{name}: {grid} blocks, which must be a multiple of {entry.cluster}")
        for first in range(0, grid, entry.cluster):
            memory.clock.tick(block=True)
            cluster = []
            for rank in range(entry.cluster):
                shared = entry.static + bytes_of_shared
                cluster.append(Block(entry, memory, parameters, shared, threads, (first + rank, grid), profile, cluster))
            run(cluster)


# ---- running ---------------------------------------------------------------------------------------------------------------

def run(cluster):
    while any(block.groups or block.asleep for block in cluster):
        for block in cluster:
            block.run()
        if any(block.groups for block in cluster):
            continue   # one has woken another
        if any(block.asleep for block in cluster) and not any(block.background and block.background.go_on() for block in cluster):
            raise Fault(f"{cluster[0].entry.name}: threads wait for what does not come")


class Block:
    def __init__(self, entry, memory, parameters, bytes_of_shared, threads, place, profile, cluster):
        count = threads[0] * threads[1]
        if count % LANES:
            raise Fault("a block that is not of whole warps")
        self.entry, self.memory, self.profile = entry, memory, profile
        self.cluster, self.rank = cluster, len(cluster)   # blocks that run side by side; this one's place there
        self.threads, self.warps = count, count // LANES
        shared = Memory("shared memory", SHARED, bytes_of_shared, memory.clock, EMPTY, True)
        self.spaces = {"global": memory, "shared": shared, "param": parameters}
        self.registers = [None] * len(entry.index)
        self.holes = {}   # of registers that some threads have not written
        index = np.arange(count, dtype=np.uint32)
        special = {"%tid.x": index % threads[0], "%tid.y": index // threads[0], "%ntid.x": threads[0], "%ctaid.x": place[0],
                   "%nctaid.x": place[1], "%cluster_ctarank": self.rank}
        self.special = {name: np.broadcast_to(np.uint32(value), count) for name, value in special.items()}
        self.special["%globaltimer"] = np.zeros(count, np.uint64)   # no time passes
        self.warp_of = np.arange(count) // LANES
        self.unit = ((self.rank * self.warps + self.warp_of) * UNITS + np.arange(count) % LANES).astype(np.int32)
        self.syncs = np.zeros(self.warps, np.int32)   # how often each warp has met
        self.groups = {0: np.ones(count, bool)}       # threads by the instruction that they are at
        self.asleep = {}                              # likewise, those who wait for others
        self.background = None                        # warpgroups.py's
        self.steps, self.written_at = 0, {}           # instructions so far; by register, of each warp

    def take(self, mask):
        """Run for these threads alone."""
        full = bool(mask.all())
        self.mask, self.active = (None if full else mask), mask
        by_warp = mask.reshape(-1, LANES)
        self.running = int(by_warp.any(axis=1).sum())
        self.whole = full or bool((by_warp.all(axis=1) == by_warp.any(axis=1)).all())

    def run(self):
        """Until all threads have left or wait."""
        try:
            with np.errstate(all="ignore"):
                while self.groups:
                    self.step(self.groups)
        except (Fault, AttributeError) as why:
            instruction = self.entry.code[self.at]
            words = str(why) if isinstance(why, Fault) else f"a register is read that was never written ({why})"
            raise Fault(f"{self.entry.name}: {instruction.text[:120]} ({instruction.line}): {words}") from None

    def wake(self):
        while self.asleep:
            self.join(*self.asleep.popitem(), self.groups)

    def join(self, at, mask, groups):
        groups[at] = groups[at] | mask if at in groups else mask

    def step(self, groups):
        """The threads at the lowest instruction, until they part or reach others."""
        code, at = self.entry.code, min(groups)
        mask = groups.pop(at)
        limit = min(groups, default=len(code))
        self.take(mask)
        while at < limit:
            self.at, instruction = at, code[at]
            self.steps += 1
            instruction.count += self.running
            if self.holes:
                self.check_holes(instruction)
            taken = instruction.run(self)
            if isinstance(taken, Asleep):
                self.join(at, taken.mask, self.asleep)
                if (mask & ~taken.mask).any():
                    self.join(at, mask & ~taken.mask, groups)
                return
            at += 1
            if taken is None:
                continue
            if instruction.parts[0] == "bar":
                if groups or self.asleep or len(mask) != mask.sum():
                    raise Fault("a barrier that some threads do not reach")
                self.memory.clock.tick()
                continue
            target = None if instruction.parts[0] == "ret" else self.entry.labels[instruction.operands[0]]
            for place, going in ((target, taken), (at, mask & ~taken)):
                if place is not None and going.any():
                    self.join(place, going, groups)
            return
        if at >= len(code):
            raise Fault("the code ends without ret")
        self.join(at, mask, groups)

    def check_holes(self, instruction):
        for register in instruction.sources:
            hole = self.holes.get(register)
            if hole is not None and (hole & self.active).any():
                raise Fault("a register is read that some of these threads have not written")

    def set(self, register, value):
        if register in self.entry.fenced:
            self.written_at.setdefault(register, np.zeros(self.warps, int))[self.active.reshape(-1, LANES).any(axis=1)] = self.steps
        if self.mask is None:
            self.registers[register] = value if value.ndim else np.broadcast_to(value, self.threads)
            self.holes.pop(register, None)
            return
        old = self.registers[register]
        if old is None:
            old = np.zeros(self.threads, value.dtype)
            self.holes[register] = np.ones(self.threads, bool)
        if register in self.holes:
            self.holes[register] = self.holes[register] & ~self.mask
            if not self.holes[register].any():
                del self.holes[register]
        self.registers[register] = np.where(self.mask, value, old)


# ---- operands --------------------------------------------------------------------------------------------------------------

def constant(text, kind):
    if re.fullmatch(r"0f[0-9A-F]{8}", text):
        return np.uint32(int(text[2:], 16)).view(kind)
    if re.fullmatch(r"0d[0-9A-F]{16}", text):
        return np.uint64(int(text[2:], 16)).view(kind)
    size = np.dtype(kind).itemsize
    if not re.fullmatch(r"-?\d+", text) or kind in (np.float32, np.float64):
        raise Fault(f"operand {text} is not known")
    return np.bool_(int(text)) if kind == np.bool_ else BITS[size](int(text) % (1 << 8 * size)).view(kind)


def source(entry, text, kind, into=None):
    """A function that fetches the operand from a block."""
    if into is not None:
        into.append(text)
    if text in entry.index:
        register, width, size = entry.index[text], entry.widths[text], np.dtype(kind).itemsize
        if width == size:
            return lambda block: block.registers[register].view(kind)
        if width < size:
            raise Fault(f"operand {text} is too narrow")
        return lambda block: block.registers[register].astype(BITS[size]).view(kind)
    if text.startswith("%"):
        return lambda block: block.special[text].view(kind)
    if text in entry.shared:
        value = BITS[np.dtype(kind).itemsize](entry.shared[text]).view(kind)
    elif text in entry.parameters:
        value = BITS[np.dtype(kind).itemsize](PARAM + entry.parameters[text][0]).view(kind)
    else:
        value = constant(text, kind)
    return lambda block: value


def target(entry, text, kind):
    """A function that puts a value of this kind into a block's register."""
    if text not in entry.index:
        raise Fault(f"{text} is no register")
    register, width, size = entry.index[text], entry.widths[text], np.dtype(kind).itemsize
    bits = BITS[width]
    if width == size:
        return lambda block, value: block.set(register, value.view(bits))
    if width < size:
        raise Fault(f"register {text} is too narrow")
    wide = np.dtype(f"{'i' if np.dtype(kind).kind == 'i' else 'u'}{width}")
    raw = kind if np.dtype(kind).kind in "iu" else BITS[size]
    return lambda block, value: block.set(register, value.view(raw).astype(wide).view(bits))


def listed(text):
    return [t.strip() for t in text.strip("{}").split(",")]


def address(entry, text):
    """Of [register], [register+number], [name+number]."""
    name, more = re.fullmatch(r"\[([%\w$]+)(?:\+(-?\d+))?\]", text).groups()
    more = int(more or 0)
    if name in entry.index:
        size = entry.widths[name]
        base, more = source(entry, name, BITS[size]), BITS[size](more % (1 << 8 * size))
        return lambda block: base(block) + more
    at = source(entry, name, np.uint64)
    return lambda block: np.broadcast_to(at(block) + np.uint64(more), block.threads)


# ---- arithmetic --------------------------------------------------------------------------------------------------------------

def divide(a, b):
    """Towards zero; by zero all bits, as a GPU does."""
    if a.dtype.kind == "f":
        return a / b
    safe = np.where(b == 0, b.dtype.type(1), b)
    if a.dtype.kind == "i":
        quotient = np.abs(a) // np.abs(safe)
        quotient = np.where((a < 0) != (safe < 0), -quotient, quotient)
    else:
        quotient = a // safe
    return np.where(b == 0, ~np.zeros_like(quotient), quotient)


def multiply_high(a, b):
    """The upper half of a product of 64 x 64 bits."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    inner = (x >> half) * (y & low) + ((x & low) * (y & low) >> half)
    outer = (x & low) * (y >> half) + (inner & low)
    high = (x >> half) * (y >> half) + (inner >> half) + (outer >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def shift_left(a, n):
    most = 8 * a.dtype.itemsize
    return np.where(n >= most, a.dtype.type(0), a << np.minimum(n, most - 1).astype(a.dtype))


def shift_right(a, n):
    most = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(n, most - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(n >= most, a.dtype.type(0), shifted)


def multiply_add(a, b, c):
    """In more digits, and then rounded."""
    more = np.float64 if a.dtype == np.float32 else np.longdouble
    return (a.astype(more) * b.astype(more) + c.astype(more)).astype(a.dtype)


def insert_bits(a, b, at, length):
    mask = ((np.uint64(1) << length.astype(np.uint64)) - np.uint64(1)) << at.astype(np.uint64)
    wide = (b.astype(np.uint64) & ~mask) | ((a.astype(np.uint64) << at.astype(np.uint64)) & mask)
    return wide.astype(b.dtype)


def to_bf16(x):
    """Nearest, ties to even, as bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def two_bf16(upper, lower):
    return to_bf16(upper).astype(np.uint32) << np.uint32(16) | to_bf16(lower)


def from_bf16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


INTEGERS = ("s32", "s64", "u32", "u64")
FLOATS = ("f32", "f64")
# Name in full up to the type: types, and the function of operands of that type.
PLAIN = {
    "add": (INTEGERS + FLOATS, lambda a, b: a + b), "sub": (INTEGERS + FLOATS, lambda a, b: a - b),
    "mul": (FLOATS, lambda a, b: a * b), "mul.lo": (INTEGERS, lambda a, b: a * b), "mul.hi": (("s64", "u64"), multiply_high),
    "mad.lo": (INTEGERS, lambda a, b, c: a * b + c), "fma.rn": (FLOATS, multiply_add),
    "div": (INTEGERS, divide), "div.rn": (FLOATS, divide), "max": (INTEGERS, np.maximum), "min": (INTEGERS, np.minimum),
    "neg": (INTEGERS + FLOATS, lambda a: -a), "abs": (FLOATS, np.abs), "copysign": (FLOATS, lambda a, b: np.copysign(b, a)),
    "and": (("b32", "b64", "pred"), lambda a, b: a & b), "or": (("b32", "b64", "pred"), lambda a, b: a | b),
    "xor": (("b32", "b64", "pred"), lambda a, b: a ^ b), "not": (("b32", "b64", "pred"), lambda a: ~a),
    "mov": (("u16", "b32", "b64", "u32", "u64", "f32", "f64", "pred"), lambda a: a),
    "max.NaN": (("f32",), np.maximum), "min.NaN": (("f32",), np.minimum),
    "sin.approx": (("f32",), lambda a: np.sin(a.astype(np.float64)).astype(np.float32)),
    "cos.approx": (("f32",), lambda a: np.cos(a.astype(np.float64)).astype(np.float32)),
}
COMPARE = {"eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
           "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b}
CONVERT = {  # to and from as in the name; what comes before them
    ("rn", "bf16", "f32"): to_bf16,
    ("rni", "f32", "f32"): np.rint, ("rni", "f64", "f64"): np.rint,
    ("rzi", "s32", "f32"): lambda a: np.clip(np.nan_to_num(a.astype(np.float64)), -2.0**31, 2.0**31 - 1).astype(np.int32),
    ("rn", "f32", "f64"): lambda a: a.astype(np.float32), ("", "f64", "f32"): lambda a: a.astype(np.float64),
    ("rn", "f32", "s16"): lambda a: a.astype(np.float32), ("rn", "f32", "s32"): lambda a: a.astype(np.float32),
    ("rn", "f64", "s64"): lambda a: a.astype(np.float64),
}


def operands(entry, instruction, *kinds):
    """The result's function and those of the others; as many as there are kinds."""
    texts = instruction.operands
    if len(texts) != len(kinds):
        raise Fault(f"{len(texts)} operands, expected {len(kinds)}")
    return target(entry, texts[0], kinds[0]), [source(entry, t, k) for t, k in zip(texts[1:], kinds[1:])]


def simple(put, sources, function):
    """The instruction that puts a function of its operands."""
    if len(sources) == 1:
        first, = sources
        return lambda block: put(block, function(first(block)))
    if len(sources) == 2:
        first, second = sources
        return lambda block: put(block, function(first(block), second(block)))
    return lambda block: put(block, function(*[s(block) for s in sources]))


def build_arithmetic(entry, instruction):
    *name, last = instruction.parts
    name, count = ".".join(name), len(instruction.operands)
    if name in PLAIN and last in PLAIN[name][0]:
        kind, function = NUMBER[last], PLAIN[name][1]
        return simple(*operands(entry, instruction, *[kind] * count), function)
    if name in ("shl", "shr") and last in ("b32", "b64") + INTEGERS:
        kinds = NUMBER[last], NUMBER[last], np.uint32
        return simple(*operands(entry, instruction, *kinds), shift_left if name == "shl" else shift_right)
    if name == "mul.wide" and last in ("s32", "u32", "u16"):
        kind, wide = NUMBER[last], NUMBER[last[0] + str(2 * int(last[1:]))]
        return simple(*operands(entry, instruction, wide, kind, kind), lambda a, b: a.astype(wide) * b.astype(wide))
    if name == "selp" and last in NUMBER:
        kind = NUMBER[last]
        return simple(*operands(entry, instruction, kind, kind, kind, np.bool_), lambda a, b, p: np.where(p, a, b))
    if name == "bfi" and last in ("b32", "b64"):
        kind = NUMBER[last]
        return simple(*operands(entry, instruction, kind, kind, kind, np.uint32, np.uint32), insert_bits)
    if instruction.parts[0] == "setp" and len(instruction.parts) == 3 and last in NUMBER:
        compare = COMPARE.get({"neu": "ne", "ne": "-"}.get(instruction.parts[1], instruction.parts[1])
                              if last in FLOATS else instruction.parts[1])
        kind = NUMBER[last]
        if compare is not None:
            return simple(*operands(entry, instruction, np.bool_, kind, kind), compare)
    if instruction.opcode == "cvt.rn.bf16x2.f32":
        return simple(*operands(entry, instruction, np.uint32, np.float32, np.float32), two_bf16)
    if instruction.parts[0] == "cvt":
        return build_conversion(entry, instruction)
    if instruction.opcode in ("cvta.to.global.u64", "cvta.shared.u64"):
        more = np.uint64(SHARED_WINDOW if "shared" in instruction.opcode else 0)
        return simple(*operands(entry, instruction, np.uint64, np.uint64), lambda a: a + more)
    return None


def build_conversion(entry, instruction):
    *how, to, of = instruction.parts[1:]
    function = CONVERT.get((".".join(how), to, of))
    kind_to, kind_of = NUMBER.get("u16" if to == "bf16" else to), NUMBER.get(of)
    if function is None and not how and {to[0], of[0]} <= {"s", "u"}:
        function = lambda a: a.astype(kind_to)
    if function is None:
        return None
    return simple(*operands(entry, instruction, kind_to, kind_of), function)


# ---- memory and wmma ---------------------------------------------------------------------------------------------------------

def wavefronts(words):
    """Of each row of words of shared memory asked for at once (-1: none): the most different ones of one bank."""
    words = np.sort(words, axis=1)
    fresh = np.concatenate([words[:, :1] >= 0, (words[:, 1:] != words[:, :-1]) & (words[:, 1:] >= 0)], axis=1)
    banks = np.zeros((len(words), 32), np.int32)
    np.add.at(banks, (np.nonzero(fresh)[0], words[fresh] % 32), 1)
    return banks.max(axis=1)


def note_pieces(block, instruction, space, at, bytes_each):
    """Shared memory: wavefronts; four bytes of a warp's lanes go at once, eight of half of them, sixteen of a quarter.
    Global memory: sectors of 32 bytes of a warp. At least: as many if lanes ask for numbers side by side."""
    if space == "param":
        return
    words = max(bytes_each // 4, 1)
    first = np.full(block.threads, -1, np.int64)
    first[block.active] = at // 4
    rows = np.where(first[:, None] < 0, -1, first[:, None] + np.arange(words)).reshape(-1, 32)
    instruction.accesses += block.running
    if space == "shared":
        instruction.pieces += int(wavefronts(rows).sum())
        instruction.least += int((rows.max(axis=1) >= 0).sum())
    else:
        sectors = np.sort(np.where(rows < 0, -1, rows // 8).reshape(block.warps, -1), axis=1)
        fresh = (sectors[:, :1] >= 0).sum() + ((sectors[:, 1:] != sectors[:, :-1]) & (sectors[:, 1:] >= 0)).sum()
        instruction.pieces += int(fresh)
        instruction.least += int(np.ceil(block.active.reshape(-1, 32).sum(axis=1) * bytes_each / 32).sum())


def build_access(entry, instruction):
    """ld and st, of one number or a vector."""
    what, space, *rest = instruction.parts
    count = int(rest.pop(0)[1:]) if rest[0] in ("v2", "v4") else 1
    if space not in ("global", "shared", "param") or len(rest) != 1 or rest[0] not in NUMBER:
        return None
    kind = NUMBER[rest[0]]
    each = np.dtype(kind).itemsize
    registers, place = instruction.operands if what == "ld" else reversed(instruction.operands)
    at_of, names = address(entry, place), listed(registers)
    if len(names) != count:
        raise Fault(f"{len(names)} registers for {count} numbers")
    if space == "shared" and entry.widths.get(re.match(r"\[([%\w]+)", place)[1]) == 8:
        raise Fault("addresses of shared memory are of 32 bits here")
    puts = [target(entry, n, kind) for n in names] if what == "ld" else [source(entry, n, kind) for n in names]

    def prepare(block):
        memory, active = block.spaces[space], block.active
        at, cells = memory.cells(at_of(block)[active], each * count)
        if block.profile:
            note_pieces(block, instruction, space, at, each * count)
        return memory, active, at // each, cells, block.unit[active][:, None], block.syncs[block.warp_of[active]][:, None]

    def load(block):
        memory, active, at, cells, unit, sync = prepare(block)
        memory.note_read(cells, unit, sync)
        for i, put in enumerate(puts):
            value = np.zeros(block.threads, kind)
            value[active] = memory.views[kind][at + i]
            put(block, value)

    def store(block):
        memory, active, at, cells, unit, sync = prepare(block)
        memory.note_write(cells, unit, sync)
        for i, get in enumerate(puts):
            memory.views[kind][at + i] = np.broadcast_to(get(block), block.threads)[active]

    return load if what == "ld" else store


# Row and column of a lane's numbers, (lanes, numbers): group and thread within it as in the PTX ISA's figures.
GROUP, MEMBER = np.arange(32)[:, None] // 4, np.arange(32)[:, None] % 4
LEFT = GROUP + np.array([0, 0, 8, 8, 0, 0, 8, 8]), 2 * MEMBER + np.array([0, 1, 0, 1, 8, 9, 8, 9])
RIGHT = 2 * MEMBER + np.array([0, 1, 8, 9, 0, 1, 8, 9]), GROUP + np.array([0, 0, 0, 0, 8, 8, 8, 8])
SUMS = GROUP + np.array([0, 0, 8, 8, 0, 0, 8, 8]), 2 * MEMBER + np.array([0, 1, 0, 1, 8, 9, 8, 9])


def warps_of(block):
    if not block.whole:
        raise Fault("some lanes of a warp are elsewhere")
    return np.nonzero(block.active.reshape(-1, LANES)[:, 0])[0]


def square_access(block, instruction, at_of, stride_of, space, kind, by_columns, place):
    """Memory, the warps, and where each lane's numbers of a square are: (warps, lanes, 8) in numbers; cells are noted."""
    warps = warps_of(block)
    at = np.broadcast_to(at_of(block), block.threads).reshape(-1, LANES)[warps].astype(np.int64)
    stride = np.broadcast_to(stride_of(block), block.threads).reshape(-1, LANES)[warps].astype(np.int64)
    each = np.dtype(kind).itemsize
    if (at != at[:, :1]).any() or (stride != stride[0, 0]).any():
        raise Fault("lanes of a warp disagree about the square")
    if space is None:   # an address that may be of any space: of shared memory, so far
        at = at - SHARED_WINDOW
    if (at % 32).any() or stride[0, 0] * each % 16:
        raise Fault("a square must begin at a multiple of 32 bytes, its rows must be multiples of 16")
    memory = block.spaces["shared"]
    row, column = place[::-1] if by_columns else place
    offset = at[:, :1, None] + (row * stride[0, 0] + column) * each
    flat, cells = memory.cells(offset.ravel(), each)
    if block.profile:
        note_square(instruction, flat.reshape(len(warps), LANES, 8), each)
    return memory, warps, flat // each, cells


def note_square(instruction, at, each):
    """As machine code does it: of two bytes four matrices of eight rows of 16 (LDSM), of four pairs of numbers (STS.64)."""
    pairs = at[:, :, ::2].transpose(0, 2, 1)   # (warps, pairs, lanes)
    rows = pairs.reshape(-1, 32) // 4 if each == 2 else (pairs.reshape(-1, 16)[:, :, None] // 4 + np.arange(2)).reshape(-1, 32)
    instruction.accesses += len(at)
    instruction.pieces += int(wavefronts(rows).sum())
    instruction.least += len(rows)


def whole_warps(block, cells, warps):
    """Units and meetings of accesses by warps as one."""
    per_warp = len(cells) // len(warps)
    unit = np.repeat(warps * UNITS + LANES, per_warp)[:, None]
    return unit.astype(np.int32), np.repeat(block.syncs[warps], per_warp)[:, None]


def spread(block, warps, values):
    """(warps that run, lanes) to all threads."""
    full = np.zeros((block.warps, LANES), values.dtype)
    full[warps] = values
    return full.reshape(-1)


def build_square(entry, instruction):
    """wmma.load and wmma.store of 16 x 16 numbers."""
    form = r"wmma\.(load|store)\.([abcd])\.sync\.aligned\.(row|col)\.m16n16k16(\.shared)?\.(bf16|f32)"
    found = re.fullmatch(form, instruction.opcode)
    if not found or len(instruction.operands) != 3:
        return None
    what, which, order, space, number = found.groups()
    if (which in "ab") != (number == "bf16") or (what == "store") != (which == "d"):
        return None
    place = {"a": LEFT, "b": RIGHT}.get(which, SUMS)
    kind, pairs = (np.uint16, True) if number == "bf16" else (np.uint32, False)
    registers, where = instruction.operands[:2] if what == "load" else instruction.operands[1::-1]
    names = listed(registers)
    if len(names) != (4 if pairs else 8):
        raise Fault(f"{len(names)} registers of a square")
    at_of, stride_of = address(entry, where), source(entry, instruction.operands[2], np.uint32)
    places = [target(entry, n, np.uint32) if what == "load" else source(entry, n, np.uint32) for n in names]

    def load(block):
        memory, warps, at, cells = square_access(block, instruction, at_of, stride_of, space, kind, order == "col", place)
        memory.note_read(cells, *whole_warps(block, cells, warps))
        numbers = memory.views[kind][at].reshape(len(warps), LANES, 8)
        numbers = np.ascontiguousarray(numbers).view(np.uint32)
        for i, put in enumerate(places):
            put(block, spread(block, warps, numbers[:, :, i]))

    def store(block):
        memory, warps, at, cells = square_access(block, instruction, at_of, stride_of, space, kind, order == "col", place)
        memory.note_write(cells, *whole_warps(block, cells, warps))
        numbers = np.stack([np.broadcast_to(get(block), block.threads).reshape(-1, LANES)[warps] for get in places], axis=2)
        memory.views[kind][at] = numbers.ravel()

    return load if what == "load" else store


def build_product(entry, instruction):
    """wmma.mma: exact products, summed in float32."""
    if instruction.opcode != "wmma.mma.sync.aligned.row.col.m16n16k16.f32.bf16.bf16.f32" or len(instruction.operands) != 4:
        return None
    names = [listed(o) for o in instruction.operands]
    if [len(n) for n in names] != [8, 4, 4, 8]:
        raise Fault("not as many registers as a square has")
    puts = [target(entry, n, np.float32) for n in names[0]]
    left, right = ([source(entry, n, np.uint32) for n in each] for each in names[1:3])
    sums = [source(entry, n, np.float32) for n in names[3]]

    def square(block, sources, place, pairs):
        lanes = np.stack([s(block) for s in sources], axis=1)
        if pairs:
            lanes = from_bf16(lanes.view(np.uint16))
        full = np.empty((block.warps, 16, 16), np.float32)
        full[:, place[0], place[1]] = lanes.reshape(block.warps, LANES, 8)
        return full

    def run(block):
        warps_of(block)
        result = square(block, sums, SUMS, False) + square(block, left, LEFT, True) @ square(block, right, RIGHT, True)
        lanes = result[:, SUMS[0], SUMS[1]].reshape(-1, 8)
        for i, put in enumerate(puts):
            put(block, np.ascontiguousarray(lanes[:, i]))

    return run


# ---- all together ------------------------------------------------------------------------------------------------------------

def build_control(entry, instruction):
    """bra, ret, barriers: what they return is who goes there."""
    if instruction.opcode in ("bra", "bra.uni"):
        if instruction.guard is None:
            return lambda block: block.active
        guard, wanted = source(entry, instruction.guard, np.bool_), instruction.guard_is
        return lambda block: (guard(block) == wanted) & block.active
    if instruction.opcode == "ret" and instruction.guard is None:
        return lambda block: block.active
    if instruction.opcode == "bar.sync" and instruction.operands == ["0"] and instruction.guard is None:
        return lambda block: block.active
    if instruction.opcode == "bar.warp.sync" and instruction.operands == ["-1"] and instruction.guard is None:
        def meet(block):
            block.syncs[warps_of(block)] += 1
        return meet
    return None


def build(entry, instruction):
    gives = instruction.parts[0] in ("st", "bra", "bar", "cp") or re.match(r"wmma\.store|mbarrier\.[ia]", instruction.opcode)
    names = re.findall(r"%\w+", " ".join(instruction.operands if gives else instruction.operands[1:]))
    names += [instruction.guard] if instruction.guard else []
    instruction.sources = [entry.index[n] for n in names if n in entry.index]
    run = None
    for builder in MORE:
        run = run or builder(entry, instruction)
    if run is not None:
        pass
    elif instruction.parts[0] in ("bra", "ret", "bar"):
        run = build_control(entry, instruction)
    elif instruction.guard is not None:
        pass
    elif instruction.parts[0] in ("ld", "st"):
        run = build_access(entry, instruction)
    elif instruction.parts[0] == "wmma":
        run = build_square(entry, instruction) or build_product(entry, instruction)
    else:
        run = build_arithmetic(entry, instruction)
    if run is None:
        raise Fault("this instruction is not known")
    return run


def pack(layout, *values):
    """An argument's bytes, as struct.pack."""
    return struct.pack("<" + layout, *values)
