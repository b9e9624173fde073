//! What a schema or a plan might tell.

use super::Line;
use super::Verdict::{Clean, Denied, NotTaken, Rule, SameAs, Unknown, Withheld};

pub(super) const METADATA: &[Line] = &[
    (
        "a plan",
        "EXPLAIN SELECT ward, count(*) FROM {c} GROUP BY ward",
        Clean,
    ),
    (
        "a plan that runs",
        "EXPLAIN ANALYZE SELECT ward, count(*) FROM {c} GROUP BY ward",
        Clean,
    ),
    (
        "a plan that runs over few",
        "EXPLAIN ANALYZE SELECT count(*) FROM {c} WHERE street = 'Hoopoe Cut'",
        SameAs("EXPLAIN ANALYZE SELECT count(*) FROM {c} WHERE street = 'Hoopoe Nil'"),
    ),
    (
        "a plan over few",
        "EXPLAIN SELECT count(*) FROM {c} WHERE street = 'Hoopoe Cut'",
        SameAs("EXPLAIN SELECT count(*) FROM {c} WHERE street = 'Hoopoe Nil'"),
    ),
    (
        "a plan's privacy",
        "EXPLAIN PRIVACY SELECT ward, count(*) FROM {c} WHERE need = 'kestrel fostering' GROUP BY ward",
        Clean,
    ),
    (
        "the privacy of what few are in",
        "EXPLAIN PRIVACY SELECT count(*) FROM {c} WHERE street = 'Hoopoe Cut'",
        SameAs("EXPLAIN PRIVACY SELECT count(*) FROM {c} WHERE street = 'Hoopoe Nil'"),
    ),
    (
        "the privacy of a hidden product",
        "EXPLAIN PRIVACY SELECT * FROM {r}",
        SameAs("EXPLAIN PRIVACY SELECT * FROM siskin.hall.quarantine_registry"),
    ),
    (
        "one's own refusals",
        "SELECT rule, instead FROM guildhall.refusals",
        Clean,
    ),
    ("one's own budgets", "SELECT * FROM guildhall.budget", Clean),
    (
        "a plan in full",
        "EXPLAIN VERBOSE SELECT ward, count(*) FROM {c} GROUP BY ward",
        NotTaken,
    ),
    (
        "a plan in another form",
        "EXPLAIN FORMAT JSON SELECT ward FROM {w}",
        NotTaken,
    ),
    (
        "a plan of what is refused",
        "EXPLAIN SELECT name FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "a plan that runs what is refused",
        "EXPLAIN ANALYZE SELECT max(weekly_cost) FROM {c}",
        Denied,
    ),
    (
        "a plan over sealed rows",
        "EXPLAIN ANALYZE SELECT count(*) FROM {b} WHERE booking = 5000001",
        SameAs("EXPLAIN ANALYZE SELECT count(*) FROM {b} WHERE booking = 5000009"),
    ),
    ("tables", "SHOW TABLES", Clean),
    ("columns", "SHOW COLUMNS FROM {c}", Clean),
    (
        "tables by the schema",
        "SELECT * FROM information_schema.tables",
        Clean,
    ),
    (
        "columns by the schema",
        "SELECT * FROM information_schema.columns",
        Clean,
    ),
    (
        "hidden tables by the schema",
        "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'quarantine%'",
        Withheld,
    ),
    (
        "hidden columns by the schema",
        "SELECT column_name FROM information_schema.columns WHERE column_name IN ('debt', 'address')",
        Withheld,
    ),
    (
        "views by the schema",
        "SELECT * FROM information_schema.views",
        Clean,
    ),
    (
        "schemas by the schema",
        "SELECT * FROM information_schema.schemata",
        Clean,
    ),
    (
        "routines by the schema",
        "SELECT * FROM information_schema.routines",
        Unknown,
    ),
    (
        "parameters by the schema",
        "SELECT * FROM information_schema.parameters",
        Unknown,
    ),
    ("settings", "SHOW ALL", Clean),
    (
        "one setting of the engine",
        "SHOW datafusion.execution.batch_size",
        NotTaken,
    ),
    ("our own settings", "SHOW guildhall", Clean),
    (
        "types of secret columns",
        "SELECT arrow_typeof(name) FROM {c}",
        Rule("cube.rows"),
    ),
    (
        "the type of a secret column, of no row",
        "SELECT arrow_typeof(vehicle) AS t FROM {p} LIMIT 1",
        Denied,
    ),
    (
        "how many rows there are",
        "SELECT count(*) AS n FROM {p}",
        Clean,
    ),
    (
        "how many are kept",
        "SELECT count(*) AS n FROM {c} WHERE ward = 'W5' AND need = 'kestrel fostering'",
        Withheld,
    ),
    ("described", "DESCRIBE {c}", Clean),
    ("created", "SHOW CREATE TABLE {c}", NotTaken),
    ("functions", "SHOW FUNCTIONS", NotTaken),
];
