//! Which columns the predicates of a chain make equal, and what follows from it: by what two
//! groups can be joined, and how many rows that gives.

use super::{Chain, Class, Regrouping, Size};
use crate::planner::estimate::{Rows, rows};
use datafusion::common::Column;
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, Operator};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A column and the relation that it is of.
type Place = (usize, Column);

impl Regrouping {
    /// None if a column cannot be told to be of one relation.
    pub(super) fn of(chain: &Chain) -> Result<Option<Self>> {
        let schemas: Vec<_> = chain
            .relations
            .iter()
            .map(|r| Arc::clone(r.schema()))
            .collect();
        let mut work = Self {
            classes: Vec::new(),
            others: Vec::new(),
            schemas,
        };
        let base: Vec<f64> = chain.relations.iter().map(|r| rows(r).base).collect();
        for predicate in &chain.predicates {
            let Some(of) = work.relations_of(predicate) else {
                return Ok(None);
            };
            match work.equal_columns(predicate)? {
                Some((left, right)) => work.unite(left, right, &base),
                None => work.others.push((of, predicate.clone())),
            }
        }
        work.equate_within_relations();
        for filter in &chain.filters {
            let left = work.left_relations(filter);
            if left.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(work))
    }

    fn relation_of(&self, column: &Column) -> Option<usize> {
        let mut of = (0..self.schemas.len())
            .filter(|i| self.schemas.get(*i).is_some_and(|s| s.has_column(column)));
        let found = of.next()?;
        of.next().is_none().then_some(found)
    }

    fn relations_of(&self, expr: &Expr) -> Option<BTreeSet<usize>> {
        expr.column_refs()
            .into_iter()
            .map(|c| self.relation_of(c))
            .collect()
    }

    /// The relations whose columns a semi- or anti-join looks at on its left.
    pub(super) fn left_relations(&self, join: &Join) -> Option<BTreeSet<usize>> {
        let mut of = BTreeSet::new();
        for (left, _) in &join.on {
            of.extend(self.relations_of(left)?);
        }
        if let Some(filter) = &join.filter {
            for column in filter.column_refs() {
                if !join.right.schema().has_column(column) {
                    of.insert(self.relation_of(column)?);
                }
            }
        }
        Some(of)
    }

    fn equal_columns(&self, predicate: &Expr) -> Result<Option<(Place, Place)>> {
        let Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) = predicate
        else {
            return Ok(None);
        };
        let (Expr::Column(l), Expr::Column(r)) = (left.as_ref(), right.as_ref()) else {
            return Ok(None);
        };
        let (Some(i), Some(j)) = (self.relation_of(l), self.relation_of(r)) else {
            return Ok(None);
        };
        let type_of = |i: usize, e: &Expr| {
            self.schemas
                .get(i)
                .map(|s| e.get_type(s.as_ref()))
                .transpose()
        };
        if i == j || type_of(i, left)? != type_of(j, right)? {
            return Ok(None);
        }
        Ok(Some(((i, l.clone()), (j, r.clone()))))
    }

    fn unite(&mut self, left: Place, right: Place, base: &[f64]) {
        let (with, without): (Vec<Class>, Vec<Class>) = self
            .classes
            .drain(..)
            .partition(|c| c.columns.contains(&left) || c.columns.contains(&right));
        self.classes = without;
        let mut columns: Vec<(usize, Column)> = with.into_iter().flat_map(|c| c.columns).collect();
        for column in [left, right] {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let distinct = columns
            .iter()
            .filter_map(|(i, _)| base.get(*i))
            .fold(f64::INFINITY, |a, b| a.min(*b));
        self.classes.push(Class { columns, distinct });
    }

    /// Two columns of one relation that are equal to a third are equal to each other; a join by
    /// one of them would not say so.
    fn equate_within_relations(&mut self) {
        for class in &self.classes {
            let mut first: BTreeMap<usize, &Column> = BTreeMap::new();
            for (relation, column) in &class.columns {
                match first.get(relation) {
                    Some(other) => {
                        let equal = Expr::Column((*other).clone()).eq(Expr::Column(column.clone()));
                        self.others.push((BTreeSet::from([*relation]), equal));
                    }
                    None => {
                        first.insert(*relation, column);
                    }
                }
            }
        }
    }

    /// One equality for each class that both groups have a column of.
    pub(super) fn keys(&self, a: &Size, b: &Size) -> Vec<(Expr, Expr, f64)> {
        let of = |class: &Class, group: &Size| {
            class
                .columns
                .iter()
                .find(|(i, _)| group.members.contains(i))
                .map(|(_, c)| Expr::Column(c.clone()))
        };
        self.classes
            .iter()
            .filter_map(|class| Some((of(class, a)?, of(class, b)?, class.distinct)))
            .collect()
    }

    pub(super) fn connected(&self, a: &Size, b: &Size) -> bool {
        !self.keys(a, b).is_empty()
            || self.others.iter().any(|(of, _)| {
                of.iter().any(|i| a.members.contains(i))
                    && of.iter().any(|i| b.members.contains(i))
                    && of
                        .iter()
                        .all(|i| a.members.contains(i) || b.members.contains(i))
            })
    }

    pub(super) fn rows_of(&self, a: &Size, b: &Size) -> Rows {
        let base = a.rows.base.max(b.rows.base);
        // Of several keys the second and third mostly follow from the first.
        let distinct = self
            .keys(a, b)
            .iter()
            .map(|(_, _, d)| *d)
            .fold(1.0_f64, f64::max);
        Rows {
            given: a.rows.given * b.rows.given / distinct,
            base,
        }
    }

    pub(super) fn joined(&self, a: &Size, b: &Size) -> Size {
        let mut members = a.members.clone();
        members.extend(&b.members);
        Size {
            members,
            rows: self.rows_of(a, b),
        }
    }

    /// The semi- or anti-join in terms of the group's own columns, or of columns that the inner
    /// joins make equal to them.
    pub(super) fn on(&self, filter: &Join, group: &Size) -> Option<Join> {
        let of = self.left_relations(filter)?;
        if of.is_empty() {
            return None;
        }
        if of.is_subset(&group.members) {
            return Some(filter.clone());
        }
        if filter.filter.is_some() {
            return None;
        }
        let mut filter = filter.clone();
        for (left, _) in &mut filter.on {
            let Expr::Column(column) = left else {
                return None;
            };
            let relation = self.relation_of(column)?;
            if group.members.contains(&relation) {
                continue;
            }
            let place = (relation, column.clone());
            let class = self.classes.iter().find(|c| c.columns.contains(&place))?;
            let (_, equal) = class
                .columns
                .iter()
                .find(|(i, _)| group.members.contains(i))?;
            *left = Expr::Column(equal.clone());
        }
        Some(filter)
    }
}
