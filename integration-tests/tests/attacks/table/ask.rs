//! Asking for people: their rows, or all of them but one.

use super::Line;
use super::Verdict::{Clean, Denied, Released, Rule, Withheld};

pub(super) const DIRECT: &[Line] = &[
    ("every column", "SELECT * FROM {c}", Rule("cube.rows")),
    ("a name", "SELECT name FROM {c}", Rule("cube.rows")),
    (
        "one identifier",
        "SELECT person FROM {c} LIMIT 1",
        Rule("cube.rows"),
    ),
    (
        "free text",
        "SELECT note FROM {c} WHERE note <> ''",
        Rule("cube.rows"),
    ),
    (
        "dimensions of each row",
        "SELECT ward, street, opened FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "a measure of each row",
        "SELECT weekly_cost FROM {c} ORDER BY weekly_cost DESC LIMIT 5",
        Rule("cube.rows"),
    ),
    (
        "distinct identifiers",
        "SELECT DISTINCT person FROM {c}",
        Rule("cube.identifier"),
    ),
    (
        "distinct names",
        "SELECT DISTINCT name FROM {c}",
        Rule("cube.identifier"),
    ),
    (
        "distinct measures",
        "SELECT DISTINCT weekly_cost FROM {c}",
        Rule("cube.dimension"),
    ),
    ("distinct streets", "SELECT DISTINCT street FROM {c}", Clean),
    ("distinct needs", "SELECT DISTINCT need FROM {c}", Clean),
    (
        "rows under another name",
        "WITH x AS (SELECT * FROM {c}) SELECT * FROM x",
        Rule("cube.rows"),
    ),
    (
        "rows of a derived table",
        "SELECT q.name FROM (SELECT c.name FROM {c} c) q",
        Rule("cube.rows"),
    ),
    (
        "one row as a value",
        "SELECT (SELECT name FROM {c} LIMIT 1) AS n",
        Denied,
    ),
    (
        "a row as a value of an open row",
        "SELECT ward, (SELECT max(name) FROM {c}) AS n FROM {w}",
        Rule("cube.aggregate"),
    ),
    (
        "an expression hides the column",
        "SELECT 'x' || name || 'y' FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "rows united with open rows",
        "SELECT ward FROM {w} UNION ALL SELECT name FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "rows by intersection",
        "SELECT ward FROM {w} INTERSECT SELECT ward FROM {c}",
        Denied,
    ),
    (
        "rows by exception",
        "SELECT name FROM {c} EXCEPT SELECT ward FROM {w}",
        Denied,
    ),
    (
        "nothing but the shape",
        "SELECT * FROM {c} WHERE 1 = 0",
        Withheld,
    ),
    (
        "no rows, please",
        "SELECT name, note FROM {c} LIMIT 0",
        Withheld,
    ),
    (
        "a secret column of an open product",
        "SELECT vehicle FROM {p}",
        Denied,
    ),
    (
        "a secret number of an open product",
        "SELECT permit, pin FROM {p} ORDER BY permit",
        Denied,
    ),
    (
        "an identifier of an open product",
        "SELECT holder FROM {p}",
        Denied,
    ),
    (
        "all of an open product with secrets",
        "SELECT * FROM {p}",
        Clean,
    ),
    (
        "a secret inside an expression",
        "SELECT upper(vehicle) AS v FROM {p}",
        Denied,
    ),
    (
        "a secret inside CASE",
        "SELECT CASE WHEN vehicle IS NULL THEN 1 ELSE 2 END AS x FROM {p}",
        Denied,
    ),
    ("a masked column", "SELECT phone FROM {b}", Clean),
    (
        "a masked column uncovered",
        "SELECT booking, replace(phone, 'x', '') AS phone FROM {b}",
        Clean,
    ),
    (
        "sealed rows",
        "SELECT * FROM {b} WHERE booking > 5000000",
        Clean,
    ),
    (
        "sealed amounts",
        "SELECT booking, amount FROM {b} WHERE amount > 1000000",
        Withheld,
    ),
];

pub(super) const TRACKERS: &[Line] = &[
    (
        "all but one",
        "SELECT count(*) FROM {c} WHERE person <> 'P-7Q2MZEBEDEE'",
        Rule("cube.predicate"),
    ),
    (
        "all but a name",
        "SELECT sum(weekly_cost) FROM {c} WHERE NOT name = 'Zebedee Quillfeather'",
        Rule("cube.predicate"),
    ),
    (
        "one padded by many",
        "SELECT count(*) FROM {c} WHERE ward = 'W1' OR person = 'P-7Q2MZEBEDEE'",
        Rule("cube.predicate"),
    ),
    (
        "the general tracker",
        "SELECT count(*) FROM {c} WHERE need = 'respite' OR NOT ward = 'W5'",
        Rule("cube.predicate"),
    ),
    (
        "two dimensions by OR",
        "SELECT count(*) FROM {c} WHERE ward = 'W4' OR age_band = '80+'",
        Rule("cube.predicate"),
    ),
    (
        "not of a dimension",
        "SELECT count(*) FROM {c} WHERE NOT ward = 'W5'",
        Rule("cube.predicate"),
    ),
    (
        "unequal to a dimension",
        "SELECT sum(hours) FROM {c} WHERE ward <> 'W5'",
        Rule("cube.predicate"),
    ),
    (
        "not in",
        "SELECT count(*) FROM {c} WHERE ward NOT IN ('W5')",
        Rule("cube.predicate"),
    ),
    (
        "not in a registered group",
        "SELECT count(*) FROM {m} WHERE area NOT IN ('A00', 'A01', 'A02', 'A03')",
        Rule("cube.predicate"),
    ),
    (
        "not true",
        "SELECT count(*) FROM {c} WHERE (ward = 'W5') IS NOT TRUE",
        Rule("cube.predicate"),
    ),
    (
        "is distinct from",
        "SELECT count(*) FROM {c} WHERE ward IS DISTINCT FROM 'W5'",
        Rule("cube.predicate"),
    ),
    (
        "compared with false",
        "SELECT count(*) FROM {c} WHERE (ward = 'W5') = false",
        Rule("cube.predicate"),
    ),
    (
        "counted by FILTER",
        "SELECT count(*) FILTER (WHERE person = 'P-7Q2MZEBEDEE') AS n FROM {c}",
        Rule("cube.filter-clause"),
    ),
    (
        "all but one by FILTER",
        "SELECT ward, count(*) FILTER (WHERE street <> 'Hoopoe Cut') AS n FROM {c} GROUP BY ward",
        Rule("cube.filter-clause"),
    ),
    (
        "counted by CASE",
        "SELECT sum(CASE WHEN street = 'Hoopoe Cut' THEN 1 ELSE 0 END) AS n FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "a measure of one by CASE",
        "SELECT sum(CASE WHEN person = 'P-7Q2MZEBEDEE' THEN weekly_cost ELSE 0 END) AS s FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "grouped by in or out",
        "SELECT street = 'Hoopoe Cut' AS inside, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "grouped by CASE",
        "SELECT CASE WHEN ward = 'W5' THEN 'a' ELSE 'b' END AS k, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "differenced in one statement",
        "SELECT a.n - b.n AS d FROM (SELECT count(*) AS n FROM {c}) a CROSS JOIN (SELECT count(*) AS n FROM {c} WHERE NOT ward = 'W5') b",
        Rule("cube.predicate"),
    ),
    (
        "existence",
        "SELECT count(*) FROM {c} c WHERE EXISTS (SELECT 1 FROM {c} d WHERE d.person = c.person AND d.weekly_cost > 10000)",
        Denied,
    ),
    (
        "by a sub-query's list",
        "SELECT count(*) FROM {c} WHERE person IN (SELECT person FROM {v})",
        Denied,
    ),
    (
        "not in a sub-query",
        "SELECT count(*) FROM {c} WHERE person NOT IN (SELECT person FROM {v} WHERE kind = 'night')",
        Denied,
    ),
    (
        "a residue by EXCEPT",
        "SELECT ward, street FROM {c} EXCEPT SELECT ward, street FROM {c} WHERE street = 'Hoopoe Cut'",
        Denied,
    ),
    (
        "the ages of a small ward",
        "SELECT age_band, count(DISTINCT person) AS n FROM {c} WHERE ward = 'W4' AND age_band = '80+' GROUP BY age_band",
        Withheld,
    ),
    (
        "a group less its part is not left alone",
        "SELECT count(DISTINCT person) AS n FROM {c} WHERE ward = 'W4' AND age_band IN ('65-79', '80+')",
        Withheld,
    ),
    (
        "a sum over the union of both councils",
        "SELECT age_band, count(*) AS n FROM {u} WHERE NOT ward = 'W5' GROUP BY age_band",
        Denied,
    ),
    (
        "what is left is what may be seen",
        "SELECT ward, count(DISTINCT person) AS n FROM {c} GROUP BY ward",
        Released(|town| {
            ["W1", "W2", "W3", "W4"]
                .map(|w| (w.to_owned(), town.count(|c| c.ward == w)))
                .to_vec()
        }),
    ),
];
