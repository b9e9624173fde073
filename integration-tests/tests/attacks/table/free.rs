//! Free questions over a product with a privacy budget: what is refused all the same, and what costs nothing since it
//! was asked before. Those that are answered are few: the budget of one town pays for fifteen.

use super::Line;
use super::Verdict::{Clean, Denied, NotTaken, Rule, SameRows};

const BASE: &str = "SELECT count(*) AS n FROM {s} WHERE savings > 460 AND band <> '35-49'";

pub(super) const FREE: &[Line] = &[
    ("free: the same again", BASE, SameRows(BASE)),
    (
        "free: conditions the other way about",
        "SELECT count(*) AS n FROM {s} WHERE band <> '35-49' AND savings > 460",
        SameRows(BASE),
    ),
    (
        "free: a condition twice",
        "SELECT count(*) AS n FROM {s} WHERE savings > 460 AND band <> '35-49' AND savings > 460",
        SameRows(BASE),
    ),
    (
        "free: with another salt",
        "SELECT  count(*)\nAS n /* 7 */ FROM {s} WHERE ((savings > 460)) AND (band <> '35-49') -- 8",
        SameRows(BASE),
    ),
    (
        "free: under other names",
        "SELECT count(*) AS people FROM {s} q WHERE q.savings > 460 AND q.band <> '35-49'",
        SameRows(BASE),
    ),
    (
        "free: over columns named anew",
        "SELECT count(*) AS n FROM (SELECT savings AS s, band AS b FROM {s}) q WHERE s > 460 AND b <> '35-49'",
        SameRows(BASE),
    ),
    (
        "free: conditions in two places",
        "SELECT count(*) AS n FROM (SELECT savings, band FROM {s} WHERE band <> '35-49') q WHERE savings > 460",
        SameRows(BASE),
    ),
    (
        "free: as a WITH",
        "WITH x AS (SELECT count(*) AS n FROM {s} WHERE savings > 460 AND band <> '35-49') SELECT n FROM x",
        SameRows(BASE),
    ),
    (
        "free: with what is always true",
        "SELECT count(*) AS n FROM {s} WHERE 1 = 1 AND savings > 460 AND band <> '35-49'",
        SameRows(BASE),
    ),
    (
        "free: sorted and cut",
        "SELECT count(*) AS n FROM {s} WHERE savings > 460 AND band <> '35-49' ORDER BY n LIMIT 7",
        SameRows(BASE),
    ),
    (
        "free: with a condition on the answer",
        "SELECT count(*) AS n FROM {s} WHERE savings > 460 AND band <> '35-49' HAVING count(*) > -100000",
        SameRows(BASE),
    ),
    (
        "free: counted once more",
        "SELECT count(*) AS n FROM (SELECT street, count(*) AS m FROM {s} WHERE savings > 990 GROUP BY street) x",
        SameRows("SELECT 400 AS n"),
    ),
    (
        "free: a person by number",
        "SELECT count(*) AS n FROM {s} WHERE person = 'R-000013'",
        Rule("adhoc.identifier"),
    ),
    (
        "free: a person by number among others",
        "SELECT count(*) AS n FROM {s} WHERE person = 'R-000013' OR savings > 460",
        Rule("adhoc.identifier"),
    ),
    (
        "free: a person by a pattern",
        "SELECT count(*) AS n FROM {s} WHERE person LIKE 'R-00001%'",
        Rule("adhoc.identifier"),
    ),
    (
        "free: a sample by a hash of the person",
        "SELECT count(*) AS n FROM {s} WHERE md5(person) LIKE '0%'",
        NotTaken,
    ),
    (
        "free: a sample by the length of the person",
        "SELECT count(*) AS n FROM {s} WHERE length(person) = 8 AND savings > 460",
        Rule("adhoc.identifier"),
    ),
    (
        "free: a person in a CASE",
        "SELECT count(*) AS n FROM {s} WHERE CASE WHEN person > 'R-000013' THEN savings > 1 ELSE band = '50-64' END",
        Rule("adhoc.identifier"),
    ),
    (
        "free: a person under another name",
        "SELECT count(*) AS n FROM (SELECT person AS p, savings FROM {s}) q WHERE p < 'R-000014' AND savings > 460",
        Rule("adhoc.identifier"),
    ),
    (
        "free: whoever has no number",
        "SELECT count(*) AS n FROM {s} WHERE person IS NULL",
        Rule("adhoc.identifier"),
    ),
    (
        "free: by a sub-query",
        "SELECT count(*) AS n FROM {s} WHERE savings > 460 AND street IN (SELECT ward FROM {w})",
        Denied,
    ),
    (
        "free: by a correlated sub-query",
        "SELECT count(*) AS n FROM {s} q WHERE EXISTS (SELECT 1 FROM {w} w WHERE w.ward = q.street AND q.savings > 460)",
        Denied,
    ),
    (
        "free: by a sub-query of its own",
        "SELECT count(*) AS n FROM {s} WHERE savings > (SELECT avg(savings) AS a FROM {s})",
        Denied,
    ),
    (
        "free: joined with open rows",
        "SELECT count(*) AS n FROM {s} q JOIN {w} w ON w.ward = q.street WHERE q.savings > 460",
        Denied,
    ),
    (
        "free: joined with itself",
        "SELECT count(*) AS n FROM {s} q JOIN {s} z ON z.street = q.street WHERE q.savings > z.savings",
        Denied,
    ),
    (
        "free: joined with the same people by another name",
        "SELECT count(*) AS n FROM {s} q JOIN {a} z ON z.person = q.person WHERE q.savings > 460 AND z.scheme = 'D'",
        Denied,
    ),
    (
        "free: crossed with rows that multiply",
        "SELECT count(*) AS n FROM {s} q CROSS JOIN {b} z WHERE q.savings > 460",
        Denied,
    ),
    (
        "free: united with itself",
        "SELECT count(*) AS n FROM (SELECT savings FROM {s} UNION ALL SELECT savings FROM {s}) q WHERE savings > 460",
        Denied,
    ),
    (
        "free: by lot",
        "SELECT count(*) AS n FROM {s} WHERE random() < 0.5",
        NotTaken,
    ),
    (
        "free: the largest",
        "SELECT max(savings) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: the middle",
        "SELECT median(savings) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: the spread",
        "SELECT stddev(savings) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: collected",
        "SELECT array_agg(savings) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: a total of what is computed",
        "SELECT sum(savings * 1000000) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: a total of one person's alone",
        "SELECT sum(CASE WHEN street = 'T013' THEN savings ELSE 0 END) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: a total of no measure",
        "SELECT sum(CAST(street AS INT)) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: a condition in the aggregate",
        "SELECT count(*) FILTER (WHERE street = 'T013') AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: how many values there are",
        "SELECT count(DISTINCT savings) AS n FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.cells"),
    ),
    (
        "free: which cells there are",
        "SELECT DISTINCT street FROM {s} WHERE band <> '35-49'",
        Rule("adhoc.aggregate"),
    ),
    (
        "free: which cells there are, grouped",
        "SELECT street FROM {s} WHERE band <> '35-49' GROUP BY street",
        Rule("adhoc.aggregate"),
    ),
    (
        "free: grouped by a measure",
        "SELECT savings, count(*) AS n FROM {s} WHERE band <> '35-49' GROUP BY savings",
        Denied,
    ),
    (
        "free: grouped by a person",
        "SELECT person, count(*) AS n FROM {s} WHERE band <> '35-49' GROUP BY person",
        Denied,
    ),
    (
        "free: grouped by what is computed",
        "SELECT savings > 460 AS k, count(*) AS n FROM {s} WHERE band <> '35-49' GROUP BY 1",
        Denied,
    ),
    (
        "free: grouped by what is not registered",
        "SELECT estate, count(*) AS n FROM {a} WHERE savings > 460 GROUP BY estate",
        Rule("adhoc.key"),
    ),
    (
        "free: more cells than one question may have",
        "SELECT block, letter, count(*) AS n FROM {k} WHERE owed > -8000.5 GROUP BY block, letter",
        Rule("adhoc.grid"),
    ),
    (
        "free: grouped every way at once",
        "SELECT street, band, count(*) AS n FROM {s} WHERE savings > 460 GROUP BY CUBE (street, band)",
        Rule("adhoc.cells"),
    ),
    (
        "free: of the first rows",
        "SELECT count(*) AS n FROM (SELECT * FROM {s} LIMIT 10) q WHERE savings > 460",
        Denied,
    ),
    (
        "free: of rows that are numbered",
        "SELECT count(*) AS n FROM (SELECT savings, row_number() OVER (ORDER BY savings) AS r FROM {s}) q WHERE r = 1",
        Denied,
    ),
    (
        "free: rows",
        "SELECT street, savings FROM {s} WHERE band <> '35-49'",
        Rule("cube.rows"),
    ),
    (
        "free: a name that is not there",
        "SELECT count(*) AS n FROM {s} WHERE allowance > 1",
        NotTaken,
    ),
    (
        "free: its plan, run",
        "EXPLAIN ANALYZE SELECT count(*) AS n FROM {s} WHERE savings > 777",
        Clean,
    ),
];
