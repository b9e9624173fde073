//! Which datasets the values of a column come from, as against those that only decide which
//! rows there are.

use super::lineage::{dataset_of, scans};
use super::view::View;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, JoinType, LogicalPlan};
use guildhall_model::{ColumnName, DatasetName};
use std::collections::BTreeSet;

type Datasets = Result<BTreeSet<DatasetName>, DataFusionError>;

/// The datasets that the values of `column` come from; none if it is no column of `view`, or
/// says the same of every row.
///
/// Where the plan cannot be followed they are all that it reads from there on: rather too many
/// than too few.
pub(crate) fn origin(view: &View, column: &ColumnName) -> Datasets {
    let is_it = |name: &str| name == column.as_str();
    match view.schema().fields().iter().position(|f| is_it(f.name())) {
        Some(at) => of(view.plan(), at),
        None => Ok(BTreeSet::new()),
    }
}

/// Where column number `at` of `plan` comes from.
fn of(plan: &LogicalPlan, at: usize) -> Datasets {
    match plan {
        LogicalPlan::TableScan(scan) => Ok(dataset_of(&scan.table_name).into_iter().collect()),
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input, at),
        LogicalPlan::Filter(filter) => of(&filter.input, at),
        LogicalPlan::Sort(sort) => of(&sort.input, at),
        LogicalPlan::Limit(limit) => of(&limit.input, at),
        LogicalPlan::Distinct(Distinct::All(input)) => of(input, at),
        LogicalPlan::Projection(p) => computed(plan, p.expr.get(at), &p.input),
        LogicalPlan::Aggregate(a) => {
            let mut columns = a.group_expr.iter().chain(&a.aggr_expr);
            computed(plan, columns.nth(at), &a.input)
        }
        LogicalPlan::Window(w) => match at.checked_sub(w.input.schema().fields().len()) {
            None => of(&w.input, at),
            Some(at) => computed(plan, w.window_expr.get(at), &w.input),
        },
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|i| of(i, at));
            inputs.collect::<Result<Vec<_>, _>>().map(together)
        }
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                match at.checked_sub(join.left.schema().fields().len()) {
                    None => of(&join.left, at),
                    Some(at) => of(&join.right, at),
                }
            }
            _ => all(plan),
        },
        _ => all(plan),
    }
}

/// Where what `expr` says comes from, over the rows of `input`; `plan` holds both.
fn computed(plan: &LogicalPlan, expr: Option<&Expr>, input: &LogicalPlan) -> Datasets {
    let Some(expr) = expr.filter(|e| !is_beyond(e)) else {
        return all(plan);
    };
    let columns = expr.column_refs().into_iter();
    columns
        .map(|c| of(input, input.schema().index_of_column(c)?))
        .collect::<Result<Vec<_>, _>>()
        .map(together)
}

/// Whether `expr` says more than its columns do: it looks at other rows by a query of its own,
/// or stands for several columns.
fn is_beyond(expr: &Expr) -> bool {
    let mut beyond = false;
    let visited = expr.apply(|e| {
        beyond |= matches!(
            e,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::GroupingSet(_)
        );
        Ok(TreeNodeRecursion::Continue)
    });
    beyond || visited.is_err()
}

fn all(plan: &LogicalPlan) -> Datasets {
    Ok(scans(plan)?.into_iter().map(|s| s.dataset).collect())
}

fn together(parts: Vec<BTreeSet<DatasetName>>) -> BTreeSet<DatasetName> {
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::draft::tests::SESSIONS;
    use super::super::view::tests::plan;
    use super::*;

    /// Where the unit of the example comes from, its view being this.
    async fn unit_of(view: &str) -> Vec<String> {
        let from = SESSIONS.find("SELECT").unwrap();
        let to = from + SESSIONS[from..].find('"').unwrap();
        let line = view.replace('\n', " ");
        let text = format!("{}{line}{}", &SESSIONS[..from], &SESSIONS[to..]);
        let view = plan(&text).await.unwrap();
        let datasets = origin(&view, &"vehicle".parse().unwrap()).unwrap();
        datasets.iter().map(ToString::to_string).collect()
    }

    /// A view of the columns that the example has, with this unit, over these rows.
    fn view(unit: &str, rows: &str) -> String {
        format!("SELECT {unit} AS vehicle, c.ward, s.started, s.paid_pence FROM {rows}")
    }

    const JOINED: &str = "sessions s JOIN car_parks c ON s.car_park = c.car_park";

    #[tokio::test]
    async fn a_join_and_a_filter_do_not_make_a_value() {
        assert_eq!(unit_of(&view("s.vehicle", JOINED)).await, ["sessions"]);
        let filtered = format!("{JOINED} WHERE c.ward LIKE 'K%' ORDER BY c.ward LIMIT 9");
        assert_eq!(unit_of(&view("s.vehicle", &filtered)).await, ["sessions"]);
        let other = "car_parks c LEFT JOIN sessions s ON s.car_park = c.car_park";
        assert_eq!(unit_of(&view("s.vehicle", other)).await, ["sessions"]);
        assert_eq!(unit_of(&view("c.car_park", other)).await, ["car_parks"]);
        let among = format!("{JOINED} WHERE s.car_park IN (SELECT car_park FROM car_parks)");
        assert_eq!(unit_of(&view("s.vehicle", &among)).await, ["sessions"]);
    }

    #[tokio::test]
    async fn a_value_is_followed_through_queries_within_and_what_is_computed() {
        let within = "(SELECT DISTINCT upper(v) AS vehicle, car_park, started, paid_pence FROM
            (SELECT vehicle AS v, car_park, started, paid_pence FROM sessions)) s
            JOIN car_parks c ON s.car_park = c.car_park";
        assert_eq!(unit_of(&view("s.vehicle", within)).await, ["sessions"]);
        let grouped = "(SELECT vehicle, car_park, min(started) AS started, sum(paid_pence) AS paid_pence
            FROM sessions GROUP BY vehicle, car_park) s JOIN car_parks c ON s.car_park = c.car_park";
        assert_eq!(unit_of(&view("s.vehicle", grouped)).await, ["sessions"]);
        let both = "(SELECT vehicle, car_park, started, paid_pence FROM sessions UNION ALL
            SELECT ward, car_park, NULL, NULL FROM car_parks) s
            JOIN car_parks c ON s.car_park = c.car_park";
        let expected = ["car_parks", "sessions"];
        assert_eq!(unit_of(&view("s.vehicle", both)).await, expected);
        let computed = view("coalesce(s.vehicle, c.ward)", JOINED);
        assert_eq!(unit_of(&computed).await, expected);
    }

    #[tokio::test]
    async fn what_cannot_be_followed_comes_from_everywhere_and_a_constant_from_nowhere() {
        let beyond = view("(SELECT max(ward) FROM car_parks)", JOINED);
        assert_eq!(unit_of(&beyond).await, ["car_parks", "sessions"]);
        assert!(unit_of(&view("'x'", JOINED)).await.is_empty());
        let view = plan(SESSIONS).await.unwrap();
        assert!(
            origin(&view, &"nobody".parse().unwrap())
                .unwrap()
                .is_empty()
        );
    }
}
