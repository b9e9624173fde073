//! The `[[budget]]` tables of a product file: what free questions may cost, by purpose.

use super::draft::{Complaint, Draft, complain};
use guildhall_grant::product::{Budget, BudgetPeriod, DEVELOPMENT, NanoRho};
use guildhall_model::{Purpose, ReleaseClass};
use serde::Deserialize;
use std::collections::BTreeSet;
use toml::Spanned;

/// One table, as it is written. Amounts are read as numbers only to find where they stand: what
/// counts is their text, which is exact.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetFile {
    purpose: Purpose,
    rho: Spanned<f64>,
    period: PeriodFile,
    per_query: Option<Spanned<f64>>,
    cells_per_unit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PeriodFile {
    Month,
    Quarter,
    Year,
}

impl BudgetFile {
    /// The budget; `text` is that of the whole file.
    pub(super) fn into_budget(self, text: &str) -> Result<Budget, Complaint> {
        let purpose = self.purpose;
        let rho = amount(&self.rho, text, &field(&purpose, "rho"))?;
        let per_query = self
            .per_query
            .map(|p| amount(&p, text, &field(&purpose, "per_query")))
            .transpose()?;
        Ok(Budget {
            // Told from the view when the product is published.
            datasets: BTreeSet::new(),
            rho,
            period: match self.period {
                PeriodFile::Month => BudgetPeriod::Month,
                PeriodFile::Quarter => BudgetPeriod::Quarter,
                PeriodFile::Year => BudgetPeriod::Year,
            },
            per_query: per_query.unwrap_or_else(|| Budget::default_per_query(rho)),
            cells_per_unit: self.cells_per_unit.unwrap_or(1),
            purpose,
        })
    }
}

fn field(purpose: &Purpose, part: &str) -> String {
    format!("budget.{purpose}.{part}")
}

/// The amount that stands at `written` in the file's text.
fn amount(written: &Spanned<f64>, text: &str, field: &str) -> Result<NanoRho, Complaint> {
    let digits = text.get(written.span()).unwrap_or_default();
    digits
        .parse()
        .map_err(|e| (field.to_owned(), format!("is `{digits}`, which {e}")))
}

/// Whether the budgets fit the rest of the file.
pub(super) fn check(draft: &Draft) -> Result<(), Complaint> {
    let mut seen = BTreeSet::new();
    for budget in &draft.budgets {
        let Budget { purpose, .. } = budget;
        if draft.class != ReleaseClass::Aggregate {
            let class = draft.class;
            return complain(
                format!("budget.{purpose}"),
                format!("is given, though `class` is `{class}`; only `aggregate` has budgets"),
            );
        }
        if !draft.purposes.contains(purpose) {
            let problem = "is for a purpose that is not among `purposes`";
            return complain(format!("budget.{purpose}"), problem);
        }
        if purpose.as_str() == DEVELOPMENT {
            let problem = "is for `development`, whose questions are answered with made-up rows and cost nothing";
            return complain(format!("budget.{purpose}"), problem);
        }
        if !seen.insert(purpose) {
            return complain(format!("budget.{purpose}"), "is given twice");
        }
        check_amounts(budget)?;
    }
    Ok(())
}

fn check_amounts(budget: &Budget) -> Result<(), Complaint> {
    let Budget {
        purpose,
        rho,
        per_query,
        ..
    } = budget;
    if *rho == NanoRho::default() || *rho > Budget::MOST {
        let most = Budget::MOST;
        return complain(
            field(purpose, "rho"),
            format!("is {rho}; it is more than 0 and at most {most}"),
        );
    }
    if *per_query == NanoRho::default() || per_query > rho {
        return complain(
            field(purpose, "per_query"),
            format!("is {per_query}; it is more than 0 and at most `rho`, {rho}"),
        );
    }
    if budget.cells_per_unit == 0 {
        return complain(
            field(purpose, "cells_per_unit"),
            "is 0; a unit is in one cell at least",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::SESSIONS;
    use crate::testing::TestNode;

    const BUDGET: &str = r#"
        [[budget]]
        purpose = "transport_planning"
        rho = 0.05
        period = "quarter"
        per_query = 0.001
        cells_per_unit = 4
    "#;

    fn parse(budget: &str) -> Result<Vec<Budget>, String> {
        Draft::parse(&format!("{SESSIONS}{budget}"), "sessions.toml")
            .map(|d| d.budgets)
            .map_err(|e| e.to_string())
    }

    fn one(from: &str, to: &str) -> Budget {
        assert!(BUDGET.contains(from), "{from}");
        parse(&BUDGET.replace(from, to)).unwrap().remove(0)
    }

    fn error(from: &str, to: &str) -> String {
        assert!(BUDGET.contains(from), "{from}");
        parse(&BUDGET.replace(from, to)).unwrap_err()
    }

    #[test]
    fn a_budget_is_read_in_exact_billionths() {
        let budget = one("", "");
        assert_eq!(
            budget,
            Budget {
                purpose: "transport_planning".parse().unwrap(),
                datasets: BTreeSet::new(),
                rho: NanoRho::new(50_000_000),
                period: BudgetPeriod::Quarter,
                per_query: NanoRho::new(1_000_000),
                cells_per_unit: 4,
            }
        );
        assert_eq!(one("0.05", "0.100000007").rho, NanoRho::new(100_000_007));
        assert_eq!(one("0.05", "10").rho, Budget::MOST);
        assert_eq!(one("0.05", "0.3 # a comment").rho.get(), 300_000_000);
        assert_eq!(one("quarter", "month").period, BudgetPeriod::Month);
        assert_eq!(one("quarter", "year").period, BudgetPeriod::Year);
    }

    #[test]
    fn what_is_not_said_is_a_small_charge_and_one_cell() {
        let budget = one("per_query = 0.001", "");
        assert_eq!(budget.per_query, NanoRho::new(1_000_000));
        assert_eq!(one("cells_per_unit = 4", "").cells_per_unit, 1);
        let small = BUDGET
            .replace("0.05", "0.0002")
            .replace("per_query = 0.001", "");
        assert_eq!(parse(&small).unwrap()[0].per_query, NanoRho::new(200_000));
    }

    #[test]
    fn a_product_without_a_budget_has_none() {
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn an_amount_that_is_not_exact_or_out_of_bounds_is_named() {
        for (rho, said) in [
            ("0.0000000001", "has more than 9 decimals"),
            ("5e-2", "is `5e-2`, which is not a plain decimal"),
            ("+0.05", "is `+0.05`, which is not a plain decimal"),
            ("-0.05", "is `-0.05`, which is not a plain decimal"),
            ("0_0.05", "leading zero"),
            ("1_0.5", "is `1_0.5`, which is not a plain decimal"),
            ("inf", "is `inf`, which is not a plain decimal"),
            ("nan", "is `nan`, which is not a plain decimal"),
            ("0", "is 0; it is more than 0 and at most 10"),
            ("0.000000000", "is 0; it is more than 0 and at most 10"),
            ("10.000000001", "is 10.000000001; it is more than 0"),
        ] {
            let error = error("0.05", rho);
            assert!(error.starts_with("sessions.toml: "), "{error}");
            assert!(error.contains(said), "{error}");
            if said != "leading zero" {
                assert!(error.contains("`budget.transport_planning.rho`"), "{error}");
            }
        }
        for per_query in ["0", "0.050000001", "1"] {
            let error = error("0.001", per_query);
            assert!(
                error.contains("`budget.transport_planning.per_query` is"),
                "{error}"
            );
        }
        assert!(error("cells_per_unit = 4", "cells_per_unit = 0").contains("cells_per_unit` is 0"));
    }

    #[test]
    fn a_text_is_no_amount_and_a_week_no_period() {
        assert!(error("0.05", "\"0.05\"").contains("invalid type"));
        assert!(error("quarter", "week").contains("`month`, `quarter`, `year`"));
        assert!(error("rho = 0.05", "").contains("missing field `rho`"));
        assert!(error("rho", "epsilon").contains("epsilon"));
    }

    #[test]
    fn a_budget_is_for_one_purpose_of_an_aggregate_product() {
        assert!(error("transport_planning", "gossip").contains("not among `purposes`"));
        let twice = parse(&format!("{BUDGET}{BUDGET}")).unwrap_err();
        assert!(twice.ends_with("`budget.transport_planning` is given twice"));
        let rows = SESSIONS.replace("\"aggregate\"", "\"restricted\"");
        let error = Draft::parse(&format!("{rows}{BUDGET}"), "sessions.toml").unwrap_err();
        assert!(error.to_string().contains("though `class` is `restricted`"));
    }

    #[tokio::test]
    async fn a_budget_for_development_is_neither_checked_nor_published() {
        let mut node = TestNode::parking().await;
        let text = format!("{SESSIONS}{BUDGET}").replace("transport_planning", "development");
        for error in [
            guildhall_telemetry::error_chain(&node.check(&text, None).await.unwrap_err()),
            guildhall_telemetry::error_chain(&node.publish(&text).await.unwrap_err()),
        ] {
            let said = "`budget.development` is for `development`, whose questions are answered with made-up rows";
            assert!(error.contains(said), "{error}");
        }
    }

    #[tokio::test]
    async fn a_budget_is_signed_with_its_product_if_the_unit_comes_from_a_dataset() {
        let mut node = TestNode::parking().await;
        let text = format!("{SESSIONS}{BUDGET}").replace("version = 1", "version = 2");
        let published = node.publish(&text).await.unwrap();
        let datasets = BTreeSet::from(["sessions".parse().unwrap()]);
        let [stated] = parse(BUDGET).unwrap().try_into().unwrap();
        assert_eq!(published.product.budgets, [Budget { datasets, ..stated }]);

        let nobodys = text
            .replace("version = 2", "version = 3")
            .replace("SELECT s.vehicle,", "SELECT 'x' AS vehicle,");
        let error = node.publish(&nobodys).await.unwrap_err();
        let chain = guildhall_telemetry::error_chain(&error);
        assert!(chain.contains("`budgets.datasets` is missing"), "{chain}");
    }
}
