use super::*;
use std::time::Duration;

fn ok(sql: &str) -> GuardedStatement {
    guard(sql, &StatementLimits::default()).unwrap_or_else(|e| panic!("{e}: {sql}"))
}

fn refused(sql: &str) -> StatementError {
    match guard(sql, &StatementLimits::default()) {
        Err(e) => e,
        Ok(_) => panic!("taken: {}", &sql[..sql.len().min(120)]),
    }
}

/// The least of a few runs, so that a busy machine does not decide.
fn time_to_refuse(sql: &str) -> Duration {
    (0..5)
        .map(|_| {
            let started = std::time::Instant::now();
            refused(sql);
            started.elapsed()
        })
        .min()
        .unwrap_or_default()
}

#[test]
fn queries_are_taken() {
    for sql in [
        "SELECT 1",
        "SELECT ward, count(*) FROM northmoor.parking.sessions GROUP BY ward HAVING count(*) > 3 ORDER BY 2 DESC LIMIT 5",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a JOIN city.parking.occupancy o ON a.x = o.x",
        "SELECT avg(x) FILTER (WHERE y BETWEEN 1 AND 2), lag(sum(x), 7) OVER (PARTITION BY z ORDER BY d) FROM t GROUP BY z, d",
        "SELECT extract(hour FROM ts), date_bin(INTERVAL '15 minutes', ts), CAST(a AS DOUBLE), a::int FROM t WHERE b = $1 AND c = ?",
        "SELECT \"LSOA code\" FROM t GROUP BY GROUPING SETS ((a, b), (a), ())",
        "SELECT * FROM t WHERE x IN (SELECT y FROM u) AND EXISTS (SELECT 1 FROM v WHERE v.a = t.a)",
        "SELECT approx_percentile_cont(x, 0.95), corr(a, b), arrow_cast(c, 'Duration(Second)'), now() FROM t;",
        "SELECT a FROM t UNION ALL SELECT b FROM u EXCEPT SELECT c FROM v",
        "VALUES (1, 'a'), (2, 'b')",
        "SHOW TABLES",
        "SHOW COLUMNS FROM northmoor.parking.sessions",
    ] {
        assert!(matches!(ok(sql), GuardedStatement::Query(_)), "{sql}");
    }
}

#[test]
fn explain_names_its_query() {
    let GuardedStatement::Explain {
        analyze: false,
        statement,
    } = ok("EXPLAIN SELECT 1")
    else {
        panic!("not an EXPLAIN");
    };
    assert!(matches!(*statement, Statement::Query(_)));
    assert!(matches!(
        ok("EXPLAIN ANALYZE SELECT 1"),
        GuardedStatement::Explain { analyze: true, .. }
    ));
    refused("EXPLAIN DELETE FROM t");
    refused("EXPLAIN VERBOSE SELECT 1");
    refused("EXPLAIN EXPLAIN SELECT 1");
}

#[test]
fn only_settings_of_our_own_are_set_and_shown() {
    let set = |name: &str, value: &str| GuardedStatement::Set {
        name: name.into(),
        value: value.into(),
    };
    assert_eq!(
        ok("SET guildhall.purpose = 'transport_planning'"),
        set("purpose", "transport_planning")
    );
    assert_eq!(
        ok("set GUILDHALL.Cell_Status = on"),
        set("cell_status", "on")
    );
    assert_eq!(ok("SET guildhall.partial TO true"), set("partial", "true"));
    assert_eq!(
        ok("SHOW guildhall.purpose"),
        GuardedStatement::Show {
            name: "purpose".into()
        }
    );
    for sql in [
        "SET datafusion.execution.batch_size = 1",
        "SET datafusion.catalog.location = '/etc'",
        "SET TIME ZONE 'UTC'",
        "SET ROLE admin",
        "SET guildhall.purpose = (SELECT 1)",
        "SET guildhall.a.b = 1",
        "SHOW datafusion.execution.batch_size",
        "SHOW TIME ZONE",
    ] {
        assert!(
            matches!(refused(sql), StatementError::NotOffered { .. }),
            "{sql}"
        );
    }
}

#[test]
fn what_is_no_query_is_refused() {
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "COPY t TO '/tmp/out.csv'",
        "COPY (SELECT 1) TO 'x.parquet'",
        "TRUNCATE TABLE t",
        "ALTER TABLE t ADD COLUMN a INT",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DESCRIBE t",
        "WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a",
        "SELECT * INTO t FROM u",
        "SELECT * FROM t FOR UPDATE",
        "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a",
        "SELECT 1; SELECT 2",
        "",
        "  -- nothing",
    ] {
        refused(sql);
    }
}

#[test]
fn files_and_table_functions_are_refused() {
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'data.csv'",
        "SELECT * FROM \"/data/x.parquet\"",
        "SELECT * FROM \"s3://bucket/x.parquet\"",
        "SELECT * FROM generate_series(1, 1000000000)",
        "SELECT * FROM range(10)",
        "SELECT * FROM TABLE(f(1))",
        "SELECT * FROM read_csv('x')",
        "SELECT * FROM UNNEST([1, 2])",
        "SELECT * FROM t TABLESAMPLE (10 PERCENT)",
        "SELECT * FROM LATERAL (SELECT 1) x",
        "SELECT * FROM a.b.c.d",
    ] {
        assert!(
            matches!(
                refused(sql),
                StatementError::NotOffered { .. } | StatementError::Syntax { .. }
            ),
            "{sql}"
        );
    }
}

#[test]
fn unlisted_functions_and_expressions_are_refused() {
    for sql in [
        "SELECT random()",
        "SELECT uuid()",
        "SELECT version()",
        "SELECT repeat('a', 1000000000)",
        "SELECT pg_sleep(10)",
        "SELECT other.count(1)",
        "SELECT @@version",
        "SELECT [1, 2, 3]",
        "SELECT {'a': 1}",
        "SELECT a.b[1] FROM a",
        "SELECT 1 = ANY (SELECT 2)",
    ] {
        refused(sql);
    }
}

#[test]
fn a_chain_of_20_000_operators_is_refused_at_once() {
    let sql = format!("SELECT {}1", "1+".repeat(20_000));
    assert!(matches!(
        refused(&sql),
        StatementError::TooMany {
            what: "operators",
            ..
        }
    ));
    assert!(time_to_refuse(&sql) < Duration::from_millis(2));
}

#[test]
fn chains_by_words_count_too() {
    for link in [" AND a", " OR a", " LIKE a", " IS NOT NULL", " NOT IN (1)"] {
        let sql = format!("SELECT a{}", link.repeat(2_000));
        assert!(
            matches!(refused(&sql), StatementError::TooMany { .. }),
            "{link}"
        );
    }
    let sql = format!("SELECT {} a", "NOT ".repeat(5_000));
    assert!(matches!(
        refused(&sql),
        StatementError::TooMany {
            what: "operators",
            ..
        }
    ));
}

#[test]
fn five_thousand_unions_are_refused_at_once() {
    let sql = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(5_000));
    assert!(matches!(refused(&sql), StatementError::TooMany { .. }));
    assert!(time_to_refuse(&sql) < Duration::from_millis(2));
}

#[test]
fn deep_nesting_is_refused_before_parsing() {
    let deep =
        |open: &str, close: &str| format!("SELECT {}1{}", open.repeat(5_000), close.repeat(5_000));
    for sql in [
        deep("(", ")"),
        deep("[", "]"),
        deep("CASE WHEN ", " END"),
        deep("abs(", ")"),
        format!("SELECT * FROM {}t", "(SELECT * FROM ".repeat(3_000)),
    ] {
        assert!(
            matches!(
                refused(&sql),
                StatementError::TooDeep { .. } | StatementError::TooMany { .. }
            ),
            "{}",
            &sql[..40]
        );
    }
}

#[test]
fn a_megabyte_is_refused_unread() {
    let sql = format!("SELECT '{}'", "x".repeat(1 << 20));
    assert!(matches!(refused(&sql), StatementError::TooLong { .. }));
    assert!(time_to_refuse(&sql) < Duration::from_millis(1));
}

#[test]
fn quotes_and_comments_hide_nothing_from_the_count() {
    let chain = "1+".repeat(3_000);
    for sql in [
        // The scanner and the tokenizer may disagree about these; the tokens decide.
        format!("SELECT E'\\'', {chain}1, ''"),
        format!("SELECT $q$'$q$, {chain}1, $q$'$q$"),
        format!("/* /* */ ' */ SELECT {chain}1 -- '"),
        format!("SELECT N'a', {chain}1"),
    ] {
        refused(&sql);
    }
    let long_text = format!("SELECT '{}'", "+-(".repeat(5_000));
    ok(&long_text);
}

#[test]
fn within_the_caps_nothing_overflows_the_stack() {
    // As deep as it goes, on a small stack.
    let limits = StatementLimits::default();
    let deep = format!(
        "SELECT {}1{}",
        "(".repeat(limits.max_depth),
        ")".repeat(limits.max_depth)
    );
    let wide = format!("SELECT {}1", "1+".repeat(limits.max_operators - 1));
    let nots = format!("SELECT {} a", "NOT ".repeat(limits.max_operators - 1));
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            for sql in [deep, wide, nots] {
                let _ = guard(&sql, &limits);
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_syntax_error_says_where_but_not_which_literal() {
    let e = refused("SELECT a FROM t WHERE name = 'Mary Smith' 'Jones'").to_string();
    assert!(!e.contains("Mary") && !e.contains("Jones"), "{e}");
    let e = refused("SELEC a").to_string();
    assert!(e.contains("line 1"), "{e}");
    let e = refused("SELECT a FROM t WHERE n = 07400123456x 'y").to_string();
    assert!(!e.contains("07400"), "{e}");
}

#[test]
fn order_by_a_number_stands_for_the_expression() {
    let text = |sql: &str| match ok(sql) {
        GuardedStatement::Query(statement) => statement.to_string(),
        other => panic!("{other:?}"),
    };
    for (sql, order) in [
        (
            "SELECT s, sum(f) / 100 FROM t GROUP BY 1 ORDER BY 2 DESC, 1",
            "ORDER BY sum(f) / 100 DESC, 1",
        ),
        (
            "SELECT * FROM (SELECT sum(f) FROM t ORDER BY 1) x",
            "ORDER BY sum(f)) x",
        ),
        (
            "SELECT s, sum(f) AS n FROM t GROUP BY 1 ORDER BY 2",
            "ORDER BY 2",
        ),
        ("SELECT *, a + 1 FROM t ORDER BY 2", "ORDER BY 2"),
        ("SELECT a, 7 FROM t ORDER BY 2", "ORDER BY 2"),
        ("SELECT a FROM t ORDER BY 9", "ORDER BY 9"),
    ] {
        assert!(text(sql).ends_with(order), "{}", text(sql));
    }
}

/// A chain of `WITH` queries, each of which names the one before it twice.
fn doubling(n: usize, between: &str) -> String {
    let step = |i: usize| {
        format!(
            ", a{i} AS (SELECT l.x FROM a{p} l {between} a{p} r)",
            p = i - 1
        )
    };
    let steps: String = (1..n).map(step).collect();
    format!("WITH a0 AS (SELECT 1 AS x){steps} SELECT x FROM a{}", n - 1)
}

#[test]
fn a_query_of_a_with_counts_as_often_as_it_is_used() {
    for between in [",", "CROSS JOIN"] {
        ok(&doubling(5, between));
        for n in [9, 20, 30] {
            let refused = refused(&doubling(n, between));
            assert!(
                matches!(refused, StatementError::TooMany { limit: 256, .. }),
                "{n}: {refused}"
            );
        }
    }
    let unions = "WITH a AS (SELECT 1 AS x UNION ALL SELECT 2), b AS (SELECT * FROM a UNION ALL SELECT * FROM a) SELECT * FROM b";
    ok(unions);
}

#[test]
fn a_light_query_of_the_same_name_does_not_hide_a_heavy_one() {
    let heavy = doubling(7, ",");
    let (with, select) = heavy.rsplit_once(" SELECT ").unwrap_or_default();
    let sql = format!(
        "{with}, b AS (SELECT 1 FROM a6 l, a6 r), c AS (WITH a6 AS (SELECT 1) SELECT 1 FROM a6), d AS (SELECT 1 FROM A6 l, a6 r) SELECT {select}"
    );
    assert!(matches!(
        refused(&sql),
        StatementError::TooMany { limit: 256, .. }
    ));
}

#[test]
fn tables_between_commas_are_joins() {
    let tables = |n: usize| {
        (0..n)
            .map(|i| format!("t a{i}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    ok(&format!("SELECT 1 FROM {}", tables(33)));
    for sql in [
        format!("SELECT 1 FROM {}", tables(34)),
        format!(
            "SELECT 1 FROM ({0}) x, (SELECT 1 FROM {1}) y",
            "SELECT 1",
            tables(34)
        ),
    ] {
        assert!(matches!(
            refused(&sql),
            StatementError::TooMany { what: "joins", .. }
        ));
    }
}

#[test]
fn grouping_sets_are_counted_in_combination() {
    ok("SELECT 1 FROM t GROUP BY CUBE (a, b, c, d, e, f)");
    ok("SELECT 1 FROM t GROUP BY ROLLUP (a, b, c), d, GROUPING SETS ((e), (f), ())");
    for keys in [
        "CUBE (a, b, c, d, e, f, g)",
        "CUBE (a, b, c, d), CUBE (e, f, g)",
        "ROLLUP (a, b, c, d, e, f, g), CUBE (a, b, c, d)",
    ] {
        let refused = refused(&format!("SELECT 1 FROM t GROUP BY {keys}"));
        assert!(
            matches!(
                refused,
                StatementError::TooMany {
                    what: "grouping sets",
                    ..
                }
            ),
            "{keys}: {refused}"
        );
    }
}

#[test]
fn explain_privacy_is_known_by_its_words_whatever_is_between_them() {
    for sql in [
        "EXPLAIN PRIVACY SELECT 1",
        "explain privacy select 1;",
        "/* of */ Explain -- what it tells\n\tPrIvAcY /* privacy */ SELECT 1",
        "EXPLAIN PRIVACY WITH a AS (SELECT 1 AS n) SELECT n FROM a",
    ] {
        let guarded = guard(sql, &StatementLimits::default()).expect(sql);
        assert!(
            matches!(guarded, GuardedStatement::ExplainPrivacy { .. }),
            "{sql}: {guarded:?}"
        );
    }
}

#[test]
fn nothing_else_is_taken_for_explain_privacy() {
    let limits = StatementLimits::default();
    for sql in [
        "EXPLAIN SELECT privacy FROM a",
        "EXPLAIN SELECT 1 AS privacy",
        "SELECT 'EXPLAIN PRIVACY SELECT 1'",
        "SELECT privacy FROM explain",
    ] {
        let guarded = guard(sql, &limits).expect(sql);
        assert!(
            !matches!(guarded, GuardedStatement::ExplainPrivacy { .. }),
            "{sql}"
        );
    }
    for sql in [
        "EXPLAIN PRIVACY",
        "EXPLAIN PRIVACY;",
        "EXPLAIN \"PRIVACY\" SELECT 1",
        "EXPLAIN PRIVACY PRIVACY SELECT 1",
        "EXPLAIN PRIVACY EXPLAIN SELECT 1",
        "EXPLAIN PRIVACY ANALYZE SELECT 1",
        "EXPLAIN PRIVACY VERBOSE SELECT 1",
        "EXPLAIN PRIVACY SELECT 1; SELECT 2",
        "EXPLAIN PRIVACY DROP TABLE a",
        "EXPLAIN PRIVACY SET guildhall.purpose = 'a'",
        "EXPLAIN PRIVACY privacy",
        "DESCRIBE PRIVACY SELECT 1",
        "PRIVACY SELECT 1",
    ] {
        assert!(guard(sql, &limits).is_err(), "{sql}");
    }
}
