"""The raw files, cleaned as somebody with pandas would who has them all on one disk.

Nothing here knows of import specs or products; that is the point. What a product of class `aggregate` may tell is
worked out here a second time, from the rules as they are written down, without their noise.
"""

import datetime
import decimal
import functools
import os
import pathlib

import numpy
import pandas

DATA = pathlib.Path(os.environ["GUILDHALL_REAL_DATA"])
LEEDS, BRADFORD, CALDERDALE, BIRMINGHAM = "E08000035", "E08000032", "E08000033", "E08000025"


def csv(path, encoding="utf-8-sig"):
    """A CSV file as it is, all text."""
    return pandas.read_csv(DATA / path, dtype=str, keep_default_na=False, encoding=encoding)


def parquet(path, columns):
    """Some columns of a Parquet file, renamed."""
    return pandas.read_parquet(DATA / path, columns=list(columns)).rename(columns=columns)


@functools.cache
def casualties():
    """One row a casualty, of ten files in four dialects, with the place of the collision."""
    severities = {"1": "fatal", "2": "serious", "3": "slight"}
    sexes = {"1": "male", "2": "female"}
    classes = {"1": "driver", "2": "passenger", "3": "pedestrian"}
    words = {"driver": "driver", "driver/rider": "driver", "driver or rider": "driver", "vehicle or pillion passenger": "passenger"}
    surfaces = {"1": "dry", "2": "wet", "dry": "dry", "wet / damp": "wet", "wet/damp": "wet", "#n/a": None}
    years = []
    for year in range(2009, 2019):
        told = csv(f"highways/leeds_road_casualties_{year}.csv.gz", "cp1252")
        form = "%m/%d/%Y" if year == 2017 else "%d/%m/%Y" if year in (2016, 2018) else "%d-%b-%y"
        age = pandas.to_numeric(told["Age of Casualty"]).astype(float)
        surface = told["Road Surface"].str.lower()
        years.append(
            pandas.DataFrame(
                {
                    "year": year,
                    "reference": told[told.columns[0]],
                    "day": pandas.to_datetime(told["Accident Date"], format=form),
                    "hour": told["Time (24hr)"].str.zfill(4).str[:2].astype(int),
                    "casualty_class": told["Casualty Class"].str.lower().replace(classes).replace(words),
                    "severity": told["Casualty Severity"].str.lower().replace(severities),
                    "sex": told["Sex of Casualty"].str.lower().replace(sexes),
                    "age": age.where(age >= 0),
                    "surface": surface.map(lambda s: surfaces.get(s, "snow, ice or flood")),
                }
            )
        )
    all_years = pandas.concat(years, ignore_index=True)
    bands = pandas.cut(all_years["age"], [-1, 15, 24, 64, 200], labels=["0-15", "16-24", "25-64", "65+ or not known"])
    all_years["age_band"] = bands.astype(object).where(bands.notna(), "65+ or not known")
    with_place = all_years.merge(collisions(), on=["year", "reference"], validate="many_to_one")
    assert len(with_place) == len(all_years)
    with_place["collision"] = with_place["year"].astype(str) + "/" + with_place["reference"]
    return with_place


@functools.cache
def collisions():
    return parquet(
        "highways/leeds_collision_locations_derived.parquet",
        {"year": "year", "reference": "reference", "lsoa21_code_derived": "lsoa21", "ward24_code": "ward_code", "ward24_name": "ward"},
    ).astype({"year": int})


@functools.cache
def crimes():
    told = csv("community-safety/leeds_street_crime_2025_02.csv.gz")
    names = {"LSOA code": "lsoa21", "Crime type": "crime_type", "Last outcome category": "outcome"}
    return told.rename(columns=names)[list(names.values())]


@functools.cache
def footfall():
    """Counts by camera, day and hour; `NewDate` has the day in one form, unlike `Date`."""
    names = {"NewDate": "day", "Hour": "hour", "LocationName": "camera", "InCount": "people"}
    told = parquet("city-centre/leeds_footfall_hourly_2009_2016.parquet", names)
    told["day"] = pandas.to_datetime(told["day"], format="%d-%b-%Y")
    return told[told["people"].between(0, 12_000)]


@functools.cache
def parking():
    told = csv("parking/birmingham_car_park_occupancy_2016.csv.gz").drop_duplicates()
    told = pandas.DataFrame(
        {
            "car_park": told["SystemCodeNumber"],
            "capacity": told["Capacity"].astype(int),
            "occupied": told["Occupancy"].astype(int),
            "ts": pandas.to_datetime(told["LastUpdated"]),
        }
    )
    return told[told["occupied"] >= 0]


@functools.cache
def electricity():
    return parquet(
        "energy/msoa_electricity_2010_2019.parquet",
        {"sector": "sector", "year": "year", "la_code": "council_code", "msoa_code": "msoa", "meters": "meters", "consumption_kwh": "kwh"},
    ).astype({"year": int})


@functools.cache
def loneliness():
    return parquet("social-care/loneliness_england_lsoa21.parquet", {"lsoa21_code": "lsoa21", "perc": "percent", "deciles": "decile"})


@functools.cache
def imd2025():
    told = parquet(
        "planning/imd2025_england_lsoa21.parquet",
        {"lsoa21_code": "lsoa21", "IMD_decile": "decile", "IMD_rank": "rank", "IMD_score": "score", "Crime_decile": "crime_decile"},
    )
    counts = parquet(
        "planning/imd2025_england_lsoa21_indicators.parquet",
        {"lsoa21_code": "lsoa21", "income_deprivation_affecting_older_people_index_idaopi_numerator": "older_income_deprived"},
    )
    whole = {"decile": int, "rank": int, "crime_decile": int}
    return told.astype(whole).merge(counts, on="lsoa21", how="left")


@functools.cache
def imd2019():
    names = {"lsoa11_code": "lsoa11", "IMD_decile": "decile", "IMD_rank": "rank"}
    return parquet("planning/imd2019_england_lsoa11.parquet", names).astype({"decile": int, "rank": int})


@functools.cache
def areas():
    return parquet(
        "geography/lookup_lsoa21_ward24_ltla24.parquet",
        {"lsoa21_code": "lsoa21", "ward24_code": "ward_code", "ward24_name": "ward", "ltla24_code": "council_code"},
    )


@functools.cache
def changes():
    return parquet(
        "geography/lookup_lsoa11_lsoa21_ltla22.parquet",
        {"lsoa11_code": "lsoa11", "change_code": "change", "lsoa21_code": "lsoa21", "ltla22_code": "council_code"},
    )


@functools.cache
def msoas():
    return parquet("geography/lookup_lsoa11_msoa11.parquet", {"lsoa11_code": "lsoa11", "msoa11_code": "msoa"})


@functools.cache
def postcodes():
    told = parquet("geography/postcodes_selected_areas.parquet", {"pcd": "postcode", "laua": "council_code", "lsoa21_code_derived": "lsoa21"})
    told["outcode"] = told["postcode"].str[:4].str.strip()
    return told


@functools.cache
def collections():
    """Collections once each, with the postcode district of the premises."""
    told = parquet("waste/leeds_bin_collections_2025.parquet", {"premises_id": "premises", "collection_date": "day", "bin": "bin"})
    told["day"] = pandas.to_datetime(told["day"])
    premises = parquet("waste/leeds_bin_premises_2025.parquet", {"premises_id": "premises", "outcode": "outcode"})
    premises["outcode"] = premises["outcode"].replace("", None)
    return told.drop_duplicates().merge(premises, on="premises", validate="many_to_one")


def pence(amounts):
    """Pounds as they are written, in whole pence, none lost."""
    return (pandas.to_numeric(amounts) * 100).round().astype("int64")


def pounds(pence):
    """Whole pence as exact pounds."""
    return pence.map(lambda p: decimal.Decimal(int(p)).scaleb(-2))


@functools.cache
def spending():
    """Payments of three councils: council, supplier, service, paid, pence."""
    leeds = parquet(
        "finance/leeds_spending_2016_2018.parquet",
        {"Beneficiary Name": "supplier", "Organisational Unit": "service", "Payment Date": "paid", "Amount": "amount"},
    )
    leeds = leeds[leeds["paid"].str.fullmatch(r"\d{4}-\d\d-\d\d")]
    bradford = parquet(
        "finance/bradford_spending_2018.parquet",
        {"Supplier Name": "supplier", "Service Label": "service", "Payment date": "paid", "Net Amount": "amount"},
    )
    told = pandas.read_parquet(DATA / "finance/calderdale_spending_2018.parquet")
    calderdale = pandas.DataFrame(
        {
            "supplier": told["Supplier Name"].fillna(told["Supplier(Beneficiary) Name"]),
            "service": told["Expense Area"],
            "paid": told["Transaction Date"].fillna(told["Date"]),
            "amount": told["Net Amount"].fillna(told["Amount"]),
        }
    )
    named = {"leeds": leeds, "bradford": bradford, "calderdale": calderdale}
    united = pandas.concat([frame.assign(council=council) for council, frame in named.items()], ignore_index=True)
    united["service"] = united["service"].str.lower()
    united["paid"] = pandas.to_datetime(united["paid"], format="%Y-%m-%d")
    united["pence"] = pence(united["amount"])
    return united.drop(columns="amount")


@functools.cache
def june_2012():
    told = csv("finance/original/leeds_raw_2012-06.csv.gz", "cp1252")
    return pandas.DataFrame(
        {
            "paid": pandas.to_datetime(told["Date paid"], format="%d-%b-%Y"),
            "pence": pence(told["Net amount"]),
            "service": told["Service label"],
        }
    )


@functools.cache
def march_2017():
    told = csv("finance/original/leeds_processed_2017-03_cp1252.csv.gz", "cp1252")
    return pandas.DataFrame({"supplier": told["Beneficiary Name"], "pence": pence(told["Amount"])})


# What a product of class `aggregate` may tell of rows: cells of enough units, every number a little off.

MINIMUM = 10
# The most steps that noise moves a number by. A step of a count of units is a unit; a step of a total is a twentieth
# of what the largest unit gives to it, and one of its last digit at least.
STEPS = 5
# Noise leaves about one number in four as it is: among so many, hardly ever two thirds of them.
MANY = 30


def cells(rows, keys, unit, most, measures=()):
    """Every cell of `rows`, small or not: its units, and its totals.

    The totals are `rows`, of which `most` of one unit count, and for each measure (column, lower, upper) its sum, to
    which a unit gives within the bounds, and `column values`, the rows that have one. Beside each total stands how
    many units give to it (`givers`), and what the one that gives most gives, and the one after it (`first`, `second`).
    """
    by_unit = rows.groupby([*keys, unit], dropna=False, observed=True)
    units = by_unit.size().clip(upper=most).rename("rows").to_frame()
    for column, lower, upper in measures:
        units[column] = by_unit[column].sum(min_count=1).clip(lower, upper)
        units[f"{column} values"] = by_unit[column].count().clip(upper=most).replace(0, numpy.nan)
    totals = list(units.columns)
    units = units.reset_index()
    units["cell"] = units.groupby(keys, dropna=False, observed=True).ngroup()
    told = units.drop_duplicates("cell").set_index("cell")[keys].assign(units=units.groupby("cell").size())
    for total in totals:
        given = units.dropna(subset=total).sort_values(total, ascending=False)
        place = given.groupby("cell").cumcount()
        by_cell = given.groupby("cell")[total]
        told[total], told[f"{total} givers"] = by_cell.sum(), by_cell.size()
        for at, name in enumerate(["first", "second"]):
            told[f"{total} {name}"] = given[place == at].set_index("cell")[total]
    return told.fillna({column: 0 for column in told.columns if column not in keys}).reset_index(drop=True)


def near(ask, statement, truth, keys, values, same=()):
    """Asks, and fails unless the answer tells of `truth`, which `cells` made, what it may, and enough of it.

    `values` says of each column what it is (`units`, a total, or two totals for the one by the other), and the least
    share of the cells of twice the minimum and more, in which it may be told, that it is told of. Columns in `same`
    are of open products, and are as they are in `truth`. Gives the cells that were told, by their keys.
    """
    told = by_keys(ask(statement).to_pylist(), keys)
    # The same question has the same answer: no noise is taken off by asking again.
    again = by_keys(ask(statement).to_pylist(), keys)
    released = lambda cells: {name: [cell[column] for column in values] for name, cell in cells.items()}
    assert released(told) == released(again)
    true = by_keys(truth.to_dict("records"), keys)
    for name, cell in told.items():
        assert name in true, f"there is no {name}"
        for column, (what, _) in values.items():
            if cell[column] is not None:
                assert may_be_told(true[name], what), f"{column} of {name} may not be told"
                low, high = bounds(true[name], what)
                assert low <= number(cell[column]) <= high, f"{column} of {name} is {cell[column]}, not {low} to {high}"
        assert true[name]["units"] >= MINIMUM, f"{name} stands on {true[name]['units']}"
        for column in same:
            assert is_same(cell[column], plain(true[name][column])), f"{column} of {name} is {cell[column]}"
    for column, (what, least) in values.items():
        is_noisy(told, true, column, what)
        is_useful(told, true, column, what, least)
    return told


def by_keys(cells, keys):
    found = {tuple(plain(cell[key]) for key in keys): cell for cell in cells}
    assert len(found) == len(cells), "a cell is told twice"
    return found


def may_be_told(cell, what):
    """Whether a number stands on enough, and on no one or two: margins not weighed."""
    if isinstance(what, tuple):
        return all(may_be_told(cell, one) for one in what)
    if what == "units":
        return cell["units"] >= MINIMUM
    total, first, second = (cell[name] for name in (what, f"{what} first", f"{what} second"))
    is_dominated = first > 0 and (10 * (first + second) >= 9 * total or 10 * (total - first - second) < first)
    return cell["units"] >= MINIMUM and cell[f"{what} givers"] >= MINIMUM and not is_dominated


def bounds(cell, what):
    """The least and the most that may be told."""
    if isinstance(what, tuple):
        (low, high), (fewest, most) = bounds(cell, what[0]), bounds(cell, what[1])
        return min(low / fewest, low / most) - 1e-9, high / fewest + 1e-9
    if what == "units":
        return max(MINIMUM, cell["units"] - STEPS), cell["units"] + STEPS
    mean = abs(cell[what]) / max(1, cell[f"{what} givers"])
    off = STEPS * (mean + max(1, cell[f"{what} first"] / 20)) + 1
    return cell[what] - off, cell[what] + off


def number(told):
    """Pounds in pence, which is how they are counted here."""
    return int(told.scaleb(2)) if isinstance(told, decimal.Decimal) else told


def is_noisy(told, true, column, what):
    """Fails if so many numbers are the true ones that nothing can have been done to them."""
    if isinstance(what, tuple):
        return
    numbers = [(number(cell[column]), true[name][what]) for name, cell in told.items() if cell[column] is not None]
    exact = sum(a == b for a, b in numbers)
    assert len(numbers) < MANY or 3 * exact < 2 * len(numbers), f"{exact} of {len(numbers)} of {column} are exact"


def is_useful(told, true, column, what, least):
    """Fails if more is kept back than the rules ask for."""
    fit = [name for name, cell in true.items() if cell["units"] >= 2 * MINIMUM and may_be_told(cell, what)]
    there = sum(name in told and told[name][column] is not None for name in fit)
    assert there >= max(1, least * len(fit)), f"{column} is told of {there} of the {len(fit)} cells that are fit for it"


def same(answer, expected, ordered=False):
    """Fails unless `answer`, an Arrow table, says what `expected` does."""
    assert answer.column_names == list(expected.columns)
    told = [row(values.values()) for values in answer.to_pylist()]
    truth = [row(values) for values in expected.itertuples(index=False)]
    if not ordered:
        told, truth = sorted(told, key=sortable), sorted(truth, key=sortable)
    assert len(told) == len(truth) > 0, f"{len(told)} rows, not {len(truth)}: {told[:5]} … {truth[:5]}"
    for a, b in zip(told, truth):
        assert all(is_same(x, y) for x, y in zip(a, b)), f"{a} is not {b}, of {answer.column_names}"


def row(values):
    return [plain(value) for value in values]


def plain(value):
    if pandas.isna(value):
        return None
    if isinstance(value, datetime.date):
        return pandas.Timestamp(value)
    return value.item() if isinstance(value, numpy.generic) else value


def sortable(values):
    """By text and whole numbers, the keys among them: what is computed may differ in a last digit."""
    return [(v is not None, str(v)) for v in values if not isinstance(v, float)]


def is_same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))
    return a == b
