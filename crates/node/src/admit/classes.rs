//! The class of every column of every relation, inferred bottom-up from the products that are read.
//!
//! For products whose class releases rows. What a plan says of itself counts for nothing: a relation or
//! expression that is not listed here is refused.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, JoinType};
use datafusion::logical_expr::expr::{InSubquery, Sort};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, TableScan, WindowFunctionDefinition,
};
use guildhall_grant::product::Product;
use guildhall_model::{ColumnClass, ProductRef};
use guildhall_plan::profile::product_of;
use std::collections::BTreeMap;

/// How much of a person a column tells, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Colour {
    /// It may leave in a row.
    Free,
    /// It may be grouped and filtered by; it leaves in no row.
    Quasi,
    /// It may be counted; nothing else.
    Identifier,
    /// It may not be touched.
    Secret,
}

impl From<ColumnClass> for Colour {
    fn from(class: ColumnClass) -> Self {
        match class {
            // Bounds of a measure are for cells; a product that releases rows releases its values.
            ColumnClass::Open | ColumnClass::Measure => Self::Free,
            ColumnClass::Quasi => Self::Quasi,
            ColumnClass::Identifier => Self::Identifier,
            ColumnClass::Secret => Self::Secret,
        }
    }
}

impl Colour {
    fn word(self) -> &'static str {
        match self {
            Self::Free => "open",
            Self::Quasi => "quasi",
            Self::Identifier => "identifier",
            Self::Secret => "secret",
        }
    }
}

/// Why rows of a plan may not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClassError {
    #[error("{what} is no part of a question over rows")]
    Unknown { what: String },
    #[error("a column of class `secret` may not be read")]
    Secret,
    #[error("a column of class `identifier` may be counted, but not {used}")]
    Identifier { used: &'static str },
    #[error("column {at} of the answer is `{class}`, which leaves in no row")]
    Output { at: usize, class: &'static str },
}

impl From<DataFusionError> for ClassError {
    fn from(_: DataFusionError) -> Self {
        Self::Unknown {
            what: "a plan that cannot be followed".to_owned(),
        }
    }
}

/// The products that a plan may read.
pub(crate) type Known<'a> = BTreeMap<ProductRef, &'a Product>;

/// Checks that every column of the answer may leave in a row.
pub(crate) fn check_rows(plan: &LogicalPlan, products: &Known<'_>) -> Result<(), ClassError> {
    let colours = Infer(products).relation(plan)?;
    match colours.iter().position(|c| *c != Colour::Free) {
        None => Ok(()),
        Some(at) => Err(ClassError::Output {
            at: at + 1,
            class: colours[at].word(),
        }),
    }
}

struct Infer<'a>(&'a Known<'a>);

impl Infer<'_> {
    fn relation(&self, plan: &LogicalPlan) -> Result<Vec<Colour>, ClassError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(r) => Ok(vec![Colour::Free; r.schema.fields().len()]),
            LogicalPlan::Values(v) => Ok(vec![Colour::Free; v.schema.fields().len()]),
            LogicalPlan::SubqueryAlias(a) => self.relation(&a.input),
            LogicalPlan::Limit(l) => self.relation(&l.input),
            LogicalPlan::Projection(p) => {
                let input = self.input(&p.input)?;
                p.expr.iter().map(|e| self.value(e, &input)).collect()
            }
            LogicalPlan::Filter(f) => {
                let input = self.input(&f.input)?;
                self.predicate(&f.predicate, &input)?;
                Ok(input.colours)
            }
            LogicalPlan::Sort(s) => {
                let input = self.input(&s.input)?;
                s.expr.iter().try_for_each(|e| self.ordering(e, &input))?;
                Ok(input.colours)
            }
            LogicalPlan::Distinct(Distinct::All(inner)) => Ok(grouped(self.relation(inner)?)),
            LogicalPlan::Aggregate(a) => self.aggregate(a),
            LogicalPlan::Window(w) => {
                let input = self.input(&w.input)?;
                let mut colours = input.colours.clone();
                for e in &w.window_expr {
                    colours.push(self.value(e, &input)?);
                }
                Ok(colours)
            }
            LogicalPlan::Union(u) => self.union(&u.inputs),
            LogicalPlan::Join(j) => self.join(j),
            _ => Err(ClassError::Unknown {
                what: "a relation of this kind".to_owned(),
            }),
        }
    }

    fn input<'p>(&self, plan: &'p LogicalPlan) -> Result<Input<'p>, ClassError> {
        let colours = self.relation(plan)?;
        Input::new(plan.schema(), colours)
    }

    fn scan(&self, scan: &TableScan) -> Result<Vec<Colour>, ClassError> {
        let product = product_of(&scan.table_name)
            .ok()
            .and_then(|p| self.0.get(&p));
        let Some(product) = product else {
            return Err(ClassError::Unknown {
                what: "a table that is no product here".to_owned(),
            });
        };
        let colour = |name: &str| match product.column(name).map(|c| Colour::from(c.class)) {
            None => Err(ClassError::Unknown {
                what: "a column that its product does not have".to_owned(),
            }),
            Some(Colour::Secret) => Err(ClassError::Secret),
            Some(colour) => Ok(colour),
        };
        for filter in &scan.filters {
            if has_subquery(filter)? {
                return Err(ClassError::Unknown {
                    what: "a sub-query in a scan".to_owned(),
                });
            }
            for column in filter.column_refs() {
                if colour(&column.name)? == Colour::Identifier {
                    return Err(ClassError::Identifier {
                        used: "filtered by",
                    });
                }
            }
        }
        scan.projected_schema
            .fields()
            .iter()
            .map(|f| colour(f.name()))
            .collect()
    }

    fn aggregate(&self, a: &Aggregate) -> Result<Vec<Colour>, ClassError> {
        let input = self.input(&a.input)?;
        let keys = a
            .group_expr
            .iter()
            .map(|e| self.value(e, &input))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = grouped(keys);
        // A grouping set gives more columns than it has expressions: each counts as the worst of them.
        let outputs = a.schema.fields().len().saturating_sub(a.aggr_expr.len());
        let mut colours = match keys.len() == outputs {
            true => keys,
            false => vec![keys.into_iter().max().unwrap_or(Colour::Free); outputs],
        };
        for e in &a.aggr_expr {
            colours.push(self.value(e, &input)?);
        }
        Ok(colours)
    }

    fn union(&self, inputs: &[std::sync::Arc<LogicalPlan>]) -> Result<Vec<Colour>, ClassError> {
        let mut all: Option<Vec<Colour>> = None;
        for input in inputs {
            let colours = self.relation(input)?;
            all = Some(match all {
                None => colours,
                Some(before) if before.len() == colours.len() => before
                    .into_iter()
                    .zip(colours)
                    .map(|(a, b)| a.max(b))
                    .collect(),
                Some(_) => {
                    return Err(ClassError::Unknown {
                        what: "a union of unlike relations".to_owned(),
                    });
                }
            });
        }
        all.ok_or_else(|| ClassError::Unknown {
            what: "a union of nothing".to_owned(),
        })
    }

    fn join(&self, j: &Join) -> Result<Vec<Colour>, ClassError> {
        let (left, right) = (self.input(&j.left)?, self.input(&j.right)?);
        let both = Input::new_joined(&left, &right)?;
        let refuse = Err(ClassError::Identifier {
            used: "joined on outside a clean room",
        });
        for (l, r) in &j.on {
            if self.value(l, &left)? >= Colour::Identifier
                || self.value(r, &right)? >= Colour::Identifier
            {
                return refuse;
            }
        }
        if let Some(filter) = &j.filter {
            self.predicate(filter, &both)?;
        }
        Ok(match j.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => both.colours,
            JoinType::LeftSemi | JoinType::LeftAnti => left.colours,
            JoinType::RightSemi | JoinType::RightAnti => right.colours,
            JoinType::LeftMark => [left.colours, vec![Colour::Free]].concat(),
            JoinType::RightMark => [right.colours, vec![Colour::Free]].concat(),
        })
    }

    /// The colour of an expression's value.
    fn value(&self, e: &Expr, input: &Input<'_>) -> Result<Colour, ClassError> {
        match e {
            Expr::Alias(a) => self.value(&a.expr, input),
            Expr::Column(c) => {
                let at = input.schema.index_of_column(c)?;
                input
                    .colours
                    .get(at)
                    .copied()
                    .ok_or_else(|| ClassError::Unknown {
                        what: "a column out of range".to_owned(),
                    })
            }
            // Whether there is a value at all: what a count would say too.
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                self.value(inner, input)?;
                Ok(Colour::Free)
            }
            Expr::AggregateFunction(f) => {
                if let Some(filter) = &f.params.filter {
                    self.predicate(filter, input)?;
                }
                f.params
                    .order_by
                    .iter()
                    .try_for_each(|s| self.ordering(s, input))?;
                let args = self.worst(&f.params.args, input)?;
                Ok(summarised(f.func.name(), args))
            }
            Expr::WindowFunction(w) => {
                let p = &w.params;
                for e in &p.partition_by {
                    self.predicate(e, input)?;
                }
                p.order_by
                    .iter()
                    .try_for_each(|s| self.ordering(s, input))?;
                if let Some(filter) = &p.filter {
                    self.predicate(filter, input)?;
                }
                let args = self.worst(&p.args, input)?;
                Ok(match &w.fun {
                    WindowFunctionDefinition::AggregateUDF(f) => summarised(f.name(), args),
                    WindowFunctionDefinition::WindowUDF(_) => args,
                })
            }
            Expr::ScalarSubquery(s) => {
                let colours = self.relation(&s.subquery)?;
                Ok(colours.into_iter().max().unwrap_or(Colour::Free))
            }
            Expr::Exists(x) => self.relation(&x.subquery.subquery).map(|_| Colour::Free),
            Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
                let listed = self
                    .relation(&subquery.subquery)?
                    .into_iter()
                    .max()
                    .unwrap_or(Colour::Free);
                Ok(self.value(expr, input)?.max(listed))
            }
            Expr::GroupingSet(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::ScalarFunction(_)
            | Expr::InList(_) => {
                let mut parts = Vec::new();
                e.apply_children(|child| {
                    parts.push(child.clone());
                    Ok(TreeNodeRecursion::Continue)
                })?;
                self.worst(&parts, input)
            }
            other => Err(ClassError::Unknown {
                what: format!("the expression `{}`", other.variant_name()),
            }),
        }
    }

    fn worst(&self, parts: &[Expr], input: &Input<'_>) -> Result<Colour, ClassError> {
        parts.iter().try_fold(
            Colour::Free,
            |worst, e| Ok(worst.max(self.value(e, input)?)),
        )
    }

    fn predicate(&self, e: &Expr, input: &Input<'_>) -> Result<(), ClassError> {
        match self.value(e, input)? {
            Colour::Free | Colour::Quasi => Ok(()),
            Colour::Identifier | Colour::Secret => Err(ClassError::Identifier {
                used: "filtered or partitioned by",
            }),
        }
    }

    fn ordering(&self, s: &Sort, input: &Input<'_>) -> Result<(), ClassError> {
        match self.value(&s.expr, input)? {
            Colour::Free | Colour::Quasi => Ok(()),
            Colour::Identifier | Colour::Secret => {
                Err(ClassError::Identifier { used: "sorted by" })
            }
        }
    }
}

/// A relation's columns and their colours.
struct Input<'p> {
    schema: std::borrow::Cow<'p, DFSchema>,
    colours: Vec<Colour>,
}

impl<'p> Input<'p> {
    fn new(schema: &'p DFSchema, colours: Vec<Colour>) -> Result<Self, ClassError> {
        Self::of(std::borrow::Cow::Borrowed(schema), colours)
    }

    fn new_joined(left: &Self, right: &Self) -> Result<Self, ClassError> {
        let schema = left.schema.join(&right.schema)?;
        let colours = [left.colours.as_slice(), right.colours.as_slice()].concat();
        Self::of(std::borrow::Cow::Owned(schema), colours)
    }

    fn of(
        schema: std::borrow::Cow<'p, DFSchema>,
        colours: Vec<Colour>,
    ) -> Result<Self, ClassError> {
        if schema.fields().len() != colours.len() {
            return Err(ClassError::Unknown {
                what: "a relation of another width".to_owned(),
            });
        }
        Ok(Self { schema, colours })
    }
}

/// What is grouped by leaves as a group's name. An identifier stays one.
fn grouped(colours: Vec<Colour>) -> Vec<Colour> {
    colours
        .into_iter()
        .map(|c| if c == Colour::Quasi { Colour::Free } else { c })
        .collect()
}

/// What an aggregate's value tells, given what its arguments do.
fn summarised(function: &str, args: Colour) -> Colour {
    match function {
        "count" | "approx_distinct" => Colour::Free,
        // These hand back a value that stood in some row.
        "min"
        | "max"
        | "first_value"
        | "last_value"
        | "nth_value"
        | "any_value"
        | "array_agg"
        | "string_agg"
        | "median"
        | "percentile_cont"
        | "approx_percentile_cont"
        | "approx_percentile_cont_with_weight"
        | "approx_median" => args,
        _ if args == Colour::Quasi => Colour::Free,
        _ => args,
    }
}

fn has_subquery(e: &Expr) -> Result<bool, DataFusionError> {
    e.exists(|e| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)
        ))
    })
}
