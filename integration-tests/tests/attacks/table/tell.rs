//! What a refusal or an error might tell.

use super::Line;
use super::Verdict::{Awaits, Clean, Denied, NotTaken, Rule, SameAs, SameRows, Unknown};
use crate::town::Feature::{Faults, TotalRows};

pub(super) const GUESSED: &[Line] = &[
    (
        "a hidden product's rows",
        "SELECT * FROM {r}",
        SameAs("SELECT * FROM siskin.hall.quarantine_registry"),
    ),
    (
        "a hidden product's column",
        "SELECT name FROM {r} WHERE debt > 10",
        SameAs("SELECT name FROM siskin.hall.quarantine_registry WHERE debt > 10"),
    ),
    (
        "a column that a hidden product lacks",
        "SELECT nosuch FROM {r}",
        SameAs("SELECT nosuch FROM siskin.hall.quarantine_registry"),
    ),
    (
        "a hidden product counted",
        "SELECT count(*) FROM {r}",
        SameAs("SELECT count(*) FROM siskin.hall.quarantine_registry"),
    ),
    (
        "a hidden product in a sub-query",
        "SELECT ward FROM {w} WHERE ward IN (SELECT name FROM {r})",
        SameAs(
            "SELECT ward FROM {w} WHERE ward IN (SELECT name FROM siskin.hall.quarantine_registry)",
        ),
    ),
    (
        "a hidden product joined",
        "SELECT w.ward FROM {w} w JOIN {r} r ON r.name = w.ward",
        SameAs(
            "SELECT w.ward FROM {w} w JOIN siskin.hall.quarantine_registry r ON r.name = w.ward",
        ),
    ),
    (
        "a hidden product in a WITH that is not used",
        "WITH x AS (SELECT * FROM {r}) SELECT ward FROM {w}",
        SameAs("WITH x AS (SELECT * FROM siskin.hall.quarantine_registry) SELECT ward FROM {w}"),
    ),
    (
        "a hidden product under WHERE false",
        "SELECT * FROM {r} WHERE false",
        SameAs("SELECT * FROM siskin.hall.quarantine_registry WHERE false"),
    ),
    (
        "a hidden product described",
        "SHOW COLUMNS FROM {r}",
        SameAs("SHOW COLUMNS FROM siskin.hall.quarantine_registry"),
    ),
    (
        "a hidden product explained",
        "EXPLAIN SELECT * FROM {r}",
        SameAs("EXPLAIN SELECT * FROM siskin.hall.quarantine_registry"),
    ),
    (
        "a hidden product, of its department",
        "SELECT count(*) FROM hall.quarantine_register",
        SameAs("SELECT count(*) FROM hall.quarantine_registry"),
    ),
    (
        "a hidden product by its bare name",
        "SELECT count(*) FROM quarantine_register",
        SameAs("SELECT count(*) FROM quarantine_registry"),
    ),
    (
        "a hidden product in capitals",
        "SELECT count(*) FROM SISKIN.HALL.QUARANTINE_REGISTER",
        Unknown,
    ),
    (
        "a hidden product in every council",
        "SELECT count(*) FROM city.hall.quarantine_register",
        SameAs("SELECT count(*) FROM city.hall.quarantine_registry"),
    ),
    (
        "the dataset behind a product",
        "SELECT * FROM siskin.hall.register",
        Unknown,
    ),
    (
        "the dataset of residents",
        "SELECT * FROM siskin.care.residents",
        SameAs("SELECT * FROM siskin.care.residence"),
    ),
    (
        "a dataset by the node's own name",
        "SELECT * FROM node.datasets.cases",
        Unknown,
    ),
    (
        "a dataset by its bare name",
        "SELECT * FROM residents",
        Unknown,
    ),
    ("a manifest", "SELECT * FROM siskin.care.manifest", Unknown),
    ("the node's log", "SELECT * FROM siskin.care.audit", Unknown),
    (
        "the system's tables",
        "SELECT * FROM sqlite_master",
        Unknown,
    ),
    (
        "tables of another system",
        "SELECT * FROM pg_catalog.pg_tables",
        Unknown,
    ),
    (
        "settings of the engine",
        "SELECT * FROM information_schema.df_settings",
        Unknown,
    ),
    (
        "a file in place of a table",
        "SELECT * FROM 'cases.parquet'",
        NotTaken,
    ),
    (
        "a private list by a scalar sub-query",
        "SELECT ward FROM {w} WHERE population > (SELECT max(weekly_cost) FROM {c})",
        Rule("cube.aggregate"),
    ),
    (
        "a correlated count",
        "SELECT w.ward, (SELECT count(*) FROM {c} c WHERE c.ward = w.ward) AS n FROM {w} w",
        Clean,
    ),
    (
        "a correlated existence",
        "SELECT w.ward FROM {w} w WHERE EXISTS (SELECT 1 FROM {c} c WHERE c.ward = w.ward AND c.name = 'Zebedee Quillfeather')",
        Denied,
    ),
    (
        "a private list in IN",
        "SELECT ward FROM {w} WHERE ward IN (SELECT ward FROM {c} WHERE street = 'Hoopoe Cut')",
        Denied,
    ),
    (
        "a private list in NOT IN",
        "SELECT ward FROM {w} WHERE ward NOT IN (SELECT ward FROM {c})",
        Denied,
    ),
    (
        "any of a private list",
        "SELECT ward FROM {w} WHERE population > ANY (SELECT hours FROM {c})",
        NotTaken,
    ),
    (
        "a short-circuit as an oracle",
        "SELECT CASE WHEN (SELECT count(*) FROM {c} WHERE name = 'Zebedee Quillfeather') > 0 THEN 1 ELSE 1 / 0 END AS x",
        Rule("cube.identifier"),
    ),
    (
        "a sealed row by its number",
        "SELECT count(*) FROM {b} WHERE booking = 5000001",
        SameAs("SELECT count(*) FROM {b} WHERE booking = 5000009"),
    ),
    (
        "a masked number guessed",
        "SELECT booking FROM {b} WHERE phone = '07700 900719'",
        SameAs("SELECT booking FROM {b} WHERE phone = '07700 900710'"),
    ),
    (
        "a sealed state guessed",
        "SELECT count(*) AS n FROM {b} WHERE state = 'sealed'",
        SameAs("SELECT count(*) AS n FROM {b} WHERE state = 'staled'"),
    ),
    (
        "a secret guessed in an open product",
        "SELECT permit FROM {p} WHERE vehicle = 'CNRY 5IN6'",
        Denied,
    ),
    (
        "a secret number guessed in an open product",
        "SELECT count(*) FROM {p} WHERE pin = 76543219",
        Denied,
    ),
    (
        "a secret joined in an open product",
        "SELECT p.permit FROM {p} p JOIN (VALUES ('CNRY 5IN6')) v(x) ON p.vehicle = v.x",
        Denied,
    ),
    (
        "an identifier guessed in an open product",
        "SELECT permit FROM {p} WHERE holder = 'Leonora Shearwater'",
        Denied,
    ),
];

pub(super) const ERRORS: &[Line] = &[
    (
        "a cast that tells",
        "SELECT CAST(name AS INT) FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "a cast that tells, added",
        "SELECT sum(CAST(note AS INT)) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "a division that tells",
        "SELECT sum(1 / (weekly_cost - 11937.43)) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "a division that tells, in a filter",
        "SELECT count(*) FROM {c} WHERE 1 / (hours - 98765431) = 0",
        Denied,
    ),
    (
        "a root that tells",
        "SELECT avg(sqrt(balance)) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "an overflow that tells",
        "SELECT sum(hours * 9223372036854775807) FROM {c}",
        Rule("cube.expression"),
    ),
    (
        "a date that tells",
        "SELECT count(*) FROM {c} WHERE to_date(note) = DATE '2025-01-01'",
        Denied,
    ),
    (
        "a pattern that tells",
        "SELECT count(*) FROM {c} WHERE regexp_like(name, '(')",
        Awaits(Faults, &NotTaken),
    ),
    (
        "a cast of a dimension that fails",
        "SELECT count(*) FROM {c} WHERE CAST(street AS INT) = 1",
        Denied,
    ),
    (
        "a unit that is none",
        "SELECT date_trunc('Zebedee Quillfeather', opened), count(*) FROM {c} GROUP BY 1",
        Denied,
    ),
    (
        "a division by a cell that is withheld",
        "SELECT 1 / count(*) AS x FROM {c} WHERE street = 'Hoopoe Cut'",
        SameAs("SELECT 1 / count(*) AS x FROM {c} WHERE street = 'Hoopoe Nil'"),
    ),
    (
        "a sealed row that divides by zero",
        "SELECT count(*) AS n FROM {b} WHERE 1000 / (amount - 87654329) = 0",
        Awaits(
            TotalRows,
            &SameAs("SELECT count(*) AS n FROM {b} WHERE 1000 / (amount - 87654328) = 0"),
        ),
    ),
    (
        "a sealed row that divides by zero, behind a condition",
        "SELECT booking FROM {b} WHERE booking < 0 AND 7 % (amount - 87654329) = 0",
        Awaits(
            TotalRows,
            &SameAs("SELECT booking FROM {b} WHERE booking < 0 AND 7 % (amount - 87654328) = 0"),
        ),
    ),
    (
        "a sealed row that is too large for a type",
        "SELECT count(*) AS n FROM {b} WHERE CAST(amount AS SMALLINT) = 25",
        Awaits(
            TotalRows,
            &SameRows("SELECT count(*) AS n FROM {b} WHERE CAST(amount AS INT) = 25"),
        ),
    ),
    (
        "a sealed row that overflows",
        "SELECT count(*) AS n FROM {b} WHERE amount * 105226698753 > 0",
        Awaits(
            TotalRows,
            &SameRows("SELECT count(*) AS n FROM {b} WHERE amount > 0"),
        ),
    ),
    (
        "a sealed row in a join's condition",
        "SELECT count(*) AS n FROM {w} w JOIN {b} b ON w.ward = b.ward AND 1000 / (b.amount - 87654329) = 0",
        Awaits(
            TotalRows,
            &SameAs(
                "SELECT count(*) AS n FROM {w} w JOIN {b} b ON w.ward = b.ward AND 1000 / (b.amount - 87654328) = 0",
            ),
        ),
    ),
    (
        "a sealed row in an aggregate's condition",
        "SELECT count(*) FILTER (WHERE 1000 / (amount - 87654329) = 0) AS n FROM {b}",
        SameAs("SELECT count(*) FILTER (WHERE 1000 / (amount - 87654328) = 0) AS n FROM {b}"),
    ),
    (
        "a sealed row that divides by zero in a column",
        "SELECT booking, 1 / (amount - 87654329) AS x FROM {b} WHERE booking > 1190 ORDER BY booking",
        SameAs(
            "SELECT booking, 1 / (amount - 87654328) AS x FROM {b} WHERE booking > 1190 ORDER BY booking",
        ),
    ),
    (
        "a sealed row that cannot be cast",
        "SELECT count(*) AS n FROM {b} WHERE CAST(state || booking AS INT) = 1",
        Denied,
    ),
    (
        "a masked number that cannot be cast",
        "SELECT sum(CAST(phone AS INT)) AS x FROM {b} WHERE booking = 77",
        SameAs("SELECT sum(CAST(phone AS INT)) AS x FROM {b} WHERE booking = 78"),
    ),
    (
        "a literal in a wrong statement",
        "SELECT nosuch FROM {c} WHERE name = 'Zebedee Quillfeather'",
        NotTaken,
    ),
    (
        "a literal where the grammar breaks",
        "SELECT 1 FROM {c} WHERE name = 'Zebedee Quillfeather' GRUOP BY",
        NotTaken,
    ),
    (
        "a literal left open",
        "SELECT count(*) FROM {c} WHERE name = 'Zebedee Quillfeather",
        NotTaken,
    ),
    (
        "a literal of a wrong type",
        "SELECT count(*) FROM {c} WHERE opened = 'Zebedee Quillfeather'",
        Awaits(Faults, &NotTaken),
    ),
    (
        "a literal as an interval",
        "SELECT ward + INTERVAL 'Zebedee Quillfeather' FROM {w}",
        NotTaken,
    ),
    (
        "a number as a limit",
        "SELECT ward FROM {w} LIMIT -98765431",
        NotTaken,
    ),
    (
        "a column that is ambiguous",
        "SELECT ward FROM {w} a JOIN {b} b ON a.ward = b.ward WHERE b.phone = '07700 900118'",
        NotTaken,
    ),
    (
        "a function that is none",
        "SELECT zebedee_quillfeather('Zebedee Quillfeather') FROM {c}",
        NotTaken,
    ),
];
