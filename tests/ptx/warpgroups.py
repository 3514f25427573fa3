"""What PTX of sm_90a has beside ptx.py's instructions: clusters, mbarriers, bulk copies to shared memory, products of warpgroups.

All of it goes on in the background of the threads, and here as late as it may: a copy lands when no thread can go on without
it, a product is computed, from what registers and shared memory hold then, when its warp waits for it. From when they begin
until they end there is NaN where a copy goes and in a product's sums. So whoever does not wait as long as a GPU may take reads
NaN, or has a product read what was written over its inputs. Also Faults: threads that all wait for each other; a barrier that
is not one, or that others cannot know yet; more arrivals than a phase has; a block of a cluster that has left; weights that
are still on their way when a product begins; registers of a product that were written without wgmma.fence since.

Importing this module makes ptx.py know these instructions.
"""
import re

import numpy as np

import ptx
from ptx import Fault, GROUP, LANES, MEMBER

NAN = 0x7FFF7FFF
ELSEWHERE = 1 << 24   # times a block's rank and one: what mapa adds to an address
NUMBER = np.arange(128)[None, :]
ROW = GROUP + NUMBER // 2 % 2 * 8                      # (lanes, numbers) of a warp's sums of m64n256
COLUMN = NUMBER // 4 * 8 + 2 * MEMBER + NUMBER % 2


class Barrier:
    """`over` counts phases; `copies` have begun and not landed."""

    def __init__(self, arrivals, epoch):
        self.arrivals = self.pending = arrivals
        self.bytes, self.over, self.copies, self.epoch = 0, 0, [], epoch

    def settle(self, block):
        if self.pending == 0 and self.bytes == 0:
            self.over += 1
            self.pending = self.arrivals
            block.wake()


class Background:
    """What goes on in a block beside its threads."""

    def __init__(self, block):
        self.block = block
        self.barriers = {}
        self.copied = []                       # barriers, in the order of the copies that they wait for
        self.groups = [[[]] for _ in range(block.warps)]   # of each warp: groups of products, the last one still open
        self.sums = {}                         # by warp and first register: (16, 256), not yet in registers
        self.fence = np.full(block.warps, -1)
        self.met = np.zeros(block.threads, int)   # how often at the cluster's barrier

    def go_on(self):
        """The oldest copy lands; False: there is none."""
        if not self.copied:
            return False
        barrier = self.copied.pop(0)
        at, data = barrier.copies.pop(0)
        self.block.spaces["shared"].bytes[at:at + len(data)] = data
        barrier.bytes -= len(data)
        barrier.settle(self.block)
        return True


def background(block):
    if block.background is None:
        block.background = Background(block)
    return block.background


def guard_of(entry, instruction):
    """A function: those of the running threads that the guard lets."""
    if instruction.guard is None:
        return lambda block: block.active
    guard = ptx.source(entry, instruction.guard, np.bool_)
    return lambda block: block.active & (guard(block) == instruction.guard_is)


def one_of(block, values, words, who=None):
    """The value that all running threads have, or those of a mask."""
    values = np.broadcast_to(values, block.threads)[block.active if who is None else who]
    if (values != values[0]).any():
        raise Fault(f"threads differ about {words}")
    return int(values[0])


def place_of(block, at):
    """The block and the address in its shared memory that an address of the cluster's stands for."""
    its = block.cluster[at // ELSEWHERE - 1] if at >= ELSEWHERE else block
    if its is not block and not its.groups and not its.asleep:
        raise Fault("a block that has left")
    return its, at % ELSEWHERE


def barrier_of(block, at):
    barrier = background(block).barriers.get(at)
    if barrier is None:
        raise Fault(f"no mbarrier was made at {at:#x}")
    if barrier.epoch == block.memory.clock.epoch:
        raise Fault("an mbarrier that other threads may not see yet")
    return barrier


# ---- mbarriers and copies ----------------------------------------------------------------------------------------------------

def build_init(entry, instruction):
    at_of, count_of = ptx.address(entry, instruction.operands[0]), ptx.source(entry, instruction.operands[1], np.uint32)

    def run(block):
        shared = block.spaces["shared"]
        at, cells = shared.cells(np.atleast_1d(one_of(block, at_of(block), "the mbarrier")), 8)
        if block.active.sum() != 1:
            raise Fault("an mbarrier is made by several threads")
        shared.refuse(cells, shared.written[cells] != ptx.EMPTY, "an mbarrier where something else is")
        shared.written[cells] = ptx.INPUT
        arrivals = one_of(block, count_of(block), "arrivals")
        background(block).barriers[int(at[0]) + shared.base] = Barrier(arrivals, block.memory.clock.epoch)

    return run


def build_arrive(entry, instruction):
    """Also with bytes to expect."""
    expects = "expect_tx" in instruction.parts
    at_of = ptx.address(entry, instruction.operands[1])
    bytes_of = ptx.source(entry, instruction.operands[2], np.uint32) if expects else None
    goes = guard_of(entry, instruction)

    def run(block):
        where = np.broadcast_to(at_of(block), block.threads)
        more = np.broadcast_to(bytes_of(block), block.threads) if expects else np.zeros(block.threads, np.uint32)
        for thread in np.nonzero(goes(block))[0]:
            its, at = place_of(block, int(where[thread]))
            barrier = barrier_of(its, at)
            if barrier.pending == 0:
                raise Fault("more arrivals than the mbarrier expects")
            barrier.pending -= 1
            barrier.bytes += int(more[thread])
            barrier.settle(its)

    return run


def build_wait(entry, instruction):
    put = ptx.target(entry, instruction.operands[0], np.bool_)
    at_of, parity_of = ptx.address(entry, instruction.operands[1]), ptx.source(entry, instruction.operands[2], np.uint32)

    def run(block):
        where, parity = (np.broadcast_to(of(block), block.threads) for of in (at_of, parity_of))
        over = np.zeros(block.threads, bool)
        for at in np.unique(where[block.active]):
            barrier = barrier_of(block, int(at))
            over |= (where == at) & (parity != barrier.over % 2)
        if (block.active & ~over).any():
            return ptx.Asleep(block.active & ~over)
        put(block, over)

    return run


def build_copy(entry, instruction):
    to_of, from_of = ptx.address(entry, instruction.operands[0]), ptx.address(entry, instruction.operands[1])
    size_of = ptx.source(entry, instruction.operands[2], np.uint32)
    barrier_at, goes = ptx.address(entry, instruction.operands[3]), guard_of(entry, instruction)
    mask_of = ptx.source(entry, instruction.operands[4], np.uint16)

    def run(block):
        who = goes(block)
        if not who.any():
            return
        if who.sum() != 1:
            raise Fault("a copy by several threads")
        to, of, size, at, mask = (one_of(block, value(block), "a copy", who)
                                  for value in (to_of, from_of, size_of, barrier_at, mask_of))
        if mask == 0 or mask >> len(block.cluster):
            raise Fault("a copy to blocks that there are not")
        if to % 16 or of % 16 or size % 16:
            raise Fault("addresses and bytes of a copy must be multiples of 16")
        each = np.arange(0, size, 4, np.uint64)
        begin, cells = block.memory.cells(np.uint64(of) + each, 4)
        unit = np.array([[ptx.UNITS * block.warps]], np.int32)
        block.memory.note_read(cells, unit, np.zeros((1, 1), np.int32))
        for its in (other for rank, other in enumerate(block.cluster) if mask >> rank & 1):
            shared, barrier = its.spaces["shared"], barrier_of(its, at)
            place, cells = shared.cells((to + each.astype(np.int64)), 4)
            shared.refuse(cells, shared.written[cells] == ptx.INPUT, "a copy over an mbarrier")
            shared.written[cells], shared.writer[cells] = block.memory.clock.epoch, unit[0, 0]
            barrier.copies.append((int(place[0]), block.memory.bytes[int(begin[0]):int(begin[0]) + size].copy()))
            background(its).copied.append(barrier)
            shared.views[np.uint32][place // 4] = NAN

    return run


# ---- clusters ----------------------------------------------------------------------------------------------------------------

def run_meet(block):
    """barrier.cluster.arrive"""
    background(block).met[block.active] += 1
    everyone = np.concatenate([background(other).met for other in block.cluster])
    if (everyone == everyone[0]).all():
        block.memory.clock.tick()
        for other in block.cluster:
            other.wake()


def run_met(block):
    """barrier.cluster.wait"""
    least = min(background(other).met.min() for other in block.cluster)
    late = block.active & (background(block).met > least)
    return ptx.Asleep(late) if late.any() else None


def build_map(entry, instruction):
    """mapa; only of those that the guard lets the result is of use"""
    put = ptx.target(entry, instruction.operands[0], np.uint32)
    at_of, rank_of = (ptx.source(entry, o, np.uint32) for o in instruction.operands[1:])
    goes = guard_of(entry, instruction)

    def run(block):
        rank = np.broadcast_to(rank_of(block), block.threads)
        if (rank[goes(block)] >= len(block.cluster)).any():
            raise Fault("a block that is not in the cluster")
        put(block, at_of(block) + (rank + 1) * np.uint32(ELSEWHERE))

    return run


# ---- products ----------------------------------------------------------------------------------------------------------------

class Product:
    """Of one warp: 16 of a warpgroup's 64 rows."""

    def __init__(self, key, registers, left, weights, add):
        self.key, self.registers, self.left, self.weights, self.add = key, registers, left, weights, add

    def compute(self, block, warp):
        lanes = slice(LANES * warp, LANES * warp + LANES)
        words = np.stack([of(block)[lanes] for of in self.left], axis=1)
        rows = np.empty((16, 16), np.float32)
        rows[ptx.LEFT] = ptx.from_bf16(np.ascontiguousarray(words).view(np.uint16))
        shared = block.spaces["shared"]
        cells = self.weights >> 1
        shared.refuse(cells, shared.written[cells] < ptx.ROOM, "weights that nobody wrote")
        product = rows @ ptx.from_bf16(shared.views[np.uint16][cells])
        sums = background(block).sums
        sums[self.key] = sums[self.key] + product if self.add else product


def weights_at(block, descriptor):
    """Offsets of (16, 256) numbers, by core matrices of 8 x 8 without swizzle (PTX ISA, matrix descriptor)."""
    if descriptor & ~(0x3FFF << 32 | 0x3FFF << 16 | 0x3FFF):
        raise Fault(f"descriptor {descriptor:#x}: only without swizzle and offset")
    start, down, across = (((descriptor >> bits) & 0x3FFF) << 4 for bits in (0, 16, 32))
    k, n = np.arange(16)[:, None], np.arange(256)[None, :]
    at = start + n // 8 * across + k // 8 * down + n % 8 * 16 + k % 8 * 2
    shared = block.spaces["shared"]
    return shared.cells(at.ravel(), 2)[0].reshape(at.shape)


def build_multiply(entry, instruction):
    numbers, words, descriptor, add, *rest = instruction.operands
    names, left = ptx.listed(numbers), ptx.listed(words)
    if len(names) != 128 or len(left) != 4 or rest != ["1", "1", "0"]:
        return None
    registers, words_at = ([entry.index[n] for n in each] for each in (names, left))
    entry.fenced.update(registers + words_at)
    left_of = [ptx.source(entry, n, np.uint32) for n in left]
    descriptor_of, add_of = ptx.source(entry, descriptor, np.uint64), ptx.source(entry, add, np.bool_)

    def run(block):
        its, warps = background(block), ptx.warps_of(block)
        weights, adds = (np.broadcast_to(of(block), block.threads).reshape(-1, LANES) for of in (descriptor_of, add_of))
        fresh = [w for w in warps if (w, registers[0]) not in its.sums]
        for w in warps:
            watched = words_at + registers if w in fresh else words_at
            if any(block.written_at[r][w] > its.fence[w] for r in watched if r in block.written_at):
                raise Fault("registers of a product were written without wgmma.fence since")
            if (weights[w] != weights[w, 0]).any() or (adds[w] != adds[w, 0]).any():
                raise Fault("lanes of a warp disagree about a product")
        if fresh:
            lanes = (LANES * np.array(fresh)[:, None] + np.arange(LANES)).ravel()
            place = np.arange(len(fresh)).repeat(LANES)
            sums = np.full((len(fresh), 16, 256), np.nan, np.float32)
            for i, register in enumerate(registers):
                old = block.registers[register]
                row, column = np.tile(ROW[:, i], len(fresh)), np.tile(COLUMN[:, i], len(fresh))
                if old is not None:
                    sums[place, row, column] = old[lanes].view(np.float32)
            its.sums.update({(w, registers[0]): sums[j] for j, w in enumerate(fresh)})
            put_lanes(block, registers, fresh, np.full((len(fresh), LANES, 128), NAN, np.uint32))
        at = {int(d): weights_at(block, int(d)) for d in np.unique(weights[warps, 0])}
        for barrier in its.copied:
            for begin, data in barrier.copies:
                if any(((begin <= each) & (each < begin + len(data))).any() for each in at.values()):
                    raise Fault("weights that are still on their way")
        for w in warps:
            its.groups[w][-1].append(Product((w, registers[0]), registers, left_of, at[int(weights[w, 0])], bool(adds[w, 0])))

    return run


def put_lanes(block, registers, warps, values):
    """values (warps, lanes, registers) into these warps' registers."""
    lanes = (LANES * np.asarray(warps)[:, None] + np.arange(LANES)).ravel()
    for i, register in enumerate(registers):
        old = block.registers[register]
        new = np.zeros(block.threads, np.uint32) if old is None else old.view(np.uint32).copy()
        new[lanes] = values[:, :, i].ravel()
        if old is None:
            block.holes[register] = np.ones(block.threads, bool)
        if register in block.holes:
            block.holes[register][lanes] = False
            if not block.holes[register].any():
                del block.holes[register]
        block.registers[register] = new


def build_wait_group(entry, instruction):
    most = int(instruction.operands[0])

    def run(block):
        its, done = background(block), {}
        for w in ptx.warps_of(block):
            groups = its.groups[w]
            while len(groups) - 1 > most:
                for product in groups.pop(0):
                    product.compute(block, w)
                    done.setdefault(tuple(product.registers), set()).add(w)
        for registers, warps in done.items():
            left = [w for w in warps if not any(p.key == (w, registers[0]) for group in its.groups[w] for p in group)]
            if left:
                values = np.stack([its.sums.pop((w, registers[0])) for w in left])
                put_lanes(block, registers, left, np.ascontiguousarray(values[:, ROW, COLUMN]).view(np.uint32))

    return run


def run_commit(block):
    for w in ptx.warps_of(block):
        background(block).groups[w].append([])


def run_fence(block):
    background(block).fence[ptx.warps_of(block)] = block.steps


# ---- the rest ----------------------------------------------------------------------------------------------------------------

def build_exchange(entry, instruction):
    """shfl.sync.bfly by whole warps, within 32 lanes"""
    to, *operands = instruction.operands
    put = ptx.target(entry, to.split("|")[0], np.uint32)
    value_of, apart_of, limit_of, lanes_of = (ptx.source(entry, o, np.uint32) for o in operands)

    def run(block):
        ptx.warps_of(block)
        if one_of(block, limit_of(block), "a shuffle") != 31 or one_of(block, lanes_of(block), "a shuffle") != 0xFFFFFFFF:
            raise Fault("a shuffle of a part of a warp")
        thread = np.arange(block.threads, dtype=np.uint32)
        put(block, np.broadcast_to(value_of(block), block.threads)[thread ^ apart_of(block)])

    return run


def run_trap(block):
    raise Fault("trap")


def nothing(block):
    return None


KNOWN = [
    (r"mbarrier\.init\.shared::cta\.b64", build_init),
    (r"mbarrier\.arrive(\.expect_tx)?\.shared::(cta|cluster)\.b64", build_arrive),
    (r"mbarrier\.try_wait\.parity\.shared::cta\.b64", build_wait),
    (r"cp\.async\.bulk\.shared::cluster\.global\.mbarrier::complete_tx::bytes\.multicast::cluster", build_copy),
    (r"mapa\.shared::cluster\.u32", build_map),
    (r"barrier\.cluster\.arrive\.release\.aligned", lambda entry, instruction: run_meet),
    (r"barrier\.cluster\.wait\.acquire\.aligned", lambda entry, instruction: run_met),
    (r"wgmma\.mma_async\.sync\.aligned\.m64n256k16\.f32\.bf16\.bf16", build_multiply),
    (r"wgmma\.wait_group\.sync\.aligned", build_wait_group),
    (r"wgmma\.commit_group\.sync\.aligned", lambda entry, instruction: run_commit),
    (r"wgmma\.fence\.sync\.aligned", lambda entry, instruction: run_fence),
    (r"shfl\.sync\.bfly\.b32", build_exchange),
    (r"setmaxnreg\.(inc|dec)\.sync\.aligned\.u32", lambda entry, instruction: nothing),
    (r"fence\.mbarrier_init\.release\.cluster", lambda entry, instruction: nothing),
    (r"trap", lambda entry, instruction: run_trap),
]


def build(entry, instruction):
    for form, builder in KNOWN:
        if re.fullmatch(form, instruction.opcode) and (instruction.guard is None or builder in (build_arrive, build_copy, build_map)):
            return builder(entry, instruction)
    return None


ptx.MORE.append(build)
