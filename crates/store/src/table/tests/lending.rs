//! Which keys open what.

use super::{copy, is_one_of};
use crate::Mode;
use crate::table::*;
use crate::testing::{Department, ask, permits, session};
use guildhall_keys::ColumnKey;

#[tokio::test]
async fn a_column_that_was_not_lent_fails_by_name_and_only_if_it_is_read() {
    let department = Department::new();
    department
        .import(&permits(100), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |k| is_one_of(k, &["ward"]));
    let context = session(dataset, lent, 2);
    let answer = ask(&context, "SELECT count(DISTINCT ward) AS n FROM permits")
        .await
        .unwrap();
    assert!(answer.contains("| 10 "), "{answer}");
    for sql in [
        "SELECT holder FROM permits",
        "SELECT ward FROM permits WHERE paid_pence > 3",
    ] {
        let error = ask(&context, sql).await.unwrap_err();
        let column = if sql.contains("holder") {
            "holder"
        } else {
            "paid_pence"
        };
        assert!(
            error.contains("was not lent") && error.contains(column),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_scan_before_any_loan_is_refused() {
    let department = Department::new();
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let context = session(department.open().await.unwrap(), LentKeys::default(), 2);
    let error = ask(&context, "SELECT ward FROM permits").await.unwrap_err();
    assert!(error.contains("no keys were lent"), "{error}");
}

#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let department = Department::new();
    department
        .import(&permits(100), Mode::Replace)
        .await
        .unwrap();
    for wrong in [None, Some("holder")] {
        let dataset = department.open().await.unwrap();
        let right = department.lend(&dataset, |_| true);
        let keys = right.get().unwrap().names().cloned().map(|name| {
            let is_wrong = name.column.as_ref().map(ColumnName::as_str) == wrong;
            let key = if is_wrong {
                ColumnKey::generate().unwrap()
            } else {
                copy(&right, &name)
            };
            (name, key)
        });
        let lent = LentKeys::default();
        lent.set(keys.collect()).unwrap();
        let error = ask(&session(dataset, lent, 2), "SELECT holder FROM permits")
            .await
            .unwrap_err();
        assert!(error.contains("cannot be opened"), "{error}");
    }
}

#[tokio::test]
async fn the_keys_of_one_version_do_not_open_another() {
    let department = Department::new();
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let old = department.lend(&department.open().await.unwrap(), |_| true);
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let context = session(department.open().await.unwrap(), old, 2);
    let error = ask(&context, "SELECT ward FROM permits").await.unwrap_err();
    assert!(error.contains("was not lent"), "{error}");
}

#[tokio::test]
async fn with_the_footer_key_alone_no_value_is_known() {
    let department = Department::new();
    department
        .import(&permits(1000), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |k| k.column.is_none());
    let none = BTreeSet::new();
    let footers = crate::footer::read(&dataset, &none, lent.get().unwrap())
        .await
        .unwrap();
    for column in footers[0].row_group(0).columns() {
        assert!(column.statistics().is_none());
    }
    let context = session(dataset, lent, 2);
    let answer = ask(&context, "SELECT count(*) AS n FROM permits")
        .await
        .unwrap();
    assert!(answer.contains("| 1000 "), "{answer}");
}

#[tokio::test]
async fn debug_prints_no_key() {
    let department = Department::new();
    department.import(&permits(1), Mode::Replace).await.unwrap();
    let dataset = Arc::new(department.open().await.unwrap());
    let lent = department.lend(&dataset, |_| true);
    let text = format!("{:?}", SealedTable::new(dataset, lent));
    assert_eq!(
        text,
        "SealedTable { dataset: DatasetId { council: CouncilName(\"northmoor\"), department: DepartmentName(\"parking\"), dataset: DatasetName(\"permits\") }, version: 1, lent: Some(4), .. }"
    );
}
