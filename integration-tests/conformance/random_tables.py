"""Random microdata with what two published packages make of it, one JSON object a line.

    random_tables.py ons|acro SEED TABLES

`ons` runs `cell-key-perturbation` of the Office for National Statistics, `acro` runs ACRO of the SACRO project with its
default limits. The same seed gives the same lines. What is compared, and where the two are known to differ from
Guildhall, is in `tests/conformance/`.
"""

import contextlib
import io
import json
import logging
import os
import sys
import tempfile

import numpy as np
import pandas as pd


def clean(value):
    """A value for JSON: what is missing is null, and numbers are Python's."""
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value


# --- cell-key-perturbation ---------------------------------------------------------------------------------------


def random_p_table(rng):
    """Rows of (pcv, ckey, pvalue): all up to a limit, or all but some; or every row that the package can reuse."""
    keys = int(rng.choice([4, 16, 64]))
    last = int(rng.choice([12, 40]))
    if rng.random() < 0.25:
        keys, last = 8, 750
    rows = [(pcv, key, int(rng.integers(-min(pcv, 5), 6))) for pcv in range(1, last + 1) for key in range(keys)]
    if rng.random() < 0.4:
        rows = [row for row in rows if rng.random() < 0.8 or row[1] == keys - 1]
    return rows


def random_units(rng, columns, most_keys):
    """One row per unit: a category in each column, and a record key; either may be missing."""
    # Few large cells now and then, so that counts above 750 occur.
    large = rng.random() < 0.2
    n, categories = (int(rng.integers(1500, 4000)), 2) if large else (int(rng.integers(30, 700)), int(rng.integers(2, 6)))
    columns = columns[:2] if large else columns
    some_missing, some_keyless = rng.random() < 0.35, rng.random() < 0.35
    data = {}
    for name in columns:
        values = rng.choice([f"{name}{i}" for i in range(categories)], n).astype(object)
        if some_missing:
            values[rng.random(n) < 0.15] = None
        data[name] = values
    keys = rng.integers(0, most_keys, n).astype(float)
    if some_keyless:
        keys[rng.random(n) < 0.2] = np.nan
    return pd.DataFrame(data | {"record_key": keys}), columns


def ons_table(rng):
    from cell_key_perturbation.create_perturbed_table import create_perturbed_table
    from cell_key_perturbation.utils.generate_test_ptable import generate_ptable_10_5_rule

    ten_five = rng.random() < 0.3
    rows = random_p_table(rng)
    p_table = generate_ptable_10_5_rule() if ten_five else pd.DataFrame(rows, columns=["pcv", "ckey", "pvalue"])
    most_keys = int(p_table["ckey"].max()) + 1
    # Keys beyond those of the table are taken modulo as many as it has; the package only warns of them.
    most_keys *= int(rng.choice([1, 1, 4]))
    names = ["area", "age", "tenure", "health"][: int(rng.integers(1, 5))]
    data, names = random_units(rng, names, most_keys)
    geography = names[:1] if len(names) > 1 and rng.random() < 0.5 else []
    threshold = int(rng.choice([10, 10, 5, 0]))
    with contextlib.redirect_stdout(io.StringIO()):
        cells = create_perturbed_table(
            data=data,
            ptable=p_table,
            geog=geography,
            tab_vars=names[len(geography) :],
            record_key="record_key",
            threshold=threshold,
        )
    told = ["pre_sdc_count", "ckey", "pcv", "pvalue", "count"]
    whole = lambda value: None if pd.isna(value) else int(value)
    return {
        "p_table": None if ten_five else rows,
        "threshold": threshold,
        "units": [[[clean(v) for v in row[:-1]], whole(row[-1])] for row in data.itertuples(index=False, name=None)],
        "cells": [
            [[clean(cell[n]) for n in names], [whole(cell[t]) for t in told]] for cell in cells.to_dict("records")
        ],
    }


# --- ACRO --------------------------------------------------------------------------------------------------------

CHECKS = {"MinimumThresholdCheck": "threshold", "NKCheck": "nk", "PPercentCheck": "p_ratio"}


def verdicts(rows):
    """What fails in each cell of `rows` (area, kind, value), and ACRO's status of the whole table."""
    from acro import ACRO

    session = ACRO(suppress=False)
    table = session.crosstab(rows["area"], rows["kind"], values=rows["value"], aggfunc="sum")
    record = session.results.get_index(0)
    counts = pd.crosstab(rows["area"], rows["kind"])
    failing = {(a, k): [] for a in counts.index for k in counts.columns}
    for check, name in CHECKS.items():
        for row, column in record.sdc["cells"][check]:
            failing[counts.index[row], counts.columns[column]].append(name)
    assert list(table.index) == list(counts.index) and list(table.columns) == list(counts.columns)
    return {"status": record.status, "failing": [[a, k, fails] for (a, k), fails in failing.items()]}


def amounts(rng, n):
    """What `n` units of one cell pay: even, skewed, nought, or near one of the limits of dominance."""
    shape = rng.choice(["even", "skewed", "none", "nk", "p"], p=[0.2, 0.25, 0.1, 0.25, 0.2])
    if shape == "none":
        return np.zeros(n, dtype=int)
    if shape == "even":
        return rng.integers(0, 200, n)
    if shape == "skewed" or n < 4:
        return (rng.pareto(0.6, n) * 10).clip(max=10**6).astype(int)
    # A rest of `n - 2` equal parts, and two units that are at the limit, or one below or above it.
    part, off = int(rng.integers(1, 30)), int(rng.integers(-1, 2))
    rest = part * (n - 2)
    if shape == "nk":  # (first + second) / sum = 0.90
        two = 9 * rest + off
        first = int(rng.integers(max(two // 2, part), max(two - part, two // 2 + 1) + 1))
        return np.array([first, two - first] + [part] * (n - 2))
    return np.array([10 * rest + off, part] + [part] * (n - 2))  # rest / first = 0.10


def random_payments(rng, kind):
    rows, unit = [], 0
    for area in ["north", "south", "east"]:
        for what in ["a", "b", "c"]:
            n = int(rng.choice([0, 3, 9, 10, 11, 12, 20, 35]))
            for value in amounts(rng, n):
                rows.append((area, what, unit, float(value)))
                unit += 1
    data = pd.DataFrame(rows, columns=["area", "kind", "unit", "value"])
    pick = lambda share: rng.random(len(data)) < share
    if kind == "negatives":
        data.loc[(data["area"] == "north") & pick(0.1), "value"] = -5.0
    if kind == "missing":
        data.loc[pick(0.15), "value"] = np.nan
    if kind == "several":  # rows of one unit: up to three, or all of a cell's
        again = data.loc[np.repeat(data.index, rng.integers(0, 3, len(data)))]
        data = pd.concat([data, again], ignore_index=True)
        crowd = (data["area"] == "south") & (data["kind"] == "b")
        if crowd.any():
            data.loc[crowd, "unit"] = data.loc[crowd, "unit"].min()
    return data


def acro_table(rng, at):
    kind = ["plain", "plain", "negatives", "missing", "several"][at % 5]
    data = random_payments(rng, kind)
    as_we_do = {
        "plain": lambda: data,
        "negatives": lambda: data[~data.groupby(["area", "kind"])["value"].transform(lambda v: (v < 0).any())],
        "missing": lambda: data.dropna(),
        "several": lambda: data.groupby(["area", "kind", "unit"], as_index=False)["value"].sum(),
    }[kind]()
    return {
        "kind": kind,
        "rows": [[a, k, u, None if pd.isna(v) else int(v)] for a, k, u, v in data.itertuples(index=False, name=None)],
        "verdict": verdicts(data),
        "verdict_as_we_do": verdicts(as_we_do),
    }


def main():
    what, seed, tables = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    logging.disable(logging.CRITICAL)
    # ACRO writes into the folder that it runs in.
    os.chdir(tempfile.mkdtemp())
    for at in range(tables):
        rng = np.random.default_rng([seed, at])
        table = ons_table(rng) if what == "ons" else acro_table(rng, at)
        print(json.dumps(table))


if __name__ == "__main__":
    main()
