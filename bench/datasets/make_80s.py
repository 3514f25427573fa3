#!/usr/bin/env python3
"""Make data/80s_6zu5.cif.gz from the full mmCIF file of PDB entry 6ZU5.

usage: make_80s.py 6zu5.cif.gz data/80s_6zu5.cif.gz

Every residue's heavy atoms are taken in groups of up to five consecutive ones; each group becomes one carbon at the group's
centre of mass (atomic numbers as weights), with the group's atomic numbers over six as its occupancy. So weight and centre
of every residue are kept, and the map is the full one's up to the groups' size of about 2 A.
"""
import gzip
import shlex
import sys

GROUP = 5
NUMBER = {"C": 6, "N": 7, "O": 8, "P": 15, "S": 16, "MG": 12, "ZN": 30, "K": 19, "NA": 11, "CL": 17}


def residues(lines):
    """Yield (chain, residue number, [(name, Z, x, y, z), ..]) in the file's order."""
    labels, key, atoms = [], None, []
    for line in lines:
        if line.startswith("_atom_site."):
            labels.append(line.split(".")[1].strip())
        elif labels and line.startswith(("ATOM", "HETATM")):
            row = dict(zip(labels, shlex.split(line) if '"' in line else line.split()))
            if row["type_symbol"] == "H" or row["auth_comp_id"] == "HOH":
                continue
            new = (row["auth_asym_id"], row["auth_seq_id"])
            if key is not None and new != key:
                yield (*key, atoms)
                atoms = []
            key = new
            weight = NUMBER[row["type_symbol"].upper()] * float(row["occupancy"])
            atoms.append((row["auth_atom_id"], weight, *(float(row["Cartn_" + a]) for a in "xyz")))
    yield (*key, atoms)


def main(source, target):
    text = ["data_6ZU5_groups", "#", "loop_"]
    text += ["_atom_site." + name for name in ("id", "type_symbol", "auth_atom_id", "auth_seq_id", "auth_asym_id",
                                               "Cartn_x", "Cartn_y", "Cartn_z", "occupancy")]
    count = 0
    with gzip.open(source, "rt") as lines:
        for chain, number, atoms in residues(lines):
            parts = -(-len(atoms) // GROUP)
            for part in range(parts):
                group = atoms[part * len(atoms) // parts:(part + 1) * len(atoms) // parts]
                weight = sum(atom[1] for atom in group)
                place = [sum(atom[1] * atom[2 + a] for atom in group) / weight for a in range(3)]
                count += 1
                text.append("%d C C%d %s %s %.1f %.1f %.1f %.2f" % (count, part + 1, number, chain, *place, weight / 6))
    text.append("#\n")
    with open(target, "wb") as out, gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as packed:
        packed.write("\n".join(text).encode())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
