//! Which tables the cells of a question lie in.

use super::town::{asked, sessions, town};
use crate::cube::tests::town::{aggregation, analysed};
use crate::cube::{AxisPlace, CubeAxis, CubeLevel, LevelBy, axes, recognise};
use guildhall_grant::product::Product;

/// The axes of `sql` over the town's sessions, each as `place: level > coarser ...`.
async fn of(sql: &str, product: &Product) -> Vec<String> {
    let query = asked(&town(), sql).await.unwrap();
    let axes = axes(&query, product).unwrap();
    axes.iter().map(|a| text(a, product)).collect()
}

fn text(axis: &CubeAxis, product: &Product) -> String {
    let level = |CubeLevel { column, by }: &CubeLevel| match by {
        LevelBy::Value => column.to_string(),
        LevelBy::Trunc(r) => format!("{column}@{}", r.name),
        LevelBy::Groups(_) => format!("{column}@groups"),
    };
    let levels: Vec<String> = axis.levels.iter().map(level).collect();
    let place = match &axis.at {
        AxisPlace::Key(at) => format!("key {at}"),
        AxisPlace::Value(_) => "value".to_owned(),
        AxisPlace::Group(name) => format!("group {name}"),
    };
    format!("{place}: {} {:?}", levels.join(" "), axis.coarser(product))
}

#[tokio::test]
async fn a_cell_lies_in_every_registered_level_above_its_own() {
    let product = sessions();
    let by = of(
        "SELECT ward, started, count(*) FROM @sessions WHERE zone IN (1, 2) GROUP BY ward, started",
        &product,
    );
    assert_eq!(
        by.await,
        [
            "key 0: ward ward@groups [[2], []]",
            "key 1: started started@month started@day [[3], [], [2]]",
            "group inner: zone@groups [[]]",
        ]
    );
}

#[tokio::test]
async fn a_filter_to_one_value_is_a_cell_of_the_same_table() {
    let product = sessions();
    let filtered = of("SELECT count(*) FROM @sessions WHERE ward = 'W1'", &product);
    assert_eq!(filtered.await, ["value: ward ward@groups [[2], []]"]);
    let sql = "SELECT date_trunc('month', started), count(*) FROM @sessions \
               WHERE date_trunc('day', started) = TIMESTAMP '2023-12-01' GROUP BY 1";
    assert_eq!(
        of(sql, &product).await,
        ["value: started@day started@month [[2], []]"]
    );
}

#[tokio::test]
async fn the_axes_stand_in_one_order_however_the_question_is_put() {
    let mut product = sessions();
    let levels = |axes: Vec<String>| {
        let levels = axes
            .into_iter()
            .map(|a| a.split_once(": ").unwrap().1.to_owned());
        levels.collect::<Vec<_>>()
    };
    let one = of(
        "SELECT ward, zone, count(*) FROM @sessions GROUP BY ward, zone",
        &product,
    );
    let one = levels(one.await);
    for sql in [
        "SELECT ward, zone, count(*) FROM @sessions GROUP BY zone, ward",
        "SELECT zone, count(*) FROM @sessions WHERE ward = 'W1' GROUP BY zone",
        "SELECT ward, count(*) FROM @sessions WHERE zone = 3 GROUP BY ward",
        "SELECT count(*) FROM @sessions WHERE zone = 3 AND ward = 'W1'",
    ] {
        assert_eq!(levels(of(sql, &product).await), one, "{sql}");
    }
    // A finer axis stands where the coarser one does that it lies within.
    product.dimensions[4].within = Some("ward".parse().unwrap());
    let sql = "SELECT zone, date_trunc('day', started), count(*) FROM @sessions GROUP BY 2, 1";
    let finer = levels(of(sql, &product).await);
    assert!(finer[0].starts_with("zone ward"), "{finer:?}");
    assert!(finer[1].starts_with("started@day"), "{finer:?}");
}

#[tokio::test]
async fn dimensions_within_one_another_are_one_axis() {
    let mut product = sessions();
    product.dimensions[4].within = Some("ward".parse().unwrap());
    let sql = "SELECT ward, count(*) FROM @sessions WHERE zone = 3 GROUP BY ward";
    let both = "value: zone ward ward@groups zone@groups [[2, 4], [3], [], []]";
    assert_eq!(of(sql, &product).await, [both]);
    let sql = "SELECT zone, count(*) FROM @sessions GROUP BY zone";
    let alone = "key 0: zone ward ward@groups zone@groups [[2, 4], [3], [], []]";
    assert_eq!(of(sql, &product).await, [alone]);
}

#[tokio::test]
async fn two_roll_ups_of_which_neither_nests_are_refused() {
    let mut product = sessions();
    let mut week = product.dimensions[1].roll_ups[0].clone();
    week.name = "week".to_owned();
    week.kind = guildhall_grant::product::RollUpKind::DateTrunc("week".to_owned());
    product.dimensions[1].roll_ups.push(week);
    let sql = "SELECT date_trunc('month', started), date_trunc('week', started), count(*) FROM @sessions GROUP BY 1, 2";
    let plan = aggregation(analysed(&town(), sql).await.unwrap());
    assert_eq!(recognise(&plan, &product).unwrap_err().rule, "cube.levels");
}
