//! A gateway that lies gets nothing.

use crate::testing::{GATEWAY, TestNode, refused};
use datafusion::logical_expr::LogicalPlan;
use guildhall_model::OutputClass::{self, OpenRows, ReleasedCells};
use guildhall_model::ReleaseClass;
use guildhall_plan::profile;
use tonic::{Code, Status};

const CELLS: &str = "SELECT ward, count(*) AS n FROM northmoor.parking.sessions GROUP BY ward";
const ROWS: &str = "SELECT ward FROM northmoor.parking.places";

/// Sends `sql` as planned, whatever it asks, under a grant for all that it reads.
async fn force(node: &TestNode, sql: &str, output: OutputClass) -> Result<String, Status> {
    let state = node.gateway();
    let plan: LogicalPlan = state.optimize(&node.plan(sql).await).unwrap();
    let fragment = profile::encode(&plan, &state).unwrap();
    node.send(&node.grant(&fragment, output), &fragment)
        .await
        .map(|b| crate::testing::table(&b))
}

async fn assert_refused(node: &TestNode, sql: &str, output: OutputClass) {
    let (code, text) = refused(force(node, sql, output).await);
    assert!(
        matches!(code, Code::PermissionDenied | Code::InvalidArgument),
        "{sql}: {code} {text}"
    );
    assert!(
        node.authority.columns_asked().is_empty(),
        "{sql}: keys were asked for"
    );
}

#[tokio::test]
async fn rows_of_a_product_of_cells_never_leave() {
    let node = TestNode::parking().await;
    for output in [OpenRows, ReleasedCells] {
        for sql in [
            "SELECT ward FROM northmoor.parking.sessions",
            "SELECT * FROM northmoor.parking.sessions",
            "SELECT vehicle, count(*) FROM northmoor.parking.sessions GROUP BY vehicle",
            "SELECT ward, max(paid_pence) FROM northmoor.parking.sessions GROUP BY ward",
            "SELECT ward, count(*) FROM northmoor.parking.sessions WHERE vehicle = 'K0' GROUP BY ward",
            "SELECT ward, count(*) FROM northmoor.parking.sessions WHERE paid_pence > 4000 GROUP BY ward",
            "SELECT ward, array_agg(started) FROM northmoor.parking.sessions GROUP BY ward",
            "SELECT ward, n FROM (SELECT ward, count(*) AS n FROM northmoor.parking.sessions GROUP BY ward) WHERE n < 10",
            "SELECT row_number() OVER (ORDER BY started) FROM northmoor.parking.sessions",
        ] {
            assert_refused(&node, sql, output).await;
        }
    }
}

#[tokio::test]
async fn a_product_of_cells_is_joined_with_nothing() {
    let node = TestNode::parking().await;
    for sql in [
        "SELECT p.ward, count(*) FROM northmoor.parking.sessions s JOIN northmoor.parking.places p ON s.ward = p.ward GROUP BY p.ward",
        "SELECT ward FROM northmoor.parking.places WHERE ward IN (SELECT ward FROM northmoor.parking.sessions)",
        "SELECT ward FROM northmoor.parking.places UNION ALL SELECT ward FROM northmoor.parking.sessions",
    ] {
        for output in [OpenRows, ReleasedCells] {
            assert_refused(&node, sql, output).await;
            // Whatever the lanes would say of it.
            let (_, text) = refused(force(&node, sql, output).await);
            let alone = "a question to `northmoor.parking.sessions` reads no other product";
            assert_eq!(text, alone, "{sql}");
        }
    }
}

#[tokio::test]
async fn cells_under_a_grant_for_rows_and_rows_under_one_for_cells_stay() {
    let node = TestNode::parking().await;
    for (sql, output) in [(CELLS, OpenRows), (ROWS, ReleasedCells)] {
        let fragment = node.fragment(sql).await;
        let (code, text) = refused(node.send(&node.grant(&fragment, output), &fragment).await);
        assert_eq!(code, Code::PermissionDenied, "{text}");
    }
}

#[tokio::test]
async fn an_altered_fragment_is_refused() {
    let node = TestNode::parking().await;
    let honest = node.fragment(ROWS).await;
    let other = node
        .fragment("SELECT spaces FROM northmoor.parking.places")
        .await;
    let (code, text) = refused(node.send(&node.grant(&honest, OpenRows), &other).await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(
        text,
        "the grant is not for this node, fragment and recipient"
    );
}

#[tokio::test]
async fn a_fragment_that_reads_a_column_more_than_was_granted_is_refused() {
    let node = TestNode::parking().await;
    let fragment = node
        .fragment("SELECT ward, spaces FROM northmoor.parking.places")
        .await;
    let mut grant = node.grant(&fragment, OpenRows);
    grant.products[0].columns.retain(|c| c.as_str() != "spaces");
    let (code, text) = refused(node.send(&grant, &fragment).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("does not cover column `spaces`"), "{text}");
}

#[tokio::test]
async fn a_filter_reads_its_column_too() {
    let node = TestNode::parking().await;
    let fragment = node
        .fragment("SELECT ward FROM northmoor.parking.places WHERE spaces > 50")
        .await;
    let mut grant = node.grant(&fragment, OpenRows);
    grant.products[0].columns.retain(|c| c.as_str() != "spaces");
    assert_eq!(
        refused(node.send(&grant, &fragment).await).0,
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_product_that_the_grant_does_not_name_is_not_there() {
    let node = TestNode::parking().await;
    let fragment = node.fragment(ROWS).await;
    let mut grant = node.grant(&fragment, OpenRows);
    grant.products[0].product = "visits".parse().unwrap();
    grant.products[0].version = 1;
    let (code, text) = refused(node.send(&grant, &fragment).await);
    assert_eq!(code, Code::NotFound, "{text}");
}

#[tokio::test]
async fn another_version_or_department_is_not_served() {
    let node = TestNode::parking().await;
    let fragment = node.fragment(ROWS).await;
    let mut grant = node.grant(&fragment, OpenRows);
    grant.products[0].version += 1;
    assert_eq!(
        refused(node.send(&grant, &fragment).await).0,
        Code::NotFound
    );
    let mut grant = node.grant(&fragment, OpenRows);
    grant.products[0].department = "housing".parse().unwrap();
    assert_eq!(
        refused(node.send(&grant, &fragment).await).0,
        Code::NotFound
    );
}

#[tokio::test]
async fn another_nodes_grant_is_refused() {
    let node = TestNode::parking().await;
    let fragment = node.fragment(ROWS).await;
    let mut grant = node.grant(&fragment, OpenRows);
    grant.node = "spiffe://northmoor/housing/node/housing-1".parse().unwrap();
    assert_eq!(
        refused(node.send(&grant, &fragment).await).0,
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_grant_that_somebody_else_signed_is_refused() {
    let node = TestNode::parking().await;
    let fragment = node.fragment(ROWS).await;
    let grant = node.grant(&fragment, OpenRows);
    let stranger = guildhall_grant::SigningKey::generate().unwrap();
    let signed = guildhall_grant::envelope::sign(&grant, &stranger);
    let (code, text) = refused(node.send_as(GATEWAY, signed, &fragment).await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(text, "the grant is not from this node's authority");
}

#[tokio::test]
async fn a_stolen_grant_is_no_use_to_another_gateway() {
    let node = TestNode::parking().await;
    let fragment = node.fragment(ROWS).await;
    let signed = node.sign(&node.grant(&fragment, OpenRows));
    let thief = "spiffe://southmere/council/gateway/thief";
    assert_eq!(
        refused(node.send_as(thief, signed.clone(), &fragment).await).0,
        Code::PermissionDenied
    );
    // The theft did not use the grant up.
    node.send_as(GATEWAY, signed, &fragment).await.unwrap();
}

#[tokio::test]
async fn roles_that_do_not_ask_are_not_answered() {
    let node = TestNode::parking().await;
    let fragment = node.fragment(ROWS).await;
    let peer = "spiffe://northmoor/housing/node/housing-1";
    // A grant that holds but for who asks.
    let mut grant = node.grant(&fragment, OpenRows);
    grant.recipient = peer.parse().unwrap();
    let (code, text) = refused(node.send_as(peer, node.sign(&grant), &fragment).await);
    assert_eq!(
        (code, text.as_str()),
        (Code::PermissionDenied, "a node may not ask a node")
    );
    let last = node.runner.log.records().unwrap().pop().unwrap();
    let last = String::from_utf8(last.bytes).unwrap();
    assert!(last.contains("\"forbid\"") && last.contains(peer), "{last}");
}

#[tokio::test]
async fn identifiers_are_counted_and_nothing_else() {
    let node = TestNode::parking().await;
    for sql in [
        "SELECT car_park FROM northmoor.parking.places",
        "SELECT min(car_park) FROM northmoor.parking.places",
        "SELECT upper(car_park) FROM northmoor.parking.places",
        "SELECT ward FROM northmoor.parking.places WHERE car_park = 'P1'",
        "SELECT ward FROM northmoor.parking.places ORDER BY car_park",
        "SELECT DISTINCT car_park FROM northmoor.parking.places",
        "SELECT car_park, count(*) FROM northmoor.parking.places GROUP BY car_park",
        "SELECT a.ward FROM northmoor.parking.places a JOIN northmoor.parking.places b ON a.car_park = b.car_park",
        "SELECT CASE WHEN car_park = 'P1' THEN 1 ELSE 0 END FROM northmoor.parking.places",
        "SELECT count(*) FILTER (WHERE car_park = 'P1') FROM northmoor.parking.places",
        "SELECT ward FROM northmoor.parking.places WHERE ward IN (SELECT car_park FROM northmoor.parking.places)",
        "SELECT ward, nullif(car_park, 'P1') IS NULL FROM northmoor.parking.places",
        "SELECT ward FROM northmoor.parking.places WHERE nullif(car_park, 'P1') IS NULL",
        "SELECT ward FROM (SELECT ward, nullif(car_park, 'P1') AS x FROM northmoor.parking.places) WHERE x IS NOT NULL",
        "SELECT count(nullif(car_park, 'P1')) FROM northmoor.parking.places",
        "SELECT ward, (car_park = 'P1') IS NOT NULL FROM northmoor.parking.places",
        "SELECT ward, count(car_park) OVER (PARTITION BY spaces) FROM northmoor.parking.places",
        "SELECT array_agg(ward) FROM northmoor.parking.places GROUP BY car_park",
    ] {
        assert_refused(&node, sql, OpenRows).await;
    }
    let sql = "SELECT ward, count(DISTINCT car_park) AS n FROM northmoor.parking.places GROUP BY ward ORDER BY ward";
    let answer = node.rows(sql).await.unwrap();
    assert!(answer.contains("| Kinson   | 2 |"), "{answer}");
}

#[tokio::test]
async fn quasi_columns_of_rows_are_filtered_by_and_counted_and_nothing_else() {
    let node = TestNode::parking().await;
    let v = "northmoor.parking.visits";
    for sql in [
        "SELECT car_park FROM @v",
        "SELECT car_park || 'x' FROM @v",
        "SELECT lag(car_park) OVER (ORDER BY started) FROM @v",
        "SELECT DISTINCT hours, car_park FROM @v",
        "SELECT hours, car_park FROM @v GROUP BY hours, car_park",
        "SELECT hours, car_park, count(*) FROM @v GROUP BY hours, car_park",
        "SELECT array_agg(hours) FROM @v GROUP BY car_park",
        "SELECT hours, substr(car_park, 2) FROM @v GROUP BY hours, substr(car_park, 2)",
        "SELECT sum(CAST(substr(car_park, 2) AS BIGINT)) OVER (ROWS BETWEEN CURRENT ROW AND CURRENT ROW) FROM @v",
        "SELECT hours, sum(length(car_park)) FROM @v GROUP BY hours",
        "SELECT hours, avg(length(car_park)) FROM @v GROUP BY hours",
        "SELECT hours, bool_or(car_park = 'P1') FROM @v GROUP BY hours",
        "SELECT hours, (CASE WHEN car_park = 'P1' THEN 1 END) IS NOT NULL FROM @v",
        "SELECT hours, x IS NULL FROM (SELECT hours, nullif(car_park, 'P1') AS x FROM @v)",
        "SELECT hours, count(CASE WHEN car_park = 'P1' THEN 1 END) FROM @v GROUP BY hours",
        "SELECT hours, count(x) FROM (SELECT hours, nullif(car_park, 'P1') AS x FROM @v) GROUP BY hours",
        "SELECT hours, count(*) FILTER (WHERE car_park = 'P1') FROM @v GROUP BY hours",
        "SELECT hours, count(car_park) OVER (ORDER BY hours ROWS BETWEEN CURRENT ROW AND CURRENT ROW) FROM @v",
        "SELECT hours FROM @v ORDER BY car_park",
        "SELECT hours, row_number() OVER (ORDER BY car_park) FROM @v",
        "SELECT hours, count(*) OVER (PARTITION BY car_park) FROM @v",
        "SELECT v.hours, w.column1 FROM @v v JOIN (VALUES ('P1'), ('P2')) w ON v.car_park = w.column1",
        "SELECT v.hours, w.column1 FROM @v v CROSS JOIN (VALUES (1), (2)) w \
         WHERE (v.car_park = 'P1' AND w.column1 = 1) OR (v.car_park = 'P2' AND w.column1 = 2)",
        "SELECT hours FROM @v WHERE car_park = (SELECT min(car_park) FROM @v)",
        "SELECT hours FROM @v WHERE car_park = 'P' || CAST(hours AS VARCHAR)",
        "SELECT hours, paid_pence FROM @v WHERE car_park = CASE WHEN paid_pence > 100 THEN 'P1' ELSE 'P2' END",
        "SELECT x IS NULL FROM (SELECT nullif(car_park, 'P1') AS x FROM @v UNION ALL SELECT car_park FROM @v)",
    ] {
        assert_refused(&node, &sql.replace("@v", v), OpenRows).await;
    }
    for (sql, wanted) in [
        (
            "SELECT count(*) AS n FROM @v WHERE car_park = 'P2'",
            "| 9 |",
        ),
        (
            "SELECT count(*) AS n FROM @v WHERE upper(car_park) LIKE 'P2%' AND hours < 1",
            "| 9 |",
        ),
        ("SELECT count(DISTINCT car_park) AS n FROM @v", "| 3 |"),
        (
            "SELECT count(*) AS n FROM @v WHERE car_park IS NULL",
            "| 0 |",
        ),
    ] {
        let answer = node.rows(&sql.replace("@v", v)).await;
        let answer = answer.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert!(answer.contains(wanted), "{sql}: {answer}");
    }
}

#[tokio::test]
async fn a_secret_column_is_never_read() {
    let node = TestNode::parking().await;
    for sql in [
        "SELECT notes FROM northmoor.parking.visits",
        "SELECT count(notes) FROM northmoor.parking.visits",
        "SELECT paid_pence FROM northmoor.parking.visits WHERE notes = 'canary'",
    ] {
        assert_refused(&node, sql, OpenRows).await;
        // Not even that there is one.
        let (_, text) = refused(force(&node, sql, OpenRows).await);
        assert_eq!(
            text, "a column of `northmoor.parking.visits` may not be read",
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_secret_column_that_was_not_granted_is_not_named_either() {
    let node = TestNode::parking().await;
    let fragment = node
        .fragment("SELECT notes FROM northmoor.parking.visits")
        .await;
    let mut grant = node.grant(&fragment, OpenRows);
    grant.products[0].columns.clear();
    let (_, text) = refused(node.send(&grant, &fragment).await);
    assert!(!text.contains("notes"), "{text}");
}

#[tokio::test]
async fn a_warranted_product_is_not_released_however_it_came_onto_the_shelf() {
    let mut node = TestNode::parking().await;
    let mut product = node.product("places").clone();
    product.class = ReleaseClass::Warranted;
    // Of open products alone it is published.
    product.row_count = None;
    node.shelve(product);
    let fragment = node.fragment(ROWS).await;
    for output in [OpenRows, ReleasedCells] {
        let (code, text) = refused(node.send(&node.grant(&fragment, output), &fragment).await);
        assert_eq!(code, Code::PermissionDenied, "{text}");
        assert!(text.contains("on a warrant only"), "{text}");
    }
}

#[tokio::test]
async fn a_table_of_literals_reads_no_product_and_gets_no_answer() {
    let node = TestNode::parking().await;
    let (code, _) = refused(force(&node, "SELECT 1", OpenRows).await);
    assert_eq!(code, Code::InvalidArgument);
}

#[tokio::test]
async fn bytes_that_are_no_plan_are_refused() {
    let node = TestNode::parking().await;
    for bytes in [&b""[..], b"SELECT 1", &[0xff; 300]] {
        let honest = node.fragment(ROWS).await;
        let mut grant = node.grant(&honest, OpenRows);
        grant.fragment = guildhall_model::Digest::of(bytes);
        let (code, text) = refused(node.send(&grant, bytes).await);
        assert_eq!(code, Code::InvalidArgument, "{text}");
    }
}

#[tokio::test]
async fn a_product_file_that_was_altered_on_disk_is_not_served() {
    let node = TestNode::parking().await;
    let folder = node.folder.path().join("products");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(
                &path,
                text.replace("paid_pence >= 0", "true")
                    .replace("open", "open "),
            )
            .unwrap();
        }
    }
    let (code, text) = refused(node.rows(ROWS).await);
    assert_eq!(code, Code::Internal, "{text}");
}

#[tokio::test]
async fn what_a_fragment_may_be_run_as_prints_no_literal() {
    let node = TestNode::parking().await;
    let sql = "SELECT ward = 'Jane Doe', spaces + 4711 FROM northmoor.parking.places WHERE ward <> 'Jane Doe'";
    let rows = super::Shape::Rows(node.plan(sql).await);
    assert_eq!(format!("{rows:?}"), "Rows { columns: 2, .. }");
    let plan = node.plan("SELECT ward, count(*) AS n FROM northmoor.parking.sessions WHERE ward = 'Jane Doe' GROUP BY ward").await;
    let LogicalPlan::Projection(projection) = &plan else {
        panic!("{plan:?}");
    };
    let product = node.product("sessions");
    let cells = match guildhall_plan::adhoc::lane(&projection.input, product, None).unwrap() {
        guildhall_plan::adhoc::Lane::Cube(query) => super::Shape::Cells(query),
        guildhall_plan::adhoc::Lane::AdHoc(query) => super::Shape::AdHoc(query),
    };
    let printed = format!("{cells:?}");
    assert!(
        printed.contains("ward") && !printed.contains("Jane"),
        "{printed}"
    );
}
