//! Asking for the largest, for all of them, and in order.

use super::Line;
use super::Verdict::{Clean, Denied, NotTaken, Released, Rule, Withheld};

pub(super) const EXTREMES: &[Line] = &[
    (
        "the least",
        "SELECT min(weekly_cost) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the most",
        "SELECT ward, max(weekly_cost) FROM {c} GROUP BY ward",
        Rule("cube.aggregate"),
    ),
    (
        "the last name",
        "SELECT max(name) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the first street",
        "SELECT min(street) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the median",
        "SELECT median(weekly_cost) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "a percentile",
        "SELECT approx_percentile_cont(weekly_cost, 0.999) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "an exact percentile",
        "SELECT percentile_cont(0.999) WITHIN GROUP (ORDER BY weekly_cost) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the first value",
        "SELECT first_value(name ORDER BY weekly_cost DESC) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the last value",
        "SELECT last_value(name) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the third value",
        "SELECT nth_value(name, 3) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "any value",
        "SELECT any_value(note) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "all values",
        "SELECT array_agg(name) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "all values of a street",
        "SELECT street, array_agg(person) FROM {c} GROUP BY street",
        Rule("cube.aggregate"),
    ),
    (
        "all values as text",
        "SELECT string_agg(name, ',') FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "distinct values collected",
        "SELECT array_agg(DISTINCT weekly_cost) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "bits of all",
        "SELECT bit_or(hours), bit_and(hours) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "bits of one",
        "SELECT bit_xor(hours) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "is there one",
        "SELECT bool_or(weekly_cost > 10000) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the spread",
        "SELECT stddev(weekly_cost) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "the variance of a street",
        "SELECT street, var_pop(weekly_cost) FROM {c} GROUP BY street",
        Rule("cube.aggregate"),
    ),
    (
        "a correlation",
        "SELECT corr(weekly_cost, hours) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "a covariance",
        "SELECT covar_samp(weekly_cost, hours) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "a regression",
        "SELECT regr_slope(weekly_cost, hours), regr_count(weekly_cost, hours) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "distinct names counted",
        "SELECT count(DISTINCT name) FROM {c}",
        Rule("cube.distinct"),
    ),
    (
        "distinct costs counted",
        "SELECT street, count(DISTINCT weekly_cost) FROM {c} GROUP BY street",
        Rule("cube.distinct"),
    ),
    (
        "distinct costs added",
        "SELECT sum(DISTINCT weekly_cost) FROM {c}",
        Rule("cube.distinct"),
    ),
    (
        "distinct costs averaged",
        "SELECT avg(DISTINCT weekly_cost) FROM {c}",
        Rule("cube.distinct"),
    ),
    (
        "about how many names",
        "SELECT approx_distinct(name) FROM {c}",
        Rule("cube.aggregate"),
    ),
    (
        "a secret counted",
        "SELECT count(note) FROM {c}",
        Rule("cube.measure"),
    ),
    (
        "a dimension counted as if it were a measure",
        "SELECT ward, count(age_band) AS n FROM {c} GROUP BY ward",
        Rule("cube.measure"),
    ),
    (
        "a secret added",
        "SELECT sum(CAST(name AS DOUBLE)) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "the secret's extreme in an open product",
        "SELECT max(vehicle), min(pin) FROM {p}",
        Denied,
    ),
    (
        "the secret counted in an open product",
        "SELECT count(DISTINCT vehicle) FROM {p}",
        Denied,
    ),
    (
        "beyond the bounds",
        "SELECT sum(hours) AS total, count(hours) AS n FROM {c} WHERE street = 'Hoopoe Cut'",
        Withheld,
    ),
];

pub(super) const WINDOWS: &[Line] = &[
    (
        "numbered rows",
        "SELECT row_number() OVER (ORDER BY weekly_cost DESC) AS r, ward FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "the row before",
        "SELECT lag(name) OVER (ORDER BY weekly_cost) AS n FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "the row after",
        "SELECT lead(weekly_cost) OVER (PARTITION BY street ORDER BY person) AS n FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "a running total",
        "SELECT sum(weekly_cost) OVER (ORDER BY person) AS s FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "a count beside each row",
        "SELECT street, count(*) OVER (PARTITION BY street) AS n FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "the first of a window",
        "SELECT first_value(name) OVER (PARTITION BY ward ORDER BY weekly_cost DESC) AS n FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "a window below an aggregation",
        "SELECT ward, count(*) FROM (SELECT ward, rank() OVER (ORDER BY weekly_cost DESC) AS r FROM {c}) x WHERE r = 1 GROUP BY ward",
        Denied,
    ),
    (
        "tiles",
        "SELECT t, count(*) FROM (SELECT ntile(1000) OVER (ORDER BY weekly_cost) AS t FROM {c}) x GROUP BY t",
        Denied,
    ),
    (
        "qualified",
        "SELECT ward FROM {c} QUALIFY row_number() OVER (ORDER BY weekly_cost) = 1",
        Denied,
    ),
    (
        "the top row counted",
        "SELECT count(*) AS n, sum(weekly_cost) AS s FROM (SELECT * FROM {c} ORDER BY weekly_cost DESC LIMIT 1) x",
        Denied,
    ),
    (
        "a page counted",
        "SELECT sum(weekly_cost) AS s FROM (SELECT * FROM {c} LIMIT 100 OFFSET 17) x",
        Denied,
    ),
    (
        "the first of each ward",
        "SELECT DISTINCT ON (ward) ward, name FROM {c} ORDER BY ward, weekly_cost DESC",
        Denied,
    ),
    (
        "cells ordered by what is refused",
        "SELECT ward, count(*) AS n FROM {c} GROUP BY ward ORDER BY max(weekly_cost)",
        Rule("cube.aggregate"),
    ),
    (
        "cells ordered by an identifier",
        "SELECT ward, count(*) AS n FROM {c} GROUP BY ward ORDER BY min(person)",
        Rule("cube.aggregate"),
    ),
    (
        "rows fetched first",
        "SELECT name FROM {c} ORDER BY weekly_cost DESC FETCH FIRST 1 ROW ONLY",
        NotTaken,
    ),
    (
        "an order of cells by a secret total",
        "SELECT street FROM {c} GROUP BY street ORDER BY sum(weekly_cost) DESC LIMIT 3",
        Clean,
    ),
    (
        "an open product in a secret's order",
        "SELECT permit FROM {p} ORDER BY pin",
        Denied,
    ),
    (
        "an open product ranked by a secret",
        "SELECT permit, rank() OVER (ORDER BY vehicle) AS r FROM {p}",
        Denied,
    ),
    (
        "a window over what was released",
        "SELECT ward, n FROM (SELECT ward, n, rank() OVER (ORDER BY n DESC) AS r FROM (SELECT ward, count(DISTINCT person) AS n FROM {c} GROUP BY ward) x) y WHERE r = 1",
        Released(|town| vec![("W1".to_owned(), town.count(|c| c.ward == "W1"))]),
    ),
];
