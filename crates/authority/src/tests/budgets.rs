//! What is told of budgets, and to whom; and that the ledger keeps what it was given.

use super::*;
use super::{debiting::pay, periods::new_year};
use crate::{AdminError, LedgerError};
use rusqlite::Connection;

async fn told(town: &Town, account: &str, purpose: &str) -> Result<Vec<String>, Refusal> {
    let request = wire::BudgetRequest {
        credential: Some(town.token(account).await),
        purpose: purpose.to_owned(),
    };
    let answer = town.state.budgets(&town.gateway, request)?;
    let told = |b: wire::ProductBudget| {
        let (spent, limit, each) = (b.spent_nano_rho, b.limit_nano_rho, b.per_query_nano_rho);
        let end = Timestamp::from_micros(b.period_end_us);
        format!(
            "{}.{}: {spent} of {limit}, {each} each, until {end}",
            b.department, b.product
        )
    };
    Ok(answer.budgets.into_iter().map(told).collect())
}

#[tokio::test]
async fn who_may_see_a_product_is_told_what_is_left_of_its_budget() {
    let town = Town::with_budget(10).await;
    let narrow = Product {
        name: "stays".parse().unwrap(),
        budgets: vec![budget("planning", 8)],
        ..town.product()
    };
    let silent = Product {
        name: "silent".parse().unwrap(),
        ..town.product()
    };
    town.register(&narrow).await.unwrap();
    town.register(&silent).await.unwrap();
    pay(&town, &narrow, "planning", "a", 3).await.unwrap();
    let until = "until 2027-01-01T00:00:00Z";
    let both = [
        format!("parking.sessions: 3 of 8, 5 each, {until}"),
        format!("parking.stays: 3 of 8, 4 each, {until}"),
    ];
    assert_eq!(told(&town, "ana", "planning").await.unwrap(), both);
    assert!(told(&town, "ana", "review").await.unwrap().is_empty());

    // It is said of a period, and starts anew.
    town.clock.advance(new_year().since(town.clock.now()));
    let told = told(&town, "ana", "planning").await.unwrap();
    assert_eq!(
        told[0],
        "parking.sessions: 0 of 8, 5 each, until 2027-04-01T00:00:00Z"
    );
}

#[tokio::test]
async fn of_what_it_may_not_see_nobody_is_told() {
    let town = Town::with_budget(10).await;
    town.account("sam", &["clerk"], &["planning"]);
    town.account("rita", &["analyst"], &["review"]);
    // A role that no policy names sees the catalogue empty, and the budgets too.
    let request = wire::CatalogueRequest {
        credential: Some(town.token("sam").await),
        purpose: "planning".to_owned(),
    };
    let catalogue = town.state.catalogue(&town.gateway, request).unwrap();
    let budgets = told(&town, "sam", "planning").await.unwrap();
    assert_eq!(catalogue.products.len(), budgets.len());
    assert!(budgets.is_empty());
    let refused = told(&town, "rita", "planning").await.unwrap_err();
    assert!(matches!(refused, Refusal::Purpose { .. }), "{refused}");
    let refused = told(&town, "ana", "").await.unwrap_err();
    assert!(
        matches!(
            refused,
            Refusal::Invalid {
                field: "purpose",
                ..
            }
        ),
        "{refused}"
    );
    let request = wire::BudgetRequest {
        credential: None,
        purpose: "planning".to_owned(),
    };
    let refused = town.state.budgets(&town.gateway, request).unwrap_err();
    assert!(matches!(refused, Refusal::Credential { .. }), "{refused}");
}

#[tokio::test]
async fn an_officer_sees_each_budget_once_with_the_products_that_share_it() {
    let town = Town::with_budget(10).await;
    let narrow = Product {
        name: "stays".parse().unwrap(),
        budgets: vec![budget("planning", 8)],
        ..town.product()
    };
    town.register(&narrow).await.unwrap();
    pay(&town, &narrow, "planning", "a", 3).await.unwrap();
    let all = town.admin().budgets(town.clock.now()).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].spent.get(), all[0].limit.get()), (3, 8));
    assert_eq!(all[0].products.len(), 2);
    assert_eq!(all[0].renews, new_year());
}

fn open(town: &Town) -> Connection {
    Connection::open(town.dir.path().join("data/authority.db")).unwrap()
}

/// A town that has charged two questions, 4 and 3.
async fn spent() -> Town {
    let town = Town::with_budget(10).await;
    let product = town.budgeted(10);
    pay(&town, &product, "planning", "a", 4).await.unwrap();
    pay(&town, &product, "planning", "b", 3).await.unwrap();
    town
}

#[tokio::test]
async fn no_statement_changes_or_removes_a_charge() {
    let town = spent().await;
    let connection = open(&town);
    let again = "(ledger, number, question, charge, total, product, grant_id, debited_us)
         SELECT ledger, 3, question, 1, 8, product, 'g-other', 0 FROM debits WHERE number = 1";
    connection
        .pragma_update(None, "recursive_triggers", true)
        .unwrap();
    for statement in [
        "UPDATE debits SET charge = 1".to_owned(),
        "DELETE FROM debits".to_owned(),
        "UPDATE ledgers SET end_us = end_us + 1".to_owned(),
        "DELETE FROM ledgers".to_owned(),
        format!("INSERT INTO debits {again}"),
        format!("INSERT OR REPLACE INTO debits {again}"),
        "INSERT INTO debits VALUES (1, 2, x'00', 1, 8, 'p', 'g', 0)".to_owned(),
        "INSERT INTO debits VALUES (1, 4, x'00', 1, 8, 'p', 'g', 0)".to_owned(),
        "INSERT INTO debits VALUES (1, 3, x'00', 1, 1, 'p', 'g', 0)".to_owned(),
        "INSERT INTO debits VALUES (1, 3, x'00', -7, 0, 'p', 'g', 0)".to_owned(),
        "INSERT INTO debits VALUES (1, 3, x'00', 0, 7, 'p', 'g', 0)".to_owned(),
    ] {
        assert!(connection.execute(&statement, []).is_err(), "{statement}");
    }
    let sum = town.admin().verify_ledger().unwrap();
    assert_eq!((sum.debits, sum.charged.get()), (2, 7));
}

#[tokio::test]
async fn a_ledger_that_was_changed_behind_our_back_is_found_out() {
    type Fault = fn(&LedgerError) -> bool;
    let cases: [(&str, Fault); 5] = [
        ("DELETE FROM debits WHERE number = 2", |e| {
            matches!(e, LedgerError::Missing { .. })
        }),
        ("DELETE FROM debits WHERE number = 1", |e| {
            matches!(e, LedgerError::Broken { number: 2, .. })
        }),
        ("UPDATE debits SET charge = 1 WHERE number = 2", |e| {
            matches!(e, LedgerError::Broken { number: 2, .. })
        }),
        (
            "UPDATE debits SET charge = 1, total = 5 WHERE number = 2",
            |e| matches!(e, LedgerError::NotInLog { .. }),
        ),
        (
            "INSERT INTO debits VALUES (1, 3, x'00', 1, 8, 'p', 'g', 0)",
            |e| matches!(e, LedgerError::NotInLog { .. }),
        ),
    ];
    for (statement, is_it) in cases {
        let town = spent().await;
        let connection = open(&town);
        connection
            .execute_batch("DROP TRIGGER debits_are_not_cut; DROP TRIGGER debits_are_not_rewritten")
            .unwrap();
        connection.execute(statement, []).unwrap();
        match town.admin().verify_ledger() {
            Err(AdminError::Ledger(fault)) => assert!(is_it(&fault), "{statement}: {fault}"),
            other => panic!("{statement}: {other:?}"),
        }
    }
}
