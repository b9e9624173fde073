//! Sends the keys of a join's small side to the node of its large side.
//!
//! A join builds its small side first; the values of its keys then narrow the fragment of the
//! large side before that is asked for. Keys of one department so reach another's node: this is
//! done only where everything on the small side, and everything that the fragment reads, is an
//! `open` product. The narrowed fragment has a digest and so a grant of its own.

use crate::cut;
use crate::planner::{PlanError, Rows};
use crate::remote::{Fragment, RemoteExec};
use crate::sides::rows;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, DynamicFilterPhysicalExpr, InListExpr, Literal,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Keys that may be sent; a join with more sends none.
pub(crate) const MAX_KEYS: usize = 65_536;
/// Bytes of keys that a join keeps for this.
pub(crate) const MAX_KEY_BYTES: usize = 16 << 20;
/// Fewer rows than this are fetched as they are.
const WORTH: f64 = 20_000.0;
/// Rows that cost as much to fetch as one key costs to send: it is written, read, checked and
/// planned by itself, where rows travel as columns.
const ROWS_PER_KEY: f64 = 64.0;
/// How far guesses may be off before waiting for the keys is not tried. Waiting is cheap: the
/// smaller side comes soon, and whether its keys are sent is decided when they are counted.
const DOUBT: f64 = 32.0;

/// What narrowing a fragment needs once the keys are known.
pub(crate) struct SemiJoin {
    plan: Arc<LogicalPlan>,
    fragment: Arc<Fragment>,
    state: SessionState,
    rows: Rows,
}

impl std::fmt::Debug for SemiJoin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SemiJoin")
            .field("fragment", &self.fragment)
            .finish_non_exhaustive()
    }
}

/// What the keys make of a fragment.
pub(crate) enum Narrowed {
    /// Too many keys, or none that tell anything.
    Unchanged,
    /// The same with the keys as a filter.
    Fragment(Arc<Fragment>),
    /// No key at all: no row can match.
    Empty,
}

/// Whether a filter is one that its producer completes while the query runs.
pub(crate) fn is_dynamic(filter: &Arc<dyn PhysicalExpr>) -> bool {
    filter.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
}

/// Keeps the filters of joins whose keys may travel and pay for the wait, and drops the others.
pub(crate) fn decide(
    plan: Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut builds = HashMap::new();
    plan.apply(|node| {
        if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && all_open(join.left())
        {
            let filters = join.dynamic_expressions_produced();
            let ids = filters.iter().filter_map(|f| f.expression_id());
            builds.extend(ids.map(|id| (id, rows(join.left()))));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let decided = plan.transform_down(|node| {
        let Some(remote) = node.downcast_ref::<RemoteExec>() else {
            return Ok(Transformed::no(node));
        };
        if remote.filters().is_empty() {
            return Ok(Transformed::no(node));
        }
        let part = remote.part();
        let kept: Vec<_> = remote
            .filters()
            .iter()
            .filter(|f| {
                f.expression_id()
                    .and_then(|id| builds.get(&id))
                    .is_some_and(|build| pays(*build, part.rows))
            })
            .map(Arc::clone)
            .collect();
        let semi_join = match &part.plan {
            Some(plan) if !kept.is_empty() => Some(Arc::new(SemiJoin {
                plan: Arc::clone(plan),
                fragment: Arc::clone(&part.fragment),
                state: state.clone(),
                rows: part.rows,
            })),
            _ => None,
        };
        let awaiting = remote.awaiting(if semi_join.is_some() { kept } else { vec![] }, semi_join);
        Ok(Transformed::yes(
            Arc::new(awaiting) as Arc<dyn ExecutionPlan>
        ))
    })?;
    Ok(decided.data)
}

/// Whether waiting for the keys of `build` is likely to save more of `probe` than it costs.
fn pays(build: Rows, probe: Rows) -> bool {
    let distinct = build.base.min(probe.base).max(1.0);
    let kept = (build.given / distinct).min(1.0);
    let saved = probe.given * (1.0 - kept);
    kept <= 0.5 && saved >= WORTH && build.given * ROWS_PER_KEY <= DOUBT * saved
}

fn all_open(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut open = true;
    let walked = plan.apply(|node| {
        if let Some(remote) = node.downcast_ref::<RemoteExec>() {
            open &= remote.part().open;
        }
        // The asker's own tables are no department's business.
        open &= node.downcast_ref::<StreamingTableExec>().is_none();
        Ok(TreeNodeRecursion::Continue)
    });
    open && walked.is_ok()
}

impl SemiJoin {
    /// Waits until the keys are known, and narrows the fragment by them if they are few.
    pub(crate) async fn narrow(&self, filters: &[Arc<dyn PhysicalExpr>]) -> Result<Narrowed> {
        let mut keys = Keys::default();
        for filter in filters {
            let Some(filter) = filter.downcast_ref::<DynamicFilterPhysicalExpr>() else {
                continue;
            };
            filter.wait_complete().await;
            match allowed(&filter.current()?) {
                Allowed::Nothing => return Ok(Narrowed::Empty),
                Allowed::Anything => {}
                Allowed::In(found) => keys.and(found),
            }
        }
        let Some(predicate) = self.predicate(keys) else {
            return Ok(Narrowed::Unchanged);
        };
        let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::clone(&self.plan))?);
        // Too long for a fragment, or of a type that it does not carry: then without.
        Ok(match cut::rows_fragment(&plan, &self.state) {
            Ok(fragment) => Narrowed::Fragment(Arc::new(fragment)),
            Err(PlanError::Internal { source, .. }) => return Err(source),
            Err(_) => Narrowed::Unchanged,
        })
    }

    /// The keys as a predicate over what the fragment returns, if they are worth sending.
    fn predicate(&self, keys: Keys) -> Option<Expr> {
        let columns = self.plan.schema().columns();
        let mut lists: Vec<Expr> = Vec::new();
        for (index, values) in keys.0 {
            #[expect(clippy::cast_precision_loss, reason = "a guess")]
            let worth = values.len() as f64 * ROWS_PER_KEY <= self.rows.given;
            if values.len() > MAX_KEYS || !worth {
                continue;
            }
            let column = Expr::Column(columns.get(index)?.clone());
            let list = values.into_iter().map(|v| Expr::Literal(v, None)).collect();
            lists.push(Expr::InList(InList::new(Box::new(column), list, false)));
        }
        lists.into_iter().reduce(Expr::and)
    }
}

/// For each column, the values that a row must have one of.
#[derive(Default)]
struct Keys(BTreeMap<usize, HashSet<ScalarValue>>);

impl Keys {
    fn and(&mut self, other: Self) {
        for (column, values) in other.0 {
            match self.0.get_mut(&column) {
                Some(mine) => mine.retain(|v| values.contains(v)),
                None => {
                    self.0.insert(column, values);
                }
            }
        }
    }
}

/// What a completed filter lets through, or more: what is not understood lets all through.
enum Allowed {
    Nothing,
    Anything,
    In(Keys),
}

// Invariant: a row that the filter keeps is one that `allowed` keeps.
fn allowed(filter: &Arc<dyn PhysicalExpr>) -> Allowed {
    if let Some(literal) = filter.downcast_ref::<Literal>() {
        return match literal.value() {
            ScalarValue::Boolean(Some(false)) => Allowed::Nothing,
            _ => Allowed::Anything,
        };
    }
    if let Some(both) = filter.downcast_ref::<BinaryExpr>() {
        return match both.op() {
            Operator::And => and(allowed(both.left()), allowed(both.right())),
            Operator::Or => or(allowed(both.left()), allowed(both.right())),
            _ => Allowed::Anything,
        };
    }
    if let Some(case) = filter.downcast_ref::<CaseExpr>() {
        // One branch for each partition of the join; a row goes through one of them.
        let other = match case.else_expr() {
            Some(other) => allowed(other),
            None => Allowed::Nothing,
        };
        return case
            .when_then_expr()
            .iter()
            .fold(other, |so_far, (_, then)| or(so_far, allowed(then)));
    }
    match filter.downcast_ref::<InListExpr>() {
        Some(list) if !list.negated() => in_list(list),
        _ => Allowed::Anything,
    }
}

fn in_list(list: &InListExpr) -> Allowed {
    let values = || {
        list.list()
            .iter()
            .filter_map(|v| v.downcast_ref::<Literal>().map(Literal::value))
    };
    if list
        .list()
        .iter()
        .any(|v| v.downcast_ref::<Literal>().is_none())
    {
        return Allowed::Anything;
    }
    let mut keys = Keys::default();
    if let Some(column) = list.expr().downcast_ref::<Column>() {
        let known = values().filter(|v| !v.is_null()).cloned().collect();
        keys.0.insert(column.index(), known);
        return Allowed::In(keys);
    }
    let Some(tuple) = list.expr().downcast_ref::<ScalarFunctionExpr>() else {
        return Allowed::Anything;
    };
    if tuple.name() != "struct" {
        return Allowed::Anything;
    }
    for (field, arg) in tuple.args().iter().enumerate() {
        let Some(column) = arg.downcast_ref::<Column>() else {
            continue;
        };
        let mut known = HashSet::new();
        for value in values() {
            let ScalarValue::Struct(array) = value else {
                return Allowed::Anything;
            };
            match ScalarValue::try_from_array(array.column(field), 0) {
                Ok(v) if v.is_null() => {}
                Ok(v) => {
                    known.insert(v);
                }
                Err(_) => return Allowed::Anything,
            }
        }
        keys.0.insert(column.index(), known);
    }
    Allowed::In(keys)
}

fn and(left: Allowed, right: Allowed) -> Allowed {
    match (left, right) {
        (Allowed::Nothing, _) | (_, Allowed::Nothing) => Allowed::Nothing,
        (Allowed::Anything, other) | (other, Allowed::Anything) => other,
        (Allowed::In(mut left), Allowed::In(right)) => {
            left.and(right);
            Allowed::In(left)
        }
    }
}

fn or(left: Allowed, right: Allowed) -> Allowed {
    match (left, right) {
        (Allowed::Nothing, other) | (other, Allowed::Nothing) => other,
        (Allowed::Anything, _) | (_, Allowed::Anything) => Allowed::Anything,
        (Allowed::In(left), Allowed::In(mut right)) => {
            let mut keys = Keys::default();
            for (column, mut values) in left.0 {
                if let Some(more) = right.0.remove(&column) {
                    values.extend(more);
                    keys.0.insert(column, values);
                }
            }
            Allowed::In(keys)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_expr::expressions::lit;

    fn keys(of: Allowed) -> BTreeMap<usize, usize> {
        match of {
            Allowed::In(keys) => keys.0.iter().map(|(c, v)| (*c, v.len())).collect(),
            Allowed::Nothing | Allowed::Anything => BTreeMap::new(),
        }
    }

    fn list(column: usize, values: &[i64]) -> Arc<dyn PhysicalExpr> {
        use datafusion::arrow::array::Int64Array;
        use datafusion::arrow::datatypes::{DataType, Field, Schema};
        let fields: Vec<Field> = (0..3)
            .map(|i| Field::new(format!("c{i}"), DataType::Int64, true))
            .collect();
        Arc::new(
            InListExpr::try_new_from_array(
                Arc::new(Column::new(&format!("c{column}"), column)),
                Arc::new(Int64Array::from(values.to_vec())),
                false,
                &Schema::new(fields),
            )
            .unwrap(),
        )
    }

    fn both(
        l: Arc<dyn PhysicalExpr>,
        op: Operator,
        r: Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(l, op, r))
    }

    #[test]
    fn keys_of_two_joins_meet() {
        let filter = both(list(0, &[1, 2, 3]), Operator::And, list(0, &[2, 3, 4]));
        assert_eq!(keys(allowed(&filter)), BTreeMap::from([(0, 2)]));
    }

    #[test]
    fn keys_of_two_partitions_add_up() {
        let filter = both(list(0, &[1, 2]), Operator::Or, list(0, &[2, 5, 5]));
        assert_eq!(keys(allowed(&filter)), BTreeMap::from([(0, 3)]));
    }

    #[test]
    fn a_column_bound_in_one_branch_only_is_free() {
        let filter = both(list(0, &[1, 2]), Operator::Or, list(1, &[7]));
        assert!(keys(allowed(&filter)).is_empty());
        let filter = both(list(0, &[1]), Operator::Or, lit(true));
        assert!(matches!(allowed(&filter), Allowed::Anything));
    }
}
