//! Asking often, asking for the largest, asking in order, and asking of more rows than there are.

use super::Line;
use super::Verdict::{Awaits, Clean, Denied, NotTaken, Null, Released, Rule, SameRows, Withheld};
use crate::town::Feature::RowBound;

const BY_WARD: &str = "SELECT ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM {c} GROUP BY ward ORDER BY ward";
const OLDER: &str = "SELECT count(DISTINCT person) AS n, sum(hours) AS h FROM {c} WHERE age_band IN ('65-79', '80+')";
const IN_W1: &str =
    "SELECT count(DISTINCT person) AS n, avg(weekly_cost) AS a FROM {c} WHERE ward = 'W1'";
const BY_MONTH: &str = "SELECT date_trunc('month', opened) AS m, count(DISTINCT person) AS n FROM {c} GROUP BY 1 ORDER BY 1";

pub(super) const AVERAGING: &[Line] = &[
    ("the same again", BY_WARD, SameRows(BY_WARD)),
    (
        "in other words",
        "SELECT q.w AS ward, count(DISTINCT q.p) AS n, sum(q.c) AS s FROM (SELECT ward AS w, person AS p, weekly_cost AS c FROM {c}) q GROUP BY q.w ORDER BY 1",
        SameRows(BY_WARD),
    ),
    (
        "as a WITH",
        "WITH x AS (SELECT ward, person, weekly_cost FROM {c}) SELECT ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM x GROUP BY ward ORDER BY ward",
        SameRows(BY_WARD),
    ),
    (
        "with a condition that is always true",
        "SELECT ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM {c} WHERE 1 = 1 AND 'a' = 'a' GROUP BY ward ORDER BY ward",
        SameRows(BY_WARD),
    ),
    (
        "with another salt",
        "SELECT ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM {c} /* 7 */ GROUP BY ward HAVING 7 = 7 ORDER BY ward",
        SameRows(BY_WARD),
    ),
    (
        "with another order",
        "SELECT ward, n, s FROM (SELECT sum(weekly_cost) AS s, count(DISTINCT person) AS n, ward FROM {c} GROUP BY ward) x ORDER BY ward",
        SameRows(BY_WARD),
    ),
    (
        "each ward by a question of its own",
        "SELECT 'W1' AS ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM {c} WHERE ward = 'W1'",
        SameRows(
            "SELECT ward, n, s FROM (SELECT ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM {c} GROUP BY ward) x WHERE ward = 'W1'",
        ),
    ),
    (
        "a filter twice",
        "SELECT count(DISTINCT person) AS n, avg(weekly_cost) AS a FROM {c} WHERE ward = 'W1' AND ward = 'W1'",
        SameRows(IN_W1),
    ),
    (
        "a filter as a list of one",
        "SELECT count(DISTINCT person) AS n, avg(weekly_cost) AS a FROM {c} WHERE ward IN ('W1')",
        SameRows(IN_W1),
    ),
    (
        "a filter turned about",
        "SELECT count(DISTINCT person) AS n, avg(weekly_cost) AS a FROM {c} WHERE 'W1' = ward",
        SameRows(IN_W1),
    ),
    (
        "a filter with a cast",
        "SELECT count(DISTINCT person) AS n, avg(weekly_cost) AS a FROM {c} WHERE ward = CAST('W1' AS VARCHAR)",
        SameRows(IN_W1),
    ),
    (
        "a group in another order",
        "SELECT count(DISTINCT person) AS n, sum(hours) AS h FROM {c} WHERE age_band IN ('80+', '65-79')",
        SameRows(OLDER),
    ),
    (
        "a group with one twice",
        "SELECT count(DISTINCT person) AS n, sum(hours) AS h FROM {c} WHERE age_band IN ('80+', '65-79', '80+')",
        SameRows(OLDER),
    ),
    (
        "a group by OR",
        "SELECT count(DISTINCT person) AS n, sum(hours) AS h FROM {c} WHERE age_band = '80+' OR age_band = '65-79'",
        SameRows(OLDER),
    ),
    (
        "a month by another word",
        "SELECT date_trunc('MONTH', opened) AS m, count(DISTINCT person) AS n FROM {c} GROUP BY date_trunc('MONTH', opened) ORDER BY m",
        SameRows(BY_MONTH),
    ),
    (
        "over the union of councils",
        "SELECT ward, count(DISTINCT person) AS n, sum(weekly_cost) AS s FROM {u} WHERE council = 'siskin' GROUP BY ward ORDER BY ward",
        SameRows(BY_WARD),
    ),
    (
        "by a random number",
        "SELECT count(*) + 0 * random() FROM {c}",
        NotTaken,
    ),
    (
        "by a random half",
        "SELECT count(*) FROM {c} WHERE random() < 0.5",
        NotTaken,
    ),
    (
        "by a hash of the person",
        "SELECT count(*) FROM {c} WHERE octet_length(person) % 2 = 0",
        Rule("cube.expression"),
    ),
    (
        "by the last digit of the person",
        "SELECT right(person, 1) AS digit, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "by a digest",
        "SELECT count(*) FROM {c} WHERE md5(person) < '8'",
        NotTaken,
    ),
    (
        "by a sample",
        "SELECT count(*) FROM {c} TABLESAMPLE (50)",
        NotTaken,
    ),
    (
        "by slices of a measure",
        "SELECT floor(weekly_cost / 10) AS slice, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "by bins of time",
        "SELECT date_bin(INTERVAL '7 hours', opened) AS bin, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "a weight for each person",
        "SELECT sum(hours * CASE WHEN ward = 'W1' THEN 1 ELSE 1000 END) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "powers of a measure",
        "SELECT sum(hours * hours) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "products of measures",
        "SELECT sum(weekly_cost * hours) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "a sum of ones",
        "SELECT sum(1) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "digits of a measure",
        "SELECT sum(CAST(weekly_cost AS BIGINT) % 10) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "a measure cast to fewer digits",
        "SELECT sum(CAST(weekly_cost AS INT)) FROM {c}",
        Rule("cube.expression"),
    ),
];

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
        Rule("cube.limit"),
    ),
    (
        "a page counted",
        "SELECT sum(weekly_cost) AS s FROM (SELECT * FROM {c} LIMIT 100 OFFSET 17) x",
        Rule("cube.limit"),
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
        Rule("cube.rows"),
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

pub(super) const FAN_OUT: &[Line] = &[
    (
        "times two by a cross join",
        "SELECT c.ward, count(*) FROM {c} c CROSS JOIN (VALUES (1), (2)) v(x) GROUP BY c.ward",
        Rule("cube.one-product"),
    ),
    (
        "times five by an open product",
        "SELECT c.street, count(*) FROM {c} c CROSS JOIN {w} w GROUP BY c.street",
        Rule("cube.one-product"),
    ),
    (
        "joined with an open product first",
        "SELECT w.population, count(*) FROM {c} c JOIN {w} w ON c.ward = w.ward GROUP BY w.population",
        Rule("cube.one-product"),
    ),
    (
        "joined with a list of people",
        "SELECT count(*) FROM {c} c JOIN (VALUES ('P-7Q2MZEBEDEE')) v(p) ON c.person = v.p",
        Rule("cube.one-product"),
    ),
    (
        "joined with itself",
        "SELECT a.ward, count(*) FROM {c} a JOIN {c} b ON a.street = b.street GROUP BY a.ward",
        Rule("cube.one-product"),
    ),
    (
        "joined with the visits",
        "SELECT c.street, count(*) FROM {c} c JOIN {v} v ON c.person = v.person GROUP BY c.street",
        Rule("cube.one-product"),
    ),
    (
        "a half join",
        "SELECT c.ward, count(*) FROM {c} c LEFT JOIN {w} w ON c.street = w.ward WHERE w.ward IS NULL GROUP BY c.ward",
        Denied,
    ),
    (
        "twice by a union",
        "SELECT ward, count(*) FROM (SELECT ward FROM {c} UNION ALL SELECT ward FROM {c}) x GROUP BY ward",
        Denied,
    ),
    (
        "a third of three by a union of streets",
        "SELECT count(DISTINCT person) FROM (SELECT person FROM {c} WHERE street = 'Hoopoe Cut' UNION ALL SELECT person FROM {c} WHERE street = 'Street 01') x",
        Denied,
    ),
    (
        "two products in one cell",
        "SELECT ward, count(*) FROM (SELECT ward, person FROM {c} UNION ALL SELECT ward, person FROM {v}) x GROUP BY ward",
        Denied,
    ),
    (
        "unnested",
        "SELECT count(*) FROM {c}, UNNEST([1, 2, 3]) u(x)",
        NotTaken,
    ),
    (
        "lateral",
        "SELECT count(*) FROM {c} c, LATERAL (SELECT 1 FROM {w} w WHERE w.ward = c.ward) x",
        NotTaken,
    ),
    (
        "a generated series",
        "SELECT count(*) FROM {c}, generate_series(1, 100)",
        NotTaken,
    ),
    (
        "many rows of three people",
        "SELECT count(*) AS n, sum(minutes) AS m FROM {v} WHERE ward = 'W4'",
        Withheld,
    ),
    (
        "many rows of three people, by kind",
        "SELECT kind, count(*) AS n FROM {v} WHERE ward = 'W4' GROUP BY kind",
        Withheld,
    ),
    (
        "one person's 300 rows among twelve people",
        "SELECT kind, 12 * 3 + 15 >= count(*) AS bounded, count(*) AS n FROM {v} WHERE ward = 'W3' GROUP BY kind HAVING count(*) > 12 * 3 + 15",
        Awaits(RowBound, &Withheld),
    ),
    (
        "the mean of one person's many rows",
        "SELECT avg(minutes) AS mean FROM {v} WHERE ward = 'W4'",
        Null("mean"),
    ),
    (
        "all councils in one cell",
        "SELECT age_band, count(*) AS n FROM {u} GROUP BY age_band",
        Clean,
    ),
    (
        "the cells of each council stand alone",
        "SELECT council, ward, count(DISTINCT person) AS n FROM {u} WHERE ward = 'W5' GROUP BY council, ward",
        Withheld,
    ),
    (
        "the street of three by both councils",
        "SELECT street, count(*) AS n FROM {u} WHERE street = 'Hoopoe Cut' GROUP BY street",
        Withheld,
    ),
    (
        "open rows counted through a private list",
        "SELECT count(*) FROM {b} b JOIN {c} c ON c.ward = b.ward",
        Denied,
    ),
];
