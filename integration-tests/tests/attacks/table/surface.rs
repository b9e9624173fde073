//! Statements of other kinds, and of other systems.

use super::Line;
use super::Verdict::{Clean, Denied, NotTaken, Rule, Unknown};

pub(super) const SURFACE: &[Line] = &[
    (
        "a table created from people",
        "CREATE TABLE t AS SELECT * FROM {c}",
        NotTaken,
    ),
    (
        "a view of people",
        "CREATE VIEW v AS SELECT name FROM {c}",
        NotTaken,
    ),
    (
        "a function",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        NotTaken,
    ),
    (
        "a file written",
        "COPY (SELECT * FROM {c}) TO '/tmp/canary.csv'",
        NotTaken,
    ),
    (
        "a table copied to a file",
        "COPY {c} TO '/tmp/canary.parquet' STORED AS PARQUET",
        NotTaken,
    ),
    (
        "a file as a table",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        NotTaken,
    ),
    (
        "rows into a file",
        "SELECT * INTO OUTFILE '/tmp/canary' FROM {c}",
        NotTaken,
    ),
    ("rows into a table", "SELECT * INTO t FROM {c}", NotTaken),
    ("a deletion", "DELETE FROM {c}", NotTaken),
    (
        "a deletion that returns",
        "WITH d AS (DELETE FROM {c} RETURNING *) SELECT * FROM d",
        NotTaken,
    ),
    ("an update", "UPDATE {b} SET state = 'open'", NotTaken),
    (
        "an insertion",
        "INSERT INTO {b} SELECT * FROM {b}",
        NotTaken,
    ),
    (
        "a merge",
        "MERGE INTO {b} t USING {b} s ON t.booking = s.booking WHEN MATCHED THEN DELETE",
        NotTaken,
    ),
    ("a drop", "DROP TABLE {c}", NotTaken),
    (
        "an alteration",
        "ALTER TABLE {c} ADD COLUMN x INT",
        NotTaken,
    ),
    ("a permission", "GRANT SELECT ON {r} TO mallory", NotTaken),
    ("a transaction", "BEGIN", NotTaken),
    (
        "a statement prepared in SQL",
        "PREPARE p AS SELECT * FROM {c}",
        NotTaken,
    ),
    (
        "a cursor",
        "DECLARE x CURSOR FOR SELECT name FROM {c}",
        NotTaken,
    ),
    ("a call", "CALL f()", NotTaken),
    (
        "code",
        "EXECUTE IMMEDIATE 'SELECT name FROM siskin.care.cases'",
        NotTaken,
    ),
    (
        "a setting of the engine",
        "SET datafusion.execution.target_partitions = 1",
        NotTaken,
    ),
    (
        "a setting that does not exist",
        "SET guildhall.minimum_group = 1",
        NotTaken,
    ),
    (
        "a purpose that is not held",
        "SET guildhall.purpose = 'fraud_prevention'",
        Denied,
    ),
    ("two statements", "SELECT 1; SELECT name FROM {c}", NotTaken),
    (
        "a second statement after a comment",
        "SELECT 1; -- x\nSELECT name FROM {c}",
        NotTaken,
    ),
    (
        "comments in place of space",
        "SELECT/**/name/**/FROM/**/{c}",
        Rule("cube.rows"),
    ),
    (
        "a comment that other systems run",
        "SELECT ward /*! , name */ FROM {w}",
        Clean,
    ),
    (
        "quoted names",
        "SELECT \"name\" FROM \"siskin\".\"care\".\"cases\"",
        Rule("cube.rows"),
    ),
    (
        "names in capitals",
        "SELECT NAME FROM SISKIN.CARE.CASES",
        Rule("cube.rows"),
    ),
    ("wide letters", "ＳＥＬＥＣＴ name FROM {c}", NotTaken),
    (
        "a letter that looks alike",
        "SELECT count(*) FROM siskin.care.c\u{0430}ses",
        Unknown,
    ),
    ("a zero byte", "SELECT name FROM {c}\0", NotTaken),
    ("FROM alone", "FROM {c}", NotTaken),
    ("TABLE alone", "TABLE {c}", NotTaken),
    (
        "all but a column",
        "SELECT * EXCLUDE (ward) FROM {c}",
        Denied,
    ),
    (
        "a column put in another's place",
        "SELECT * REPLACE (name AS ward) FROM {c}",
        Denied,
    ),
    (
        "a recursion",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        NotTaken,
    ),
    ("a pipe", "FROM {c} |> SELECT name", NotTaken),
    (
        "a pivot",
        "SELECT * FROM {c} PIVOT (count(person) FOR ward IN ('W1', 'W5'))",
        NotTaken,
    ),
    (
        "a match of rows",
        "SELECT * FROM {c} MATCH_RECOGNIZE (PATTERN (a) DEFINE a AS true)",
        NotTaken,
    ),
    (
        "a time in the past",
        "SELECT count(*) FROM {b} FOR SYSTEM_TIME AS OF '2020-01-01'",
        NotTaken,
    ),
    ("a lock", "SELECT ward FROM {w} FOR UPDATE", NotTaken),
    (
        "a table function",
        "SELECT * FROM read_parquet('siskin/care/cases.parquet')",
        NotTaken,
    ),
    (
        "metadata of a file",
        "SELECT * FROM parquet_metadata('cases.parquet')",
        NotTaken,
    ),
    (
        "a file by a function",
        "SELECT pg_read_file('/etc/passwd')",
        NotTaken,
    ),
    ("the version", "SELECT version()", NotTaken),
    ("who one is to the engine", "SELECT current_user", NotTaken),
    ("a variable", "SELECT @@version", NotTaken),
    ("an extension", "LOAD 'x'", NotTaken),
    ("a nested value", "SELECT [name] FROM {c}", NotTaken),
    ("a struct", "SELECT struct(name, note) FROM {c}", NotTaken),
    ("a map", "SELECT MAP {'a': 1}", NotTaken),
    (
        "a lambda",
        "SELECT array_transform([1], x -> x + 1)",
        NotTaken,
    ),
    (
        "a collation",
        "SELECT ward FROM {w} ORDER BY ward COLLATE \"C\"",
        NotTaken,
    ),
    (
        "columns by pattern",
        "SELECT COLUMNS('n.*') FROM {c}",
        NotTaken,
    ),
    (
        "a lateral view",
        "SELECT * FROM {w} LATERAL VIEW explode(x) t AS y",
        NotTaken,
    ),
    (
        "a hint",
        "SELECT /*+ NO_FILTER */ booking FROM {b} WHERE amount > 1000000",
        Clean,
    ),
    ("a format", "SELECT ward FROM {w} FORMAT CSV", NotTaken),
    (
        "a result for XML",
        "SELECT ward FROM {w} FOR XML AUTO",
        NotTaken,
    ),
    (
        "a function that is not listed, by signs alone",
        "SELECT (1, 2) = (1, 2) AS x",
        NotTaken,
    ),
    (
        "a text padded beyond all bounds",
        "SELECT lpad(ward, 5000, 'x') AS p FROM {w}",
        NotTaken,
    ),
];
