#!/usr/bin/env python3
"""Write quant/format/grid_points.c: the point sets of the IQ1, IQ2 and IQ3 types, from the `gguf` Python package.

Needs: numpy and gguf (PyPI); the result is kept in the repository. Usage: make_grids.py [OUT]
"""
import pathlib
import sys

from gguf import quants

HEAD = """/* The points of the IQ1, IQ2 and IQ3 types: which combinations of 8 (IQ3: 4) levels the format can
 * express. They are part of the format, as the `gguf` Python package has them; written by
 * tests/unit/quant/make_grids.py. A number is one point: its lowest 2 bits are the level of the
 * first weight, and so on (IQ3: 3 bits each). */
#include "quant/format/grid.h"
"""
GRIDS = {"iq2_xxs": "IQ2_XXS", "iq2_xs": "IQ2_XS", "iq2_s": "IQ2_S", "iq3_xxs": "IQ3_XXS", "iq3_s": "IQ3_S", "iq1": "IQ1_S"}
LINE = 12


def points(name):
    kind = getattr(quants, name)
    kind.init_grid()
    level = {value: i for i, value in enumerate(kind.grid_map)}
    bits = 2 if len(level) == 3 else 3
    return [sum(level[int(x)] << bits * i for i, x in enumerate(point)) for point in kind.grid.reshape(kind.grid_shape)]


def main(path):
    out = [HEAD]
    for name, kind in GRIDS.items():
        numbers = [f"0x{x:04x}" for x in points(kind)]
        rows = [numbers[i:i + LINE] for i in range(0, len(numbers), LINE)]
        out.append(f"const uint16_t grid_{name}[{len(numbers)}] = {{")
        out += ["    " + ", ".join(row) + "," for row in rows] + ["};", ""]
    pathlib.Path(path).write_text("\n".join(out).rstrip() + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[3] / "quant/format/grid_points.c")
