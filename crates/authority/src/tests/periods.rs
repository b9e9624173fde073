//! What shares a budget, and when one is whole again.

use super::debiting::{pay, spent};
use super::*;
use std::time::Duration;

/// The least time that is told apart.
const MOMENT: Duration = Duration::from_micros(1);

/// 1 January 2027, midnight UTC.
pub(super) fn new_year() -> Timestamp {
    Timestamp::from_micros(1_798_761_600_000_000)
}

/// Moves the clock on to `moment`.
fn wait_until(town: &Town, moment: Timestamp) {
    town.clock.advance(moment.since(town.clock.now()));
    assert_eq!(town.clock.now(), moment);
}

#[tokio::test]
async fn a_budget_is_whole_again_with_the_quarter_and_not_a_moment_sooner() {
    let town = Town::with_budget(10).await;
    let product = town.budgeted(10);
    let pay = |question| pay(&town, &product, "planning", question, 5);
    assert_eq!(pay("a").await.unwrap(), (5, 5));
    assert_eq!(pay("b").await.unwrap(), (5, 0));
    wait_until(&town, new_year().before(MOMENT));
    assert!(matches!(pay("c").await, Err(Refusal::Budget { .. })));
    assert_eq!(pay("a").await.unwrap(), (0, 0));
    wait_until(&town, new_year());
    // What was asked last quarter costs again.
    assert_eq!(pay("a").await.unwrap(), (5, 5));
    assert_eq!(pay("c").await.unwrap(), (5, 0));
    let refusal = pay("d").await.unwrap_err().to_string();
    assert!(
        refusal.ends_with("it renews at 2027-04-01T00:00:00Z"),
        "{refusal}"
    );
    assert_eq!(spent(&town), 20);
}

#[tokio::test]
async fn a_month_ends_with_its_leap_day() {
    let town = Town::new().await;
    let mut product = town.budgeted(10);
    product.budgets[0].period = BudgetPeriod::Month;
    town.register(&product).await.unwrap();
    let pay = |question| pay(&town, &product, "planning", question, 5);
    // 29 February 2028, a second before midnight.
    let march = Timestamp::from_micros(1_835_481_600_000_000);
    wait_until(&town, march.before(Duration::from_secs(1)));
    assert_eq!(pay("a").await.unwrap(), (5, 5));
    wait_until(&town, march);
    assert_eq!(pay("a").await.unwrap(), (5, 5));
    assert_eq!(pay("b").await.unwrap(), (5, 0));
}

#[tokio::test]
async fn products_over_one_dataset_share_its_budget_and_the_strictest_limit_binds() {
    let town = Town::with_budget(20).await;
    let wide = town.budgeted(20);
    let strict = Product {
        name: "stays".parse().unwrap(),
        ..town.budgeted(10)
    };
    assert_eq!(
        pay(&town, &wide, "planning", "a", 4).await.unwrap(),
        (4, 16)
    );
    town.register(&strict).await.unwrap();
    // From now on there are 10, of which 4 are spent.
    assert_eq!(
        pay(&town, &strict, "planning", "b", 4).await.unwrap(),
        (4, 2)
    );
    for product in [&wide, &strict] {
        let refused = pay(&town, product, "planning", "c", 4).await;
        assert!(matches!(refused, Err(Refusal::Budget { .. })));
    }
    // The same question is paid for, by whichever product it comes.
    assert_eq!(pay(&town, &wide, "planning", "b", 4).await.unwrap(), (0, 2));
    // Below what is spent, nothing more is; and a wider one later binds as it says.
    let version = |version, rho| Product {
        version,
        budgets: vec![budget("planning", rho)],
        ..strict.clone()
    };
    town.register(&version(2, 6)).await.unwrap();
    let refused = pay(&town, &version(2, 6), "planning", "c", 1).await;
    assert!(matches!(refused, Err(Refusal::Budget { .. })));
    town.register(&version(3, 40)).await.unwrap();
    assert_eq!(
        pay(&town, &wide, "planning", "c", 10).await.unwrap(),
        (10, 2)
    );
}

#[tokio::test]
async fn a_product_of_which_no_budget_is_stated_has_no_free_questions_though_another_does() {
    let town = Town::with_budget(10).await;
    let silent = Product {
        name: "stays".parse().unwrap(),
        ..town.product()
    };
    town.register(&silent).await.unwrap();
    assert!(matches!(
        pay(&town, &silent, "planning", "a", 1).await,
        Err(Refusal::Class { .. })
    ));
}

#[tokio::test]
async fn purposes_and_datasets_do_not_share() {
    let town = Town::new().await;
    town.open("fines").await;
    let sessions = Product {
        purposes: names(&["planning", "review"]),
        budgets: vec![budget("planning", 10), budget("review", 8)],
        ..town.product()
    };
    let mut fines = Product {
        name: "fines".parse().unwrap(),
        ..sessions.clone()
    };
    fines.columns[2].reads = [DatasetColumn {
        dataset: "fines".parse().unwrap(),
        column: "plate".parse().unwrap(),
    }]
    .into();
    let of = |product: &mut Product, datasets: &[&str]| {
        for budget in &mut product.budgets {
            budget.datasets = datasets.iter().map(|d| d.parse().unwrap()).collect();
        }
    };
    of(&mut fines, &["fines"]);
    // A unit that comes from both: a budget of its own.
    let mut both = Product {
        name: "both".parse().unwrap(),
        ..sessions.clone()
    };
    both.columns[2].reads.extend(fines.columns[2].reads.clone());
    of(&mut both, &["fines", "sessions"]);
    for product in [&sessions, &fines, &both] {
        town.register(product).await.unwrap();
    }
    for (product, purpose, left) in [
        (&sessions, "planning", 6),
        (&sessions, "review", 4),
        (&fines, "planning", 6),
        (&fines, "review", 4),
        (&both, "planning", 6),
    ] {
        let paid = pay(&town, product, purpose, "a", 4).await.unwrap();
        assert_eq!(paid, (4, left), "{} {purpose}", product.name);
    }
    let ledgers: Vec<String> = town
        .admin()
        .budgets(town.clock.now())
        .unwrap()
        .into_iter()
        .map(|b| format!("{} {} {}/{}", b.datasets, b.purpose, b.spent, b.limit))
        .collect();
    assert_eq!(
        ledgers,
        [
            "fines planning 0.000000004/0.00000001",
            "fines review 0.000000004/0.000000008",
            "fines+sessions planning 0.000000004/0.00000001",
            "fines+sessions review 0/0.000000008",
            "sessions planning 0.000000004/0.00000001",
            "sessions review 0.000000004/0.000000008",
        ]
    );
}

#[tokio::test]
async fn a_budget_is_not_made_whole_by_stating_another_period() {
    let town = Town::new().await;
    let version = |version, period| {
        let mut product = town.budgeted(10);
        product.version = version;
        product.budgets[0].period = period;
        product
    };
    let monthly = version(1, BudgetPeriod::Month);
    town.register(&monthly).await.unwrap();
    assert_eq!(
        pay(&town, &monthly, "planning", "a", 5).await.unwrap(),
        (5, 5)
    );
    let quarterly = version(2, BudgetPeriod::Quarter);
    town.register(&quarterly).await.unwrap();
    assert_eq!(
        pay(&town, &quarterly, "planning", "b", 3).await.unwrap(),
        (3, 2)
    );
    let monthly = version(3, BudgetPeriod::Month);
    town.register(&monthly).await.unwrap();
    let refusal = pay(&town, &monthly, "planning", "c", 3)
        .await
        .unwrap_err()
        .to_string();
    // November ends sooner, but what the quarter spent counts until the quarter ends.
    assert!(
        refusal.ends_with("it renews at 2027-01-01T00:00:00Z"),
        "{refusal}"
    );
    // While two products differ, the longer period binds both.
    let yearly = Product {
        name: "stays".parse().unwrap(),
        ..version(1, BudgetPeriod::Year)
    };
    town.register(&yearly).await.unwrap();
    wait_until(&town, new_year().before(MOMENT));
    assert_eq!(
        pay(&town, &monthly, "planning", "d", 2).await.unwrap(),
        (2, 0)
    );
}
