//! Asking for people: their rows, one of them, or all but one.

use super::Line;
use super::Verdict::{Awaits, Clean, Denied, Null, Released, Rule, SameAs, Withheld};
use crate::town::Feature::{Dominance, Margins};

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

pub(super) const SINGLING_OUT: &[Line] = &[
    (
        "by identifier",
        "SELECT count(*) FROM {c} WHERE person = 'P-7Q2MZEBEDEE'",
        Rule("cube.identifier"),
    ),
    (
        "by name",
        "SELECT sum(weekly_cost) FROM {c} WHERE name = 'Zebedee Quillfeather'",
        Rule("cube.identifier"),
    ),
    (
        "by half a name",
        "SELECT count(*) FROM {c} WHERE name LIKE 'Zebedee%'",
        Rule("cube.predicate"),
    ),
    (
        "by the start of a name",
        "SELECT count(*) FROM {c} WHERE starts_with(name, 'Zebedee')",
        Rule("cube.predicate"),
    ),
    (
        "by free text",
        "SELECT count(*) FROM {c} WHERE note LIKE '%red kite%'",
        Rule("cube.predicate"),
    ),
    (
        "by a measure",
        "SELECT count(*) FROM {c} WHERE weekly_cost = 11937.43",
        Rule("cube.dimension"),
    ),
    (
        "by a range of a measure",
        "SELECT count(*) FROM {c} WHERE weekly_cost > 10000",
        Rule("cube.predicate"),
    ),
    (
        "between two measures",
        "SELECT count(*) FROM {c} WHERE weekly_cost BETWEEN 11937 AND 11938",
        Rule("cube.predicate"),
    ),
    (
        "by a number out of bounds",
        "SELECT avg(weekly_cost) FROM {c} WHERE hours = 98765431",
        Rule("cube.dimension"),
    ),
    (
        "by a range of time",
        "SELECT count(*) FROM {c} WHERE opened >= TIMESTAMP '2025-03-01 00:00:00' AND opened < TIMESTAMP '2025-03-02 00:00:00'",
        Rule("cube.predicate"),
    ),
    (
        "by the minute",
        "SELECT date_trunc('minute', opened) AS t, count(*) FROM {c} GROUP BY 1",
        Rule("cube.roll-up"),
    ),
    (
        "by the hour",
        "SELECT count(*) FROM {c} WHERE date_trunc('hour', opened) = TIMESTAMP '2025-03-01 05:00:00'",
        Rule("cube.roll-up"),
    ),
    (
        "by each moment",
        "SELECT opened, count(*) AS n FROM {c} GROUP BY opened",
        Withheld,
    ),
    (
        "by a part of a date",
        "SELECT count(*) FROM {c} WHERE date_part('dow', opened) = 3",
        Rule("cube.expression"),
    ),
    (
        "by the length of a street's name",
        "SELECT count(*) FROM {c} WHERE octet_length(street) = 10",
        Rule("cube.expression"),
    ),
    (
        "by a pattern of a dimension",
        "SELECT count(*) FROM {c} WHERE street LIKE 'H%'",
        Rule("cube.predicate"),
    ),
    (
        "by a made-up group",
        "SELECT count(*) FROM {c} WHERE ward IN ('W4', 'W5')",
        Rule("cube.group"),
    ),
    (
        "by half of a registered group and another",
        "SELECT count(*) FROM {c} WHERE age_band IN ('80+', '18-49')",
        Rule("cube.group"),
    ),
    (
        "by a list of people",
        "SELECT count(*) FROM {c} WHERE person IN ('P-7Q2MZEBEDEE', 'P-4K9XPHILOMENA')",
        Denied,
    ),
    (
        "by no value",
        "SELECT count(*) FROM {c} WHERE street IS NULL",
        Rule("cube.predicate"),
    ),
    (
        "by two values of one dimension",
        "SELECT count(*) FROM {c} WHERE ward = 'W1' AND ward = 'W2'",
        Rule("cube.one-filter"),
    ),
    (
        "by comparing two columns",
        "SELECT count(*) FROM {c} WHERE ward = street",
        Rule("cube.predicate"),
    ),
    (
        "by CASE",
        "SELECT count(*) FROM {c} WHERE CASE WHEN name = 'Zebedee Quillfeather' THEN true ELSE false END",
        Rule("cube.predicate"),
    ),
    (
        "by coalesce",
        "SELECT count(*) FROM {c} WHERE coalesce(street, 'x') = 'Hoopoe Cut'",
        Rule("cube.expression"),
    ),
    (
        "by a cast that merges",
        "SELECT count(*) FROM {c} WHERE CAST(opened AS DATE) = DATE '2025-03-01'",
        Rule("cube.expression"),
    ),
    (
        "grouped by identifier",
        "SELECT person, count(*) FROM {c} GROUP BY person",
        Rule("cube.identifier"),
    ),
    (
        "grouped by name",
        "SELECT name, sum(weekly_cost) FROM {c} GROUP BY name",
        Rule("cube.identifier"),
    ),
    (
        "grouped by a measure",
        "SELECT hours, count(*) FROM {c} GROUP BY hours",
        Rule("cube.dimension"),
    ),
    (
        "grouped by an expression",
        "SELECT left(person, 5) AS p, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "grouped by an identifier called ward",
        "SELECT ward, count(*) FROM (SELECT person AS ward FROM {c}) x GROUP BY ward",
        Rule("cube.identifier"),
    ),
    (
        "grouping sets down to one",
        "SELECT ward, person, count(*) FROM {c} GROUP BY GROUPING SETS ((ward), (person))",
        Rule("cube.grouping-sets"),
    ),
    (
        "a cube of dimensions",
        "SELECT ward, street, need, count(*) FROM {c} GROUP BY CUBE (ward, street, need)",
        Rule("cube.grouping-sets"),
    ),
    (
        "a roll-up of dimensions",
        "SELECT ward, street, count(*) FROM {c} GROUP BY ROLLUP (ward, street)",
        Rule("cube.grouping-sets"),
    ),
    (
        "every dimension at once",
        "SELECT ward, age_band, need, street, date_trunc('day', opened) AS d, count(*) AS n, sum(weekly_cost) AS s FROM {c} GROUP BY 1, 2, 3, 4, 5",
        Withheld,
    ),
    (
        "the street of three",
        "SELECT count(*) AS n, sum(hours) AS h FROM {c} WHERE street = 'Hoopoe Cut'",
        Withheld,
    ),
    (
        "the street of three reads like none",
        "SELECT count(*) AS n, sum(hours) AS h FROM {c} WHERE street = 'Hoopoe Cut'",
        SameAs("SELECT count(*) AS n, sum(hours) AS h FROM {c} WHERE street = 'Hoopoe Nil'"),
    ),
    (
        "the ward of seven reads like none",
        "SELECT count(DISTINCT person) AS n FROM {c} WHERE ward = 'W5'",
        SameAs("SELECT count(DISTINCT person) AS n FROM {c} WHERE ward = 'W6'"),
    ),
    (
        "the need of two, by ward, reads like none",
        "SELECT ward, avg(weekly_cost) AS a FROM {c} WHERE need = 'kestrel fostering' GROUP BY ward",
        SameAs(
            "SELECT ward, avg(weekly_cost) AS a FROM {c} WHERE need = 'kestrel fosterink' GROUP BY ward",
        ),
    ),
    (
        "a day and a street reads like a day without",
        "SELECT count(*) AS n FROM {c} WHERE street = 'Gannet Row' AND date_trunc('day', opened) = TIMESTAMP '2025-03-01 00:00:00'",
        SameAs(
            "SELECT count(*) AS n FROM {c} WHERE street = 'Gannet Row' AND date_trunc('day', opened) = TIMESTAMP '2031-03-01 00:00:00'",
        ),
    ),
    (
        "cells of one person only",
        "SELECT street, need, count(DISTINCT person) AS n FROM {c} GROUP BY street, need HAVING count(DISTINCT person) = 1",
        Withheld,
    ),
    (
        "cells below the minimum only",
        "SELECT ward, street, age_band, count(*) AS n FROM {c} GROUP BY 1, 2, 3 HAVING count(*) < 8",
        Withheld,
    ),
    (
        "a total that is one person's",
        "SELECT count(DISTINCT person) AS n, sum(weekly_cost) AS total FROM {c} WHERE street = 'Gannet Row'",
        Awaits(Dominance, &Null("total")),
    ),
    (
        "a mean that is one person's",
        "SELECT street, avg(weekly_cost) AS mean FROM {c} WHERE street = 'Gannet Row' GROUP BY street",
        Awaits(Dominance, &Null("mean")),
    ),
    (
        "who is in the cells, by a filter on the other side",
        "SELECT w.ward FROM {w} w WHERE w.population > (SELECT count(*) FROM {c} c WHERE c.person = 'P-7Q2MZEBEDEE')",
        Rule("cube.identifier"),
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
        Awaits(Margins, &Withheld),
    ),
    (
        "a sum over the union of both councils",
        "SELECT age_band, count(*) AS n FROM {u} WHERE NOT ward = 'W5' GROUP BY age_band",
        Rule("cube.predicate"),
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
