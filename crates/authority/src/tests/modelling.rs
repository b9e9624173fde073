//! Long histories of charges, each answer foretold by a model that is a few lines long.

use super::debiting::pay;
use super::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// A generator that gives the same numbers for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

const PURPOSES: [&str; 2] = ["planning", "review"];

/// What one dataset, purpose and quarter have paid for.
#[derive(Default)]
struct Paid {
    questions: BTreeSet<u64>,
    spent: u64,
}

#[derive(Default)]
struct Model(BTreeMap<(&'static str, &'static str, u64), Paid>);

impl Model {
    /// What a charge comes to, and what it leaves; `None` if it is not covered.
    fn charge(
        &mut self,
        key: (&'static str, &'static str, u64),
        limit: u64,
        question: u64,
        amount: u64,
    ) -> Option<(u64, u64)> {
        let paid = self.0.entry(key).or_default();
        if paid.questions.contains(&question) {
            return Some((0, limit.saturating_sub(paid.spent)));
        }
        if paid.spent + amount > limit {
            return None;
        }
        paid.spent += amount;
        paid.questions.insert(question);
        Some((amount, limit - paid.spent))
    }
}

fn over(town: &Town, name: &str, dataset: &str) -> Product {
    let mut product = Product {
        name: name.parse().unwrap(),
        purposes: names(&PURPOSES),
        ..town.product()
    };
    product.columns[2].reads = [DatasetColumn {
        dataset: dataset.parse().unwrap(),
        column: "plate".parse().unwrap(),
    }]
    .into();
    product
}

/// States a budget of 4 to 63 for each purpose, by a new version.
async fn restate(town: &Town, product: &mut Product, numbers: &mut Numbers) {
    product.version += 1;
    let reads = product.columns[2].reads.first().unwrap().clone();
    product.budgets = PURPOSES
        .iter()
        .map(|p| Budget {
            per_query: NanoRho::new(4),
            datasets: [reads.dataset.clone()].into(),
            ..budget(p, 4 + numbers.below(60))
        })
        .collect();
    town.register(product).await.unwrap();
}

#[tokio::test]
async fn every_charge_of_a_long_history_comes_to_what_the_model_says() {
    for seed in 1..=4 {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (seed << 32));
        let town = Town::new().await;
        town.open("fines").await;
        let datasets = ["sessions", "sessions", "fines"];
        let mut products: Vec<Product> = ["a", "b", "c"]
            .iter()
            .zip(datasets)
            .map(|(name, dataset)| over(&town, name, dataset))
            .collect();
        for product in &mut products {
            restate(&town, product, &mut numbers).await;
        }
        let mut model = Model::default();
        let mut refused = 0;
        for step in 0..400 {
            match numbers.below(40) {
                0 => town
                    .clock
                    .advance(Duration::from_secs(86_400 * numbers.below(60))),
                1 => {
                    let which = usize::try_from(numbers.below(3)).unwrap();
                    restate(&town, &mut products[which], &mut numbers).await;
                }
                _ => {}
            }
            let which = usize::try_from(numbers.below(3)).unwrap();
            let why = usize::try_from(numbers.below(2)).unwrap();
            let (question, amount) = (numbers.below(60), 1 + numbers.below(4));
            let limit = products
                .iter()
                .zip(datasets)
                .filter(|(_, d)| *d == datasets[which])
                .map(|(p, _)| p.budgets[why].rho.get())
                .min()
                .unwrap();
            let (start, _) = BudgetPeriod::Quarter.around(town.clock.now()).unwrap();
            let quarter = u64::try_from(start.as_micros()).unwrap();
            let key = (datasets[which], PURPOSES[why], quarter);
            let foretold = model.charge(key, limit, question, amount);
            let text = question.to_string();
            let came = pay(&town, &products[which], PURPOSES[why], &text, amount).await;
            refused += usize::from(foretold.is_none());
            match (came, foretold) {
                (Err(Refusal::Budget { .. }), None) => {}
                (Ok(came), Some(foretold)) => assert_eq!(came, foretold, "{seed}, {step}"),
                (came, foretold) => panic!("{seed}, {step}: {came:?}, not {foretold:?}"),
            }
        }
        let spent: u64 = model.0.values().map(|p| p.spent).sum();
        let sum = town.admin().verify_ledger().unwrap();
        assert_eq!(sum.charged.get(), spent);
        assert!(refused > 20, "{refused}");
    }
}
