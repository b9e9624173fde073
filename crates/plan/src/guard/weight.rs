//! What a statement comes to once it is written out: the engine copies the query of a `WITH` to
//! every place that names it, joins tables between commas, and makes a set of keys of every
//! combination that `CUBE` stands for. A few words can stand for more than there is memory.

use super::{StatementError, StatementLimits};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, ObjectName, ObjectNamePart, Query, Select, TableFactor, Visitor,
};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

/// Counts tables and queries, each as often as it is used; stops at the first cap.
pub(super) struct Weight<'a> {
    limits: &'a StatementLimits,
    relations: usize,
    joins: usize,
    open: Vec<Open>,
    // Of two queries of one name the heavier counts, whichever is meant.
    known: HashMap<String, usize>,
}

/// A query that is being visited.
struct Open {
    /// What it is called, if it is part of a `WITH`.
    name: Option<String>,
    /// What was counted before it.
    before: usize,
    /// The queries of its own `WITH` that are still to come: they are visited first, in order.
    pending: VecDeque<String>,
}

type Seen = ControlFlow<StatementError>;

impl<'a> Weight<'a> {
    pub(super) fn new(limits: &'a StatementLimits) -> Self {
        Self {
            limits,
            relations: 0,
            joins: 0,
            open: Vec::new(),
            known: HashMap::new(),
        }
    }

    fn add(&mut self, relations: usize) -> Seen {
        self.relations = self.relations.saturating_add(relations);
        within(
            self.relations,
            self.limits.max_relations,
            "tables and queries, each counted as often as it is used",
        )
    }
}

fn within(n: usize, limit: usize, what: &'static str) -> Seen {
    if n > limit {
        return ControlFlow::Break(StatementError::TooMany { what, limit });
    }
    ControlFlow::Continue(())
}

impl Visitor for Weight<'_> {
    type Break = StatementError;

    fn pre_visit_query(&mut self, query: &Query) -> Seen {
        let name = self.open.last_mut().and_then(|o| o.pending.pop_front());
        let named = query.with.iter().flat_map(|w| &w.cte_tables);
        self.open.push(Open {
            name,
            before: self.relations,
            pending: named
                .map(|c| c.alias.name.value.to_ascii_lowercase())
                .collect(),
        });
        self.add(1)
    }

    fn post_visit_query(&mut self, _: &Query) -> Seen {
        if let Some(Open {
            name: Some(name),
            before,
            ..
        }) = self.open.pop()
        {
            let own = self.relations.saturating_sub(before);
            let known = self.known.entry(name).or_default();
            *known = own.max(*known);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Seen {
        let explicit: usize = select.from.iter().map(|t| t.joins.len()).sum();
        let commas = select.from.len().saturating_sub(1);
        self.joins = self.joins.saturating_add(explicit).saturating_add(commas);
        within(self.joins, self.limits.max_joins, "joins")?;
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            let sets = keys.iter().map(sets).fold(1, usize::saturating_mul);
            within(sets, self.limits.max_grouping_sets, "grouping sets")?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> Seen {
        match table {
            TableFactor::Table { name, .. } => {
                let used = bare(name).and_then(|n| self.known.get(&n).copied());
                self.add(used.unwrap_or(1).max(1))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// A name of one part, as the engine compares it.
fn bare(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(word)] => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// How many grouping sets a key stands for; those of several keys are combined.
fn sets(key: &Expr) -> usize {
    match key {
        Expr::Cube(columns) => u32::try_from(columns.len())
            .ok()
            .and_then(|n| 2_usize.checked_pow(n))
            .unwrap_or(usize::MAX),
        Expr::Rollup(columns) => columns.len().saturating_add(1),
        Expr::GroupingSets(sets) => sets.len().max(1),
        _ => 1,
    }
}
