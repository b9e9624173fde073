//! Asking often, and asking of more rows than there are.

use super::Line;
use super::Verdict::{Clean, Denied, NotTaken, Null, Rule, SameRows, Withheld};

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

pub(super) const FAN_OUT: &[Line] = &[
    (
        "times two by a cross join",
        "SELECT c.ward, count(*) FROM {c} c CROSS JOIN (VALUES (1), (2)) v(x) GROUP BY c.ward",
        Denied,
    ),
    (
        "times five by an open product",
        "SELECT c.street, count(*) FROM {c} c CROSS JOIN {w} w GROUP BY c.street",
        Denied,
    ),
    (
        "joined with an open product first",
        "SELECT w.population, count(*) FROM {c} c JOIN {w} w ON c.ward = w.ward GROUP BY w.population",
        Denied,
    ),
    (
        "joined with a list of people",
        "SELECT count(*) FROM {c} c JOIN (VALUES ('P-7Q2MZEBEDEE')) v(p) ON c.person = v.p",
        Denied,
    ),
    (
        "joined with itself",
        "SELECT a.ward, count(*) FROM {c} a JOIN {c} b ON a.street = b.street GROUP BY a.ward",
        Denied,
    ),
    (
        "joined with the visits",
        "SELECT c.street, count(*) FROM {c} c JOIN {v} v ON c.person = v.person GROUP BY c.street",
        Denied,
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
        Withheld,
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
        Denied,
    ),
    (
        "open rows counted through a private list",
        "SELECT count(*) FROM {b} b JOIN {c} c ON c.ward = b.ward",
        Denied,
    ),
];
