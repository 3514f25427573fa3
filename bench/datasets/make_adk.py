#!/usr/bin/env python3
"""Make data/adk_1ake_4ake.pdb.gz from PDB entries 1AKE (closed) and 4AKE (open), for `simulate --morph`.

usage: make_adk.py 1ake.pdb 4ake.pdb data/adk_1ake_4ake.pdb.gz

Two models of chain A, heavy atoms of the protein, the atoms in the order of 1AKE. 4AKE is turned and moved so that its core
(residues 1-29, 68-117 and 161-214) lies on that of 1AKE: then only the two lids move along a straight way between them.
"""
import gzip
import sys

CORE = [*range(1, 30), *range(68, 118), *range(161, 215)]


def load(path):
    """{(residue, atom name): (residue name, element, [x, y, z])} of chain A."""
    atoms = {}
    for line in open(path):
        if line.startswith("ENDMDL"):
            break
        if line.startswith("ATOM") and line[21] == "A" and line[16] in " A" and line[76:78].strip() != "H":
            place = [float(line[30 + 8 * a:38 + 8 * a]) for a in range(3)]
            atoms[int(line[22:26]), line[12:16].strip()] = (line[17:20], line[76:78].strip(), place)
    return atoms


def centre(points):
    return [sum(p[a] for p in points) / len(points) for a in range(3)]


def superpose(moving, fixed):
    """R, the rotation with the least sum of |R m - f|^2 for points about their centres: the largest eigenvector of Horn's
    4 x 4 matrix (J. Opt. Soc. Am. A 4:629, 1987), by power iteration."""
    s = [[sum(m[a] * f[b] for m, f in zip(moving, fixed)) for b in range(3)] for a in range(3)]
    n = [[s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]],
         [0, s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]],
         [0, 0, s[1][1] - s[0][0] - s[2][2], s[1][2] + s[2][1]],
         [0, 0, 0, s[2][2] - s[0][0] - s[1][1]]]
    n = [[n[min(i, j)][max(i, j)] for j in range(4)] for i in range(4)]
    positive = sum(abs(x) for row in n for x in row)
    q = [1.0, 0.1, 0.2, 0.3]
    for _ in range(1000):
        q = [positive * q[i] + sum(n[i][j] * q[j] for j in range(4)) for i in range(4)]
        length = sum(x * x for x in q) ** 0.5
        q = [x / length for x in q]
    w, x, y, z = q
    return [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]


def main(closed_path, open_path, target):
    closed, opened = load(closed_path), load(open_path)
    if set(closed) != set(opened):
        sys.exit("the two files hold different atoms: %s" % sorted(set(closed) ^ set(opened))[:5])
    core = [(residue, "CA") for residue in CORE]
    at, of = centre([opened[k][2] for k in core]), centre([closed[k][2] for k in core])
    turn = superpose([[opened[k][2][a] - at[a] for a in range(3)] for k in core],
                     [[closed[k][2][a] - of[a] for a in range(3)] for k in core])
    place = lambda p: [of[a] + sum(turn[a][b] * (p[b] - at[b]) for b in range(3)) for a in range(3)]
    moved = {key: place(atom[2]) for key, atom in opened.items()}
    apart = lambda keys: (sum(sum((moved[k][a] - closed[k][2][a]) ** 2 for a in range(3)) for k in keys) / len(keys)) ** 0.5
    print("rms distance: core %.2f A, all CA %.2f A" % (apart(core), apart([k for k in closed if k[1] == "CA"])))
    text = ["REMARK   PDB 1AKE and 4AKE, chain A, cores superposed: see data/README.md"]
    for model, places in enumerate(({key: atom[2] for key, atom in closed.items()}, moved)):
        text.append("MODEL     %4d" % (model + 1))
        for i, (key, (residue_name, element, _)) in enumerate(closed.items()):
            name = key[1] if len(key[1]) == 4 else " %-3s" % key[1]
            text.append("ATOM  %5d %s %s A%4d    %8.3f%8.3f%8.3f  1.00  0.00          %2s"
                        % (i + 1, name, residue_name, key[0], *places[key], element))
        text.append("ENDMDL")
    text.append("END\n")
    with open(target, "wb") as out, gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as packed:
        packed.write("\n".join(text).encode())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
